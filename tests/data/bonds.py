"""A set of couplings about which everything is known."""

import numpy as np

from geonorm.data import Couplings


def stretched_bonds() -> Couplings:
    """Molecules of CH, NH and HH bonds with 100 Hz per Å of the bond, contributions of both signs."""
    rng = np.random.default_rng(0)
    kinds = [((6, 1), 0), ((7, 1), 1), ((1, 1), 2), ((6, 1, 1), 0)]
    chosen = [kinds[number % 4] for number in range(24)]
    z = [np.array(charges) for charges, _ in chosen]
    lengths = rng.uniform(0.8, 1.4, 24)
    positions = [
        np.array([[0, 0, 0], [length, 0, 0], [0, 1.1, 0]])[: len(c)] for c, length in zip(z, lengths, strict=True)
    ]
    parts = np.array([0.8, -0.5, 0.6, 0.1])
    return Couplings(
        sizes=np.array([len(c) for c in z]),
        z=np.concatenate(z),
        positions=np.concatenate(positions),
        molecule=np.arange(24),
        pairs=np.tile([0, 1], (24, 1)),
        types=np.array([kind for _, kind in chosen]),
        contributions=100 * lengths[:, None] * parts,
        names=np.array([f"m{number}" for number in range(24)]),
        name="bonds",
    )
