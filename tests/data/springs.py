"""A set of configurations about which everything is known."""

import numpy as np

from geonorm.data import Configurations

#: Energy of an atom by its charge in eV, stiffness of a spring in eV/Å² and its length at rest in Å.
ATOMS, STIFFNESS, LENGTH = {1: -30.0, 8: -70.0}, 6.0, 1.3


def springs() -> Configurations:
    """Molecules of two to four atoms with a spring between every two atoms, five frames for each of eight."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0], [1.3, 0, 0], [0.65, 1.1, 0], [0.65, 0.4, 1.1]])
    kinds = [[8, 1, 1], [1, 1], [8, 8, 1, 1], [8, 1]]
    charges = [np.array(kinds[trajectory % 4]) for trajectory in range(8) for _ in range(5)]
    places = [corners[: len(z)] + rng.normal(scale=0.12, size=(len(z), 3)) for z in charges]
    energies, forces = zip(*(_labels(z, place) for z, place in zip(charges, places, strict=True)), strict=True)
    return Configurations(
        sizes=np.array([len(z) for z in charges]),
        z=np.concatenate(charges),
        positions=np.concatenate(places),
        energies=np.array(energies),
        forces=np.concatenate(forces),
        trajectory=np.repeat(np.arange(8), 5),
        name="springs",
    )


def _labels(z: np.ndarray, place: np.ndarray) -> tuple[float, np.ndarray]:
    energy, force = sum(ATOMS[charge] for charge in z.tolist()), np.zeros_like(place)
    for one in range(len(z)):
        for two in range(one):
            apart = place[one] - place[two]
            length = np.linalg.norm(apart)
            energy += STIFFNESS / 2 * (length - LENGTH) ** 2
            pull = STIFFNESS * (length - LENGTH) * apart / length
            force[one] -= pull
            force[two] += pull
    return energy, force
