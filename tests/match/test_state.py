"""A layer is also what its parameters will make of it."""

import torch
from torch import Tensor, nn

import geonorm as gn
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.state import states


class ScaledAndMoved(nn.Module):
    """Vectors times a gain plus a bias: equivariant as long as the bias is zero."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean().sqrt() + self.bias


def test_a_bias_of_vectors_is_found_in_any_shape() -> None:
    for shape in ((4, 3), (1, 4, 3), (3,)):
        report = gn.check(ScaledAndMoved(shape), gn.Vectors(4), task=gn.tasks.FORCES)
        broken = {state.name: "rotation" in state.broken(report.task) for state in report.states}
        assert broken == {"training": False, "training after updates": True}, shape


def test_weights_move_in_proportion_to_their_size() -> None:
    sizes = (4, 5)

    def draw(seed: int) -> tuple[Tensor, Tensor, int]:
        return generic_features(gn.Standardize(3).fields, sizes, seed), batch_of(sizes), len(sizes)

    layer = nn.Linear(3, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.mul_(1e-6)
    before, after = states(layer, draw).values()
    moved = (after(*draw(0)) - before(*draw(0))).norm() / before(*draw(0)).norm()
    assert 0.01 < moved < 3
