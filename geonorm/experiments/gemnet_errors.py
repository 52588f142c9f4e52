"""The errors of a network of energies and forces, in the mode it is in and live; and how long its steps take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from geonorm.models.gemnet import GemNet
from geonorm.models.measured import unchanged_buffers
from geonorm.processes import global_sum, several_processes

#: ``z``, ``positions``, ``batch``, ``energies`` and ``forces``, from :meth:`geonorm.data.Configurations.batch`.
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | list[Tensor]
#: The mean of an error over a batch, and over how many things it is a mean.
Errors = dict[str, tuple[Tensor, int]]
#: The reported errors: of total energies; of force vectors (norm of the difference) and of their components.
QUANTITIES = ("energy_mae", "energy_mse", "force_mae", "force_mse")


def errors(network: GemNet, batch: Batch, energy_weight: float = 0.001) -> Errors:
    r"""Return the loss and the reported errors of a batch, and in evaluation mode those that are live.

    $$ \mathcal L=\frac wM\sum_m\lvert\hat E_m-E_m\rvert+\frac{1-w}N\sum_a\lVert\hat F_a-F_a\rVert_2 $$

    over the M molecules and N atoms of the batch; with several processes, of the batches of all.

    Args:
        network: The network; its mode decides what is returned.
        batch: From :meth:`geonorm.data.Configurations.batch`.
        energy_weight: The weight w of the energy.

    Returns:
        ``loss``, ``energy_mae``, ``energy_mse``, ``force_mae`` and ``force_mse``, each with the number of molecules or
        atoms; in evaluation mode also ``live_…`` of each, as the network predicts in training mode.
    """
    found = force_errors(network, batch, energy_weight)
    if network.training:
        return found
    live = found
    if network.normalization.factors not in ("fitted", "ones"):
        # A layer stands in the place of the factors; it may take its statistics from the batch.
        with torch.no_grad(), in_training_mode(network):
            live = force_errors(network, batch, energy_weight)
    return found | {f"live_{name}": mean for name, mean in live.items()}


class StepClock:
    """Errors that also tell how many seconds training steps take, from the start of one to the start of the next.

    The step before an evaluation has no next one and does not count, nor does the evaluation.

    Args:
        errors: Called as ``errors(network, batch, energy_weight)``.
        energy_weight: The weight of the energy.
    """

    def __init__(self, errors: Callable[[GemNet, Batch, float], Errors], energy_weight: float) -> None:
        self.errors, self.energy_weight, self.last = errors, energy_weight, None

    def __call__(self, network: GemNet, batch: Batch) -> Errors:
        """Return the errors of a batch, in training mode with ``step_seconds``."""
        if not network.training:
            self.last = None
            return self.errors(network, batch, self.energy_weight)
        now = time.perf_counter()
        seconds, steps = (0.0, 0) if self.last is None else (now - self.last, 1)
        self.last = now
        duration = torch.tensor(seconds, device=batch[0].device)
        return self.errors(network, batch, self.energy_weight) | {"step_seconds": (duration, steps)}


@contextmanager
def in_training_mode(network: nn.Module) -> Iterator[None]:
    """Let the network predict as in training, and leave no trace: running statistics stay what they were.

    Args:
        network: The network, in any mode.
    """
    mode = network.training
    try:
        with unchanged_buffers(network.train()):
            yield
    finally:
        network.train(mode)


def force_errors(network: nn.Module, batch: Batch, energy_weight: float) -> Errors:
    """Return the loss and the reported errors of a batch, in the mode that a network is in.

    Args:
        network: Of energies and forces.
        batch: From :meth:`geonorm.data.Configurations.batch`.
        energy_weight: The weight of the energy in the loss.

    Returns:
        ``loss`` and :data:`QUANTITIES`, each with the number of molecules or atoms.
    """
    z, positions, index, energies, forces = batch
    molecules, atoms = len(energies), len(z)
    predicted, acting = network(z, positions, index, molecules)
    energy, force = predicted - energies, acting - forces
    energy_mae, force_mae = energy.abs().mean(), torch.linalg.vector_norm(force, dim=1).mean()
    # A loss weighs as much as there are molecules; of forces each atom is to weigh the same in all processes.
    weight = _atoms_per_molecule_here(atoms, molecules, z.device) if several_processes() else 1.0
    return {
        "loss": (energy_weight * energy_mae + (1 - energy_weight) * weight * force_mae, molecules),
        "energy_mae": (energy_mae, molecules),
        "energy_mse": (energy.square().mean(), molecules),
        "force_mae": (force_mae, atoms),
        "force_mse": (force.square().mean(), atoms),
    }


def _atoms_per_molecule_here(atoms: int, molecules: int, device: torch.device) -> Tensor:
    """The atoms per molecule of this process, over those of all processes together."""
    all_atoms, all_molecules = global_sum(torch.tensor([atoms, molecules], dtype=torch.float32, device=device))
    return (atoms / molecules) * all_molecules / all_atoms
