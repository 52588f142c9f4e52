"""TypedBatchNorm: a batch normalization for every type, with the gradient of its statistics."""

import copy

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, assert_formula, difference, features, gradients, randomize, refused
from torch import Tensor
from torch_geometric.nn import HeteroBatchNorm

import geonorm as gn
from geonorm.layers.fields import Vectors

CHANNELS, KINDS = 4, 3

#: Of three types the second is a single node.
TYPES = torch.tensor([0, 0, 1, 2, 0, 2, 2, 2, 0, 2])
NODES = len(TYPES)


def made(channels: object = CHANNELS, number: int = KINDS, **options) -> gn.TypedBatchNorm:
    """A layer with random parameters in float64."""
    return randomize(gn.TypedBatchNorm(channels, number, dtype=torch.float64, **options))


def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Type by type."""
    y = torch.zeros_like(x)
    for kind in range(KINDS):
        mine = (kind == TYPES).nonzero().flatten()
        part = x[mine]
        normal = (part - part.mean(0)) / (part.var(0, unbiased=False) + 1e-5).sqrt()
        y = y.index_copy(0, mine, normal * given["weight"][kind] + given["bias"][kind])
    return y


def test_it_computes_its_formula() -> None:
    assert_formula(made(track_running_stats=False), formula, features(NODES, CHANNELS), TYPES)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_every_type_has_a_batch_norm_of_torch(momentum: float | None) -> None:
    layer = made(momentum=momentum)
    norms = []
    for kind in range(KINDS):
        norm = torch.nn.BatchNorm1d(CHANNELS, momentum=momentum).double()
        norm.load_state_dict({name: value[kind] for name, value in layer.state_dict().items()})
        norms.append(norm)
    batches = ([0, 0, 0, 2, 2], [2, 2, 2, 0, 0, 0, 0], [1, 0, 2, 1, 2, 0, 1], [0, 0])
    for types in map(torch.tensor, batches):
        x = features(len(types), CHANNELS)
        given = layer(x, types)
        for kind in types.unique().tolist():
            assert_equal(given[types == kind], norms[kind](x[types == kind]), f"type {kind}")
        for name, value in layer.named_buffers():
            if name in norms[0].state_dict():
                assert_equal(value, torch.stack([norm.state_dict()[name] for norm in norms]), name)
    assert layer.num_batches_tracked.tolist() == [4, 1, 3]
    layer.eval()
    x = features(NODES, CHANNELS)
    for kind in range(KINDS):
        assert_equal(layer(x, TYPES)[kind == TYPES], norms[kind].eval()(x[kind == TYPES]))


def test_one_type_is_a_batch_norm() -> None:
    layer, norm = made(number=1), gn.BatchNorm(CHANNELS, dtype=torch.float64)
    norm.load_state_dict({name: value[0] for name, value in layer.state_dict().items()})
    x = features(NODES, CHANNELS)
    assert_equal(layer(x, torch.zeros(NODES, dtype=torch.long)), norm(x))
    assert_equal(layer.running_var[0], norm.running_var)


def test_in_evaluation_it_is_the_one_of_pyg() -> None:
    theirs = randomize(HeteroBatchNorm(CHANNELS, KINDS).double())
    theirs.running_mean.normal_()
    theirs.running_var.uniform_(0.5, 2)
    theirs.num_batches_tracked.fill_(7)
    # The peer takes eps only where the variance is smaller.
    ours = gn.TypedBatchNorm(CHANNELS, KINDS, eps=0.0, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    assert ours.num_batches_tracked.tolist() == [7] * KINDS
    x = features(NODES, CHANNELS)
    assert_equal(ours.eval()(x, TYPES), theirs.eval()(x, TYPES))


def test_the_gradient_flows_through_the_statistics_where_pyg_stops_it() -> None:
    ours, theirs = gn.TypedBatchNorm(CHANNELS, KINDS, eps=1e-12).double(), HeteroBatchNorm(CHANNELS, KINDS).double()
    x = features(NODES, CHANNELS).requires_grad_()
    given, expected = ours(x, TYPES), theirs(x, TYPES)
    alone = TYPES != 1  # a variance of zero is replaced by eps there, and added to eps here
    assert_equal(given[alone], expected[alone], tolerance=1e-9)
    # The output does not change when all features of one type do by the same amount.
    shift = torch.randn(CHANNELS, dtype=torch.float64) * (TYPES == 0)[:, None]
    assert_equal(ours(x + shift, TYPES), given)
    (right,), (wrong,) = gradients(given, [x]), gradients(expected, [x])
    assert abs((right * shift).sum()) < 1e-12
    assert abs((wrong * shift).sum()) > 0.1
    assert difference(wrong[alone], right[alone]) > 0.1
    step = 1e-6 * torch.randn_like(x)
    cotangent = torch.cos(torch.arange(given.numel(), dtype=x.dtype)).view_as(given)
    with torch.no_grad():
        measured = ((ours(x + step, TYPES) - ours(x - step, TYPES)) * cotangent)[alone].sum() / 2
    assert measured.item() == pytest.approx((right * step)[alone].sum().item(), rel=1e-4)


def test_a_cumulative_average_counts_the_batches_of_a_type_where_pyg_counts_all() -> None:
    ours, theirs = gn.TypedBatchNorm(1, 2, momentum=None), HeteroBatchNorm(1, 2, momentum=None)
    zeros = torch.zeros(4, dtype=torch.long)
    for layer in (ours, theirs):
        for _ in range(9):
            layer(torch.randn(4, 1), zeros)
        layer(torch.tensor([[4.0], [6.0]]), zeros[:2] + 1)
    # Type 1 was seen in one batch of mean 5; the peer gives that batch the weight of the tenth.
    assert ours.running_mean[1].item() == 5
    assert theirs.running_mean[1].item() == pytest.approx(0.5)


@pytest.mark.parametrize("irreps", ["2x0e+1x1o+1x0o", "2x1o", "1x0e+0x1o"])
def test_on_irreps_every_type_is_the_batch_norm_of_irreps(irreps: str) -> None:
    layer = made(irreps)
    x = features(NODES, layer.fields.dim)
    given = layer(x, TYPES)
    for kind in range(KINDS):
        norm = gn.Standardize(irreps, mean="bx", scale="bxm", track_running_stats=True, dtype=torch.float64)
        with torch.no_grad():
            norm.weight.copy_(layer.weight[kind])
            if norm.bias is not None:
                norm.bias.copy_(layer.bias[kind])
        mine = kind == TYPES
        assert_equal(given[mine], norm(x[mine]), f"type {kind}")
        assert_equal(layer.running_var[kind], norm.running_var)
        layer.eval()
        assert_equal(layer(x, TYPES)[mine], norm.eval()(x[mine]), f"evaluation of type {kind}")
        layer.train()


def test_every_node_may_be_rotated_by_itself() -> None:
    irreps = o3.Irreps("2x0e+1x1o+1x0o")
    x, d = features(NODES, irreps.dim), irreps.D_from_angles(*o3.rand_angles(NODES, dtype=torch.float64))
    layer = made(str(irreps))
    rotated = torch.einsum("nij,nj->ni", d, x)
    for mode in (True, False):
        layer.train(mode)
        given = layer(rotated, TYPES)
        assert_equal(given, torch.einsum("nij,nj->ni", d, layer(x, TYPES)))
    vectors = torch.randn(NODES, 2, 3, dtype=torch.float64)
    plain = made(Vectors(2), affine=False)
    assert_equal(plain(vectors, TYPES).flatten(1), plain(vectors.flatten(1), TYPES))
    assert plain.running_mean is None


@pytest.mark.parametrize("given", [CHANNELS, "1x0e+1x1o"])
def test_derivatives_are_exact(given: object) -> None:
    layer = made(given, track_running_stats=False)
    names = [name for name, _ in layer.named_parameters()]

    def apply(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, TYPES))

    x = features(NODES, 4)
    x[2] = 0
    inputs = tuple(value.detach().requires_grad_() for value in (x, *layer.parameters()))
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


def test_a_single_node_and_constant_features_are_mapped_to_the_bias() -> None:
    layer = made()
    x = torch.full((NODES, CHANNELS), 1e4, dtype=torch.float64, requires_grad=True)
    y = layer(x, TYPES)
    assert_equal(y, layer.bias[TYPES])
    (first,) = torch.autograd.grad((y * features(NODES, CHANNELS)).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_no_nodes_and_no_channels_are_fine_and_leave_the_buffers() -> None:
    layer = made()
    before = copy.deepcopy(layer.state_dict())
    assert layer(features(0, CHANNELS), TYPES[:0]).shape == (0, CHANNELS)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert made(0)(features(NODES, 0), TYPES).shape == (NODES, 0)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_statistics_in_float32_are_exact_to_rounding_also_far_from_zero(offset: float) -> None:
    layer = gn.TypedBatchNorm(CHANNELS, KINDS, affine=False)
    x, types = features(3000, CHANNELS, torch.float32) + offset, torch.randint(0, KINDS, (3000,))
    exact = copy.deepcopy(layer).double()(x.double(), types)
    assert (layer(x, types).double() - exact).abs().max() < 3e-6 + 1e-7 * offset


def test_far_from_zero_the_variance_of_pyg_is_rounding() -> None:
    # There it is the mean of the squares less the square of the mean, and then the larger of that and eps.
    x, types = torch.randn(1000, CHANNELS) + 1e4, torch.randint(0, KINDS, (1000,))
    with torch.no_grad():
        ours, theirs = (make(CHANNELS, KINDS)(x, types).std().item() for make in (gn.TypedBatchNorm, HeteroBatchNorm))
    assert ours == pytest.approx(1, abs=1e-3)
    assert theirs > 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_has_statistics_in_float32(dtype: torch.dtype) -> None:
    layer = made().to(dtype)
    x = (features(NODES, CHANNELS) + 30).to(dtype)
    exact = copy.deepcopy(layer).double()(x.double(), TYPES)
    y = layer(x, TYPES)
    assert y.dtype == dtype
    assert torch.allclose(y.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_the_nodes_of_a_dense_batch_are_counted_through_all_samples() -> None:
    layer, x = made(track_running_stats=False), features(NODES, CHANNELS)
    assert_equal(layer(x.view(2, 5, CHANNELS), TYPES).flatten(0, 1), layer(x, TYPES))
    assert_equal(layer(x, TYPES.int()), layer(x, TYPES))
    order = torch.randperm(NODES)
    assert_equal(layer(x[order], TYPES[order]), layer(x, TYPES)[order])


def test_state_reset_and_representation() -> None:
    layer, other = made(), made()
    layer(features(NODES, CHANNELS), TYPES)
    x = features(NODES, CHANNELS)
    other.load_state_dict(layer.state_dict())
    assert_equal(other.eval()(x, TYPES), layer.eval()(x, TYPES))
    assert layer.running_mean.shape == layer.weight.shape == (KINDS, CHANNELS)
    layer.reset_parameters()
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    assert (layer.running_mean == 0).all()
    assert (layer.running_var == 1).all()
    assert (layer.num_batches_tracked == 0).all()
    assert repr(layer) == "TypedBatchNorm(4, num_types=3)"


def test_what_does_not_fit_is_refused() -> None:
    layer, x = made(), features(NODES, CHANNELS)
    with refused(r"types have shape \[9\], expected \[10\]: the type of each row of x"):
        layer(x, TYPES[:9])
    with refused("types are 0 to 3, expected numbers from 0 to 2"):
        layer(x, TYPES.where(TYPES != 1, 3))
    with refused("types are -1 to 2"):
        layer(x, TYPES.where(TYPES != 1, -1))
    with refused("types have dtype torch.float32, expected torch.int64: convert them with types.long"):
        layer(x, TYPES.float())
    with refused(r"x has shape \[10, 3\]"):
        layer(x[:, :3], TYPES)
    for options in ({"num_types": 0}, {"num_types": 1, "eps": -1.0}, {"num_types": 1, "momentum": 1.5}):
        with refused("expected at least 1, at least 0, and the weight of the new value in"):
            gn.TypedBatchNorm(4, **options)
