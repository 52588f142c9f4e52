"""DiffGroupNorm: equal to PyTorch Geometric, with less memory and without its rounding errors, at any size of batch."""

import pytest
import torch
from layers.peers import Peer, assert_equal, assert_formula, difference, features, ragged_batch, randomize, refused
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.nn import norm as pyg

import geonorm as gn
from geonorm.layers import soft_groups
from geonorm.layers.fields import Vectors

CHANNELS, NODES = 6, 13

#: PyTorch Geometric holds the groups in one BatchNorm1d of groups × channels columns.
NAMES = {
    "lin.weight": "assign",
    **{f"norm.{name}": name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")},
}


@pytest.fixture(autouse=True, params=["as a small batch", "as a large batch"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches are written out, large ones are products of matrices: the tests hold for both."""
    if request.param == "as a large batch":
        monkeypatch.setattr(soft_groups, "WRITTEN_OUT", 0)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_diff_group_norm_is_the_one_of_pyg(groups: int, affine: bool, momentum: float | None) -> None:
    options = {"lamda": 0.5, "momentum": momentum, "affine": affine}
    peer = Peer(gn.DiffGroupNorm(CHANNELS, groups, **options), pyg.DiffGroupNorm(CHANNELS, groups, **options), NAMES)
    for step in range(3):
        peer.train().check(features(NODES + step, CHANNELS), None, None, theirs=())
        peer.check_buffers()
    peer.train(False).check(features(NODES, CHANNELS), ragged_batch((4, 9)), 2, theirs=())
    peer.check_buffers()


def test_diff_group_norm_without_running_statistics_is_the_one_of_pyg() -> None:
    options = {"lamda": 0.5, "track_running_stats": False}
    peer = Peer(gn.DiffGroupNorm(CHANNELS, 3, **options), pyg.DiffGroupNorm(CHANNELS, 3, **options), NAMES)
    for mode in (True, False):
        peer.train(mode).check(features(NODES, CHANNELS), None, None, theirs=())


def test_a_single_node_has_a_defined_result_where_pyg_refuses_it() -> None:
    layer = randomize(gn.DiffGroupNorm(CHANNELS, 3, dtype=torch.float64))
    x = features(1, CHANNELS)
    assert_equal(layer(x), x + 0.01 * layer.bias.sum(0))
    with pytest.raises(ValueError, match="more than 1 value"):
        pyg.DiffGroupNorm(CHANNELS, 3)(x.float())


def test_constant_features_get_the_sum_of_the_biases() -> None:
    layer = randomize(gn.DiffGroupNorm(CHANNELS, 3, lamda=1.0, dtype=torch.float64))
    for value in (0.0, 1.7, -3e4):
        x = torch.full((NODES, CHANNELS), value, dtype=torch.float64)
        assert_equal(layer(x), x + layer.bias.sum(0), f"{value}")


def test_groups_of_equal_share_are_batch_normalizations_of_a_part() -> None:
    layer = gn.DiffGroupNorm(CHANNELS, 4, lamda=1.0, eps=1e-14, dtype=torch.float64)
    nn.init.zeros_(layer.assign)
    x = features(NODES, CHANNELS)
    standardized = (x - x.mean(0)) / x.std(0, unbiased=False)
    assert_equal(layer(x), x + 4 * standardized, tolerance=1e-11)


def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """The layer with all its groups written out, for λ = 1."""
    parts = torch.softmax(x @ given["assign"].T, 1)[:, :, None] * x[:, None]
    centred = parts - parts.mean(0)
    normalized = centred / (centred.square().mean(0) + 1e-5).sqrt() * given["weight"] + given["bias"]
    return x + normalized.sum(1)


def test_diff_group_norm_computes_its_formula() -> None:
    layer = randomize(gn.DiffGroupNorm(CHANNELS, 4, lamda=1.0, dtype=torch.float64))
    assert_formula(layer, formula, features(NODES, CHANNELS), ragged_batch((4, 9)), 2)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_statistics_in_float32_are_exact_to_rounding_also_far_from_zero(offset: float) -> None:
    layer = randomize(gn.DiffGroupNorm(CHANNELS, 4, lamda=1.0, track_running_stats=False))
    with torch.no_grad():
        layer.assign.div_(1 + offset)  # keep the shares of the groups from saturating
    x = features(500, CHANNELS, torch.float32) + offset
    exact = formula(x.double(), {name: value.double() for name, value in layer.named_parameters()})
    # The result is x plus something of order one: its last digit is that of x.
    assert (layer(x).double() - exact).abs().max() < 1e-5 * (1 + offset)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    entries = 0

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        """Run the operation and look at what it returns."""
        result = operator(*arguments, **(keywords or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.entries = max(self.entries, value.numel())
        return result


def test_no_tensor_of_nodes_by_groups_by_channels_is_made_of_a_large_batch() -> None:
    nodes, groups, channels = 1000, 7, 20

    def largest(layer: nn.Module) -> int:
        x = torch.randn(nodes, channels, requires_grad=True)
        with Largest() as seen:
            (gradient,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
            gradient.square().sum().backward()
        return seen.entries

    assert largest(gn.DiffGroupNorm(channels, groups)) == nodes * channels
    assert largest(pyg.DiffGroupNorm(channels, groups)) == nodes * groups * channels


def test_automatic_half_precision_does_not_reach_the_statistics() -> None:
    layer, x = gn.DiffGroupNorm(CHANNELS, 4, lamda=1.0), features(NODES, CHANNELS, torch.float32)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), expected)


def test_reset_forgets_what_was_learned() -> None:
    layer = randomize(gn.DiffGroupNorm(CHANNELS, 4))
    before = layer.assign.clone()
    layer(torch.randn(NODES, CHANNELS) + 5)
    layer.reset_parameters()
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    assert (layer.running_mean == 0).all()
    assert (layer.running_var == 1).all()
    assert layer.num_batches_tracked == 0
    assert difference(layer.assign, before) > 0
    assert layer.assign.abs().max() <= CHANNELS**-0.5


def test_fewer_than_one_group_is_refused() -> None:
    with refused("groups is 0, expected at least one soft group"):
        gn.DiffGroupNorm(CHANNELS, 0)


@pytest.mark.parametrize("given", ["4x0e+2x1o", Vectors(4)], ids=str)
def test_features_that_rotate_are_refused_because_the_groups_would_turn_with_them(given: str | Vectors) -> None:
    with refused("expected a number of scalar channels: .*EquivariantBatchNorm is a batch normalization for features"):
        gn.DiffGroupNorm(given, 2)
    x = features(NODES, 6)
    layer = randomize(gn.DiffGroupNorm(6, 2, dtype=torch.float64))
    turn = torch.block_diag(*[torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q] * 2)
    assert difference(layer(x @ turn.T), layer(x) @ turn.T) > 1e-3
