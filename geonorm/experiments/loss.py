"""The errors of an energy-and-force network: the training loss and the two that are reported."""

from __future__ import annotations

from torch import Tensor

from geonorm.models.allegro import Allegro


def errors(network: Allegro, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, int]]:
    r"""Return the loss and the two mean squared errors of a batch.

    .. math::
        \mathcal L = \frac{1}{B}\sum_b \Big(\frac{\hat E_b - E_b}{n_b}\Big)^2
        + \frac{1}{3\sum_b n_b}\sum_{b,x} \lVert \hat F_{bx} - F_{bx} \rVert^2

    Args:
        network: The network.
        batch: From :func:`geonorm.models.allegro.collate`, molecules of one size.

    Returns:
        ``loss``, ``energy_mse`` (total energies) and ``force_mse`` (components), each with the number of molecules.
    """
    energies, forces = network(batch)
    difference = energies - batch["total_energy"].squeeze(-1)
    force_mse = (forces - batch["forces"]).square().mean()
    loss = (difference / batch["num_atoms"]).square().mean() + force_mse
    found = {"loss": loss, "energy_mse": difference.square().mean(), "force_mse": force_mse}
    # All molecules are equally large: each mean weighs as much as there are molecules.
    return {name: (value, len(energies)) for name, value in found.items()}
