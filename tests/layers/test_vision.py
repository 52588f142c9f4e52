"""Rows from language and vision: equal to torch and PyTorch Geometric where those are right, else to the formula."""

import copy

import pytest
import torch
from layers.peers import (
    SIZES,
    Peer,
    assert_equal,
    assert_formula,
    difference,
    features,
    mean_of_sample,
    ragged_batch,
    randomize,
    refused,
)
from torch import Tensor, nn
from torch_geometric.nn import norm as pyg

import geonorm as gn
from geonorm.layers.fields import Vectors

CHANNELS = 6
NODES = sum(SIZES)
sorted_or_not = pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
size_given_or_not = pytest.mark.parametrize("batch_size", [None, len(SIZES)], ids=["no batch_size", "batch_size"])
affine_or_not = pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])


def channels_second(peer: nn.Module, x: Tensor) -> Tensor:
    """torch's layers for images want [samples, channels, positions]."""
    return peer(x.transpose(1, 2)).transpose(1, 2)


# BatchNorm


@affine_or_not
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_batch_norm_is_the_one_of_torch_through_training_and_evaluation(affine: bool, momentum: float | None) -> None:
    options = {"momentum": momentum, "affine": affine}
    peer = Peer(gn.BatchNorm(CHANNELS, **options), nn.BatchNorm1d(CHANNELS, **options))
    for step in range(3):
        peer.train().check(features(NODES + step, CHANNELS))
        peer.check_buffers()
    peer.train(False).check(features(NODES, CHANNELS))
    peer.check_buffers()


@affine_or_not
def test_batch_norm_without_running_statistics_uses_those_of_the_batch_in_evaluation_too(affine: bool) -> None:
    options = {"affine": affine, "track_running_stats": False}
    peer = Peer(gn.BatchNorm(CHANNELS, **options), nn.BatchNorm1d(CHANNELS, **options))
    for mode in (True, False):
        peer.train(mode).check(features(NODES, CHANNELS))


def test_batch_norm_counts_nodes_not_samples() -> None:
    x, layer = features(NODES, CHANNELS), gn.BatchNorm(CHANNELS, dtype=torch.float64)
    assert_equal(layer(x, ragged_batch(), len(SIZES)), layer(x))


def test_one_row_alone_is_mapped_to_the_bias_where_torch_refuses_it() -> None:
    layer = randomize(gn.BatchNorm(CHANNELS, dtype=torch.float64))
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(CHANNELS)(torch.randn(1, CHANNELS))
    x = features(1, CHANNELS)
    assert_equal(layer(x), layer.bias[None])
    assert_equal(layer.running_mean, 0.1 * x[0])
    assert_equal(layer.running_var, torch.full((CHANNELS,), 0.9, dtype=torch.float64))


# LayerNorm


@sorted_or_not
@size_given_or_not
@affine_or_not
def test_layer_norm_over_graphs_is_the_one_of_pyg(shuffled: bool, batch_size: int | None, affine: bool) -> None:
    peer = Peer(gn.LayerNorm(CHANNELS, affine=affine), pyg.LayerNorm(CHANNELS, affine=affine))
    peer.check(features(NODES, CHANNELS), ragged_batch(shuffled=shuffled), batch_size)


def test_layer_norm_of_pyg_adds_eps_elsewhere_when_the_batch_is_missing() -> None:
    eps, x = 1e-3, 1e-3 * features(NODES, CHANNELS)
    one_sample = torch.zeros(NODES, dtype=torch.long)
    ours, theirs = gn.LayerNorm(CHANNELS, eps=eps, affine=False), pyg.LayerNorm(CHANNELS, eps=eps, affine=False)
    outside = (x - x.mean()) / (x.std(unbiased=False) + eps)
    inside = (x - x.mean()) / (x.var(unbiased=False) + eps).sqrt()
    assert difference(outside, inside) > 0.5
    assert_equal(theirs(x), outside, "PyG without batch: eps outside the root")
    assert_equal(theirs(x, one_sample), inside, "PyG with batch: eps inside the root")
    assert_equal(ours(x), inside)
    assert_equal(ours(x, one_sample), inside)


def test_layer_norm_of_pyg_has_no_second_derivative_at_constant_features_and_ours_has() -> None:
    def second_derivative(layer: nn.Module) -> Tensor:
        x = torch.ones(3, CHANNELS, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0, 0], x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    assert second_derivative(pyg.LayerNorm(CHANNELS, affine=False)).isnan().any()
    assert second_derivative(gn.LayerNorm(CHANNELS, affine=False)).isfinite().all()


@affine_or_not
def test_layer_norm_over_nodes_is_the_one_of_torch(affine: bool) -> None:
    x, batch = features(NODES, CHANNELS), ragged_batch()
    ours = gn.LayerNorm(CHANNELS, mode="node", affine=affine)
    Peer(ours, nn.LayerNorm(CHANNELS, elementwise_affine=affine)).check(x, batch, len(SIZES), theirs=())
    Peer(ours, pyg.LayerNorm(CHANNELS, affine=affine, mode="node")).check(x, batch, len(SIZES))


@affine_or_not
def test_layer_norm_on_a_dense_batch_is_the_one_of_torch_over_one_or_both_axes(affine: bool) -> None:
    x = features(4 * 7, CHANNELS).view(4, 7, CHANNELS)
    Peer(gn.LayerNorm(CHANNELS, "node", affine=affine), nn.LayerNorm(CHANNELS, elementwise_affine=affine)).check(x)
    ours = gn.LayerNorm(CHANNELS, affine=False)
    Peer(ours, nn.LayerNorm([7, CHANNELS], elementwise_affine=False)).check(x)


def test_layer_norm_refuses_an_unknown_mode() -> None:
    with refused(r"mode is 'rows', expected 'graph' .* or 'node'"):
        gn.LayerNorm(4, "rows")


# InstanceNorm


@sorted_or_not
@size_given_or_not
@affine_or_not
def test_instance_norm_is_the_one_of_pyg(shuffled: bool, batch_size: int | None, affine: bool) -> None:
    peer = Peer(gn.InstanceNorm(CHANNELS, affine=affine), pyg.InstanceNorm(CHANNELS, affine=affine))
    x = features(NODES, CHANNELS)
    for mode in (True, False):
        peer.train(mode).check(x, ragged_batch(shuffled=shuffled), batch_size)
        peer.train(mode).check(x)


@sorted_or_not
@size_given_or_not
@affine_or_not
def test_instance_norm_keeps_the_running_statistics_of_pyg(
    shuffled: bool, batch_size: int | None, affine: bool
) -> None:
    options = {"affine": affine, "track_running_stats": True}
    peer = Peer(gn.InstanceNorm(CHANNELS, **options), pyg.InstanceNorm(CHANNELS, **options))
    sizes = (5, 1, 4, 2, 3)  # no sample is empty
    x, batch = features(sum(sizes), CHANNELS), ragged_batch(sizes, shuffled=shuffled)
    for step in range(3):
        peer.train().check(x + step, batch, batch_size)
        # Neither torch nor PyTorch Geometric ever counts the batches of an InstanceNorm.
        peer.check_buffers("num_batches_tracked")
        # The peer's buffers drag the graphs of all earlier batches along, see the test below.
        for name in ("running_mean", "running_var"):
            setattr(peer.theirs, name, getattr(peer.theirs, name).detach())
    assert peer.theirs.num_batches_tracked == 0
    assert peer.ours.num_batches_tracked == 3
    peer.train(False).check(x, batch, batch_size)
    peer.train(False).check(x)
    peer.check_buffers("num_batches_tracked")


@affine_or_not
@pytest.mark.parametrize("track", [True, False], ids=["running statistics", "no running statistics"])
def test_instance_norm_on_a_dense_batch_is_the_one_of_torch(affine: bool, track: bool) -> None:
    options = {"affine": affine, "track_running_stats": track}
    peer = Peer(gn.InstanceNorm(CHANNELS, **options), nn.InstanceNorm1d(CHANNELS, **options), call=channels_second)
    for step in range(2):
        peer.train().check(features(4 * 7, CHANNELS).view(4, 7, CHANNELS) + step)
    peer.train(False).check(features(4 * 7, CHANNELS).view(4, 7, CHANNELS))
    peer.check_buffers("num_batches_tracked")


def test_samples_without_nodes_count_in_the_running_statistics_of_pyg_and_not_in_ours() -> None:
    sizes = (5, 0, 3, 1)
    x, batch = features(sum(sizes), CHANNELS), ragged_batch(sizes)
    options = {"momentum": 1.0, "track_running_stats": True}
    ours, theirs = gn.InstanceNorm(CHANNELS, **options).double(), pyg.InstanceNorm(CHANNELS, **options).double()
    assert_equal(ours(x, batch, 4), theirs(x, batch, 4))
    samples = [x[:5], x[5:8], x[8:]]
    means = torch.stack([sample.mean(0) for sample in samples])
    # A sample of one node has no variance: zero, as in PyTorch Geometric.
    variances = torch.stack([samples[0].var(0), samples[1].var(0), torch.zeros_like(x[0])])
    assert_equal(ours.running_mean, means.mean(0))
    assert_equal(ours.running_var, variances.mean(0))
    assert_equal(theirs.running_mean, means.sum(0) / 4)
    assert_equal(theirs.running_var, variances.sum(0) / 4)


def test_instance_norm_averages_over_all_batches_without_momentum_where_the_peers_cannot() -> None:
    options = {"momentum": None, "track_running_stats": True}
    x, batch = features(3 * NODES, CHANNELS).view(3, NODES, CHANNELS), ragged_batch((7, NODES - 7))
    ours = gn.InstanceNorm(CHANNELS, **options).double()
    for step in x:
        ours(step, batch, 2)
    assert_equal(ours.running_mean, torch.stack([x[:, :7].mean(1), x[:, 7:].mean(1)]).mean((0, 1)))
    assert_equal(ours.running_var, torch.stack([x[:, :7].var(1), x[:, 7:].var(1)]).mean((0, 1)))
    theirs = nn.InstanceNorm1d(CHANNELS, **options).double()
    theirs(x.transpose(1, 2))
    assert_equal(theirs.running_mean, torch.zeros(CHANNELS), "torch reads None as a momentum of zero")
    with pytest.raises(TypeError):
        pyg.InstanceNorm(CHANNELS, **options)(x[0].float(), batch, 2)


def test_the_buffers_of_pyg_keep_the_graph_of_the_batch_and_ours_do_not() -> None:
    x, batch = features(NODES, CHANNELS).requires_grad_(), ragged_batch()
    ours = gn.InstanceNorm(CHANNELS, track_running_stats=True).double()
    theirs = pyg.InstanceNorm(CHANNELS, track_running_stats=True).double()
    theirs(x, batch, len(SIZES)).sum().backward()
    assert theirs.running_mean.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(theirs)
    ours(x, batch, len(SIZES)).sum().backward()
    assert not ours.running_mean.requires_grad
    assert_equal(copy.deepcopy(ours).running_mean, ours.running_mean)
    theirs.eval(), ours.eval()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        theirs(x, batch, len(SIZES)).sum().backward()
    ours(x, batch, len(SIZES)).sum().backward()


def test_a_single_node_is_mapped_to_the_bias() -> None:
    layer = randomize(gn.InstanceNorm(CHANNELS, affine=True, dtype=torch.float64))
    assert_equal(layer(features(3, CHANNELS), torch.arange(3)), layer.bias.expand(3, CHANNELS))


# GroupNorm


@affine_or_not
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_on_a_dense_batch_is_the_one_of_torch(groups: int, affine: bool) -> None:
    peer = Peer(
        gn.GroupNorm(CHANNELS, groups, affine=affine),
        nn.GroupNorm(groups, CHANNELS, affine=affine),
        call=channels_second,
    )
    peer.check(features(4 * 7, CHANNELS).view(4, 7, CHANNELS))


@sorted_or_not
@size_given_or_not
def test_group_norm_on_graphs_is_the_one_of_torch_on_each_graph(shuffled: bool, batch_size: int | None) -> None:
    batch = ragged_batch(shuffled=shuffled)

    def graph_by_graph(peer: nn.Module, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for sample in batch.unique():
            y[batch == sample] = channels_second(peer, x[None, batch == sample])[0]
        return y

    peer = Peer(gn.GroupNorm(CHANNELS, 2), nn.GroupNorm(2, CHANNELS), call=graph_by_graph)
    peer.check(features(NODES, CHANNELS), batch, batch_size, theirs=())


def test_group_norm_lies_between_layer_norm_and_instance_norm() -> None:
    x, batch = features(NODES, CHANNELS), ragged_batch()
    assert_equal(gn.GroupNorm(CHANNELS, 1)(x, batch), gn.LayerNorm(CHANNELS)(x, batch))
    assert_equal(gn.GroupNorm(CHANNELS, CHANNELS)(x, batch), gn.InstanceNorm(CHANNELS)(x, batch))


def test_the_layers_of_torch_do_not_reduce_over_the_rows_of_a_node_matrix() -> None:
    x = features(NODES, CHANNELS)
    rows = gn.LayerNorm(CHANNELS, mode="node")(x)
    assert_equal(nn.GroupNorm(1, CHANNELS).double()(x), rows, "torch's GroupNorm normalizes every row by itself")
    assert_equal(nn.InstanceNorm1d(NODES).double()(x), rows, "torch's InstanceNorm1d takes rows for channels")
    assert difference(gn.GroupNorm(CHANNELS, 1)(x), rows) > 0.1
    assert difference(gn.InstanceNorm(CHANNELS)(x), rows) > 0.1


@pytest.mark.parametrize("groups", [4, 0, -1])
def test_group_norm_refuses_groups_that_do_not_divide_the_channels(groups: int) -> None:
    with refused(rf"6 cannot be split into {groups} groups .* choose a divisor"):
        gn.GroupNorm(6, groups)


# FilterResponseNorm


@sorted_or_not
@affine_or_not
@pytest.mark.parametrize("threshold", [True, False], ids=["thresholded", "linear"])
def test_filter_response_norm_computes_its_formula(shuffled: bool, affine: bool, threshold: bool) -> None:
    batch = ragged_batch(shuffled=shuffled)

    def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        y = x / (mean_of_sample(batch, x.square()) + 1e-6).sqrt()
        y = given["weight"] * y + given["bias"] if affine else y
        return torch.where(y > given["threshold"], y, given["threshold"]) if threshold else y

    layer = randomize(gn.FilterResponseNorm(CHANNELS, affine=affine, threshold=threshold, dtype=torch.float64))
    assert_formula(layer, formula, features(NODES, CHANNELS), batch, len(SIZES))


def test_filter_response_norm_leaves_an_rms_of_one_and_the_sign_of_the_mean() -> None:
    x = features(NODES, CHANNELS) + 3
    y = gn.FilterResponseNorm(CHANNELS, eps=1e-14, threshold=False)(x)
    assert_equal(y.square().mean(0), torch.ones(CHANNELS))
    assert (y.mean(0) > 0.5).all()


def test_the_threshold_cuts_off_from_below_and_starts_at_zero() -> None:
    layer = gn.FilterResponseNorm(CHANNELS)
    x = features(NODES, CHANNELS)
    assert_equal(layer(x), gn.FilterResponseNorm(CHANNELS, threshold=False)(x).relu())
    randomize(layer)
    layer.reset_parameters()
    assert_equal(layer(x), gn.FilterResponseNorm(CHANNELS, threshold=False)(x).relu())


# VarianceNorm


@affine_or_not
@pytest.mark.parametrize("statistic", ["std", "rms"])
def test_variance_norm_computes_its_formula(statistic: str, affine: bool) -> None:
    def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        spread = x.var(0, unbiased=False) if statistic == "std" else x.square().mean(0)
        y = x / (spread + 1e-5).sqrt()
        return given["weight"] * y + given["bias"] if affine else y

    layer = randomize(gn.VarianceNorm(CHANNELS, statistic, affine=affine, dtype=torch.float64))
    assert_formula(layer, formula, features(NODES, CHANNELS), ragged_batch(), len(SIZES))
    untracked = gn.VarianceNorm(CHANNELS, statistic, affine=affine, track_running_stats=False, dtype=torch.float64)
    assert_formula(randomize(untracked).eval(), formula, features(NODES, CHANNELS))


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("statistic", ["std", "rms"])
def test_variance_norm_keeps_the_unbiased_variance_or_the_second_moment(statistic: str, momentum: float | None) -> None:
    layer = gn.VarianceNorm(CHANNELS, statistic, momentum=momentum, affine=False, dtype=torch.float64)
    batches = [features(NODES, CHANNELS) + step for step in range(3)]
    expected = torch.ones(CHANNELS, dtype=torch.float64)
    for step, x in enumerate(batches, 1):
        layer(x)
        new = x.var(0) if statistic == "std" else x.square().mean(0)
        weight = 1 / step if momentum is None else momentum
        expected = (1 - weight) * expected + weight * new
    assert_equal(layer.running_var, expected)
    assert layer.running_mean is None
    layer.eval()
    assert_formula(layer, lambda x, given: x / (expected + 1e-5).sqrt(), features(NODES, CHANNELS))


def test_only_the_rms_reading_of_variance_norm_leaves_an_rms_of_one() -> None:
    x = torch.randn(2000, CHANNELS, dtype=torch.float64) + 3
    std, rms = (gn.VarianceNorm(CHANNELS, reading)(x).square().mean(0).sqrt() for reading in ("std", "rms"))
    assert (std > 2.5).all()
    assert_equal(rms, torch.ones(CHANNELS), tolerance=1e-5)


def test_variance_norm_keeps_zero_and_signs() -> None:
    x = features(NODES, CHANNELS)
    x[3] = 0
    for statistic in ("std", "rms"):
        assert (gn.VarianceNorm(CHANNELS, statistic)(x).sign() == x.sign()).all()


def test_variance_norm_refuses_an_unknown_statistic() -> None:
    with refused(r"statistic is 'var', expected 'std' .* or 'rms'"):
        gn.VarianceNorm(4, "var")


# Hard inputs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(gn.LayerNorm, pyg.LayerNorm), (gn.InstanceNorm, pyg.InstanceNorm), (gn.GraphNorm, pyg.GraphNorm)],
    ids=lambda layer: layer.__module__.partition(".")[0],
)
def test_a_batch_without_nodes_is_allowed_where_pyg_looks_for_its_largest_sample(ours: type, theirs: type) -> None:
    x, batch = torch.empty(0, CHANNELS), torch.empty(0, dtype=torch.long)
    assert ours(CHANNELS)(x, batch).shape == (0, CHANNELS)
    with pytest.raises(RuntimeError, match="max"):
        theirs(CHANNELS)(x, batch)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (gn.BatchNorm(4), lambda c, w, b: b),
        (gn.LayerNorm(4), lambda c, w, b: b),
        (gn.LayerNorm(4, mode="node"), lambda c, w, b: b),
        (gn.InstanceNorm(4, affine=True), lambda c, w, b: b),
        (gn.GroupNorm(4, 2), lambda c, w, b: b),
        (gn.FilterResponseNorm(4, threshold=False), lambda c, w, b: w * c / (c**2 + 1e-6) ** 0.5 + b),
        (gn.VarianceNorm(4), lambda c, w, b: w * c / 1e-5**0.5 + b),
        (gn.VarianceNorm(4, statistic="rms"), lambda c, w, b: w * c / (c**2 + 1e-5) ** 0.5 + b),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_constant_features_have_a_defined_result(layer: nn.Module, expected) -> None:
    layer = randomize(copy.deepcopy(layer).double())
    for value in (0.0, 1.7, -3e4):
        x = torch.full((5, 4), value, dtype=torch.float64)
        assert_equal(layer(x), expected(value, layer.weight, layer.bias).expand(5, 4))


# Features that rotate


@pytest.mark.parametrize(
    ("layer", "way_out", "instead"),
    [
        (gn.BatchNorm, "EquivariantBatchNorm", gn.EquivariantBatchNorm),
        (
            gn.LayerNorm,
            r"EquivariantLayerNorm .* per node .*, Standardize\(features, mean='xv', scale='xvm'\) per graph",
            lambda features: gn.Standardize(features, mean="xv", scale="xvm"),
        ),
        (lambda features: gn.LayerNorm(features, mode="node"), "EquivariantLayerNorm", gn.EquivariantLayerNorm),
        (
            lambda features: gn.InstanceNorm(features, affine=True),
            "EquivariantInstanceNorm",
            gn.EquivariantInstanceNorm,
        ),
        (
            lambda features: gn.GroupNorm(features, 2),
            r"Standardize\(features, mean='xv', scale='xvm', channel_groups=...\)",
            lambda features: gn.Standardize(features, mean="xv", scale="xvm", channel_groups=2),
        ),
        (
            lambda features: gn.FilterResponseNorm(features, threshold=False),
            r"Standardize\(features, mean=None, scale='xm', statistic='rms'\)",
            lambda features: gn.Standardize(features, mean=None, scale="xm", statistic="rms", eps=1e-6),
        ),
        (
            lambda features: gn.VarianceNorm(features, statistic="rms"),
            r"VectorFieldNorm .*, Standardize\(features, mean=None, scale='bxm', statistic='rms'\)",
            lambda features: gn.Standardize(features, mean=None, scale="bxm", statistic="rms"),
        ),
    ],
    ids=[
        "BatchNorm",
        "LayerNorm",
        "LayerNorm of a node",
        "InstanceNorm",
        "GroupNorm",
        "FilterResponseNorm",
        "VarianceNorm",
    ],
)
def test_the_error_names_the_layer_for_features_that_rotate_which_is_the_same_on_scalars(
    layer, way_out: str, instead
) -> None:
    for features_that_rotate in ("4x0e+2x1o", Vectors(4)):
        with refused(rf"(?s)not equivariant on .*\(S\).*\n\({way_out}"):
            layer(features_that_rotate)
        instead(features_that_rotate)
    x, batch = features(NODES, 6), ragged_batch()
    assert_equal(instead(6)(x, batch), layer(6)(x, batch))
