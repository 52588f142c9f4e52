"""The training loss of an energy-and-force network, and the two errors that are reported."""

from __future__ import annotations

from torch import Tensor

from geonorm.models.allegro import Allegro


def errors(network: Allegro, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return the loss and the two mean squared errors of a batch.

    .. math::
        \mathcal L = \frac{1}{B}\sum_b \Big(\frac{\hat E_b - E_b}{n_b}\Big)^2
        + \frac{1}{3\sum_b n_b}\sum_{b,x} \lVert \hat F_{bx} - F_{bx} \rVert^2

    Args:
        network: The network.
        batch: From :func:`geonorm.models.allegro.collate`.

    Returns:
        The loss, the mean squared error of total energies, and that of force components.
    """
    energies, forces = network(batch)
    difference = energies - batch["total_energy"].squeeze(-1)
    force_mse = (forces - batch["forces"]).square().mean()
    loss = (difference / batch["num_atoms"]).square().mean() + force_mse
    return loss, difference.square().mean(), force_mse
