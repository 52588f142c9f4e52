"""RMSNorm: torch's layer on scalars, and on irreps the same with a gain that belongs to a field."""

import pytest
import torch
from e3nn import o3
from layers.modern.irreps import BATCH, IRREPS, NODES, action, assert_same_to_second_order, features, second_order
from layers.peers import assert_equal, difference, randomize
from torch import Tensor, nn

import geonorm as gn
from geonorm.layers.fields import Vectors


@pytest.mark.parametrize("eps", [1e-6, 1e-3, torch.finfo(torch.float64).eps])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_of_a_number_of_channels_it_is_the_layer_of_torch(eps: float, affine: bool):
    ours = gn.RMSNorm(6, eps=eps, affine=affine, dtype=torch.float64)
    theirs = randomize(nn.RMSNorm(6, eps=eps, elementwise_affine=affine, dtype=torch.float64))
    ours.load_state_dict(theirs.state_dict())
    x = features("6x0e")
    learned = dict(theirs.named_parameters())
    assert ours.state_dict().keys() == theirs.state_dict().keys()

    def call(layer: nn.Module):
        return lambda x, *values: torch.func.functional_call(layer, dict(zip(learned, values, strict=True)), (x,))

    assert_same_to_second_order(call(ours), call(theirs), {"x": x, **learned})
    assert_equal(ours(x.view(1, NODES, 6)), theirs(x.view(1, NODES, 6)))


def gain_of_columns(irreps: str, gain: Tensor) -> Tensor:
    """The gain of a field, once for each of its components."""
    numbers = torch.tensor([irrep.dim for mul, irrep in o3.Irreps(irreps) for _ in range(mul)])
    return gain.repeat_interleave(numbers)


def test_on_irreps_it_is_the_layer_of_torch_with_a_gain_shared_by_the_components():
    ours = randomize(gn.RMSNorm(IRREPS, dtype=torch.float64))
    x = features(IRREPS)

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], gain_of_columns(IRREPS, weight), eps=1e-6)

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(ours, {"weight": weight}, (x,))

    assert_same_to_second_order(call, theirs, {"x": x, "weight": ours.weight})
    assert ours.weight.shape == (o3.Irreps(IRREPS).num_irreps,)
    assert ours.bias is None


def test_every_node_may_be_rotated_by_itself_and_with_a_gain_for_every_column_not_even_all_together():
    x = features("4x1o")
    ours = randomize(gn.RMSNorm(Vectors(4), dtype=torch.float64))
    theirs = randomize(nn.RMSNorm(12, dtype=torch.float64))
    plain = nn.RMSNorm(12, elementwise_affine=False)
    for per in ("batch", "sample", "node"):
        turn = action("4x1o", per, BATCH)
        assert_equal(ours(turn(x)), turn(ours(x)))
        assert_equal(plain(turn(x)), turn(plain(x)))
        assert difference(theirs(turn(x)), turn(theirs(x))) > 0.1


def test_only_the_common_scale_of_a_node_is_lost():
    layer = randomize(gn.RMSNorm(IRREPS, eps=0.0, dtype=torch.float64))
    x, scale = features(IRREPS), torch.rand(NODES, 1, dtype=torch.float64) + 0.1
    assert_equal(layer(scale * x), layer(x))
    jacobian = torch.func.jacrev(layer)(x[:1]).reshape(x.shape[1], -1)
    assert torch.linalg.matrix_rank(jacobian) == x.shape[1] - 1


def test_the_mean_square_of_a_row_is_one_however_the_columns_belong_to_types():
    y = gn.RMSNorm(IRREPS, eps=1e-14, dtype=torch.float64)(features(IRREPS))
    assert_equal(y.square().mean(1), torch.ones(NODES))


def test_a_row_of_zeros_has_derivatives_to_second_order():
    layer = gn.RMSNorm(IRREPS, dtype=torch.float64)
    found = second_order(layer, {"x": torch.zeros(2, layer.fields.dim, dtype=torch.float64)})
    assert all(value.isfinite().all() for value in found.values())
