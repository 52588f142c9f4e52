"""Rows from graphs and sets: equal to PyTorch Geometric where it is right, else to the authors' formula."""

import pytest
import torch
from e3nn import o3
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
from torch import Tensor
from torch_geometric.nn import norm as pyg

import geonorm as gn
from geonorm.layers.fields import Vectors

CHANNELS = 6
NODES = sum(SIZES)
NUM_SAMPLES = len(SIZES)
sorted_or_not = pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
size_given_or_not = pytest.mark.parametrize("batch_size", [None, NUM_SAMPLES], ids=["no batch_size", "batch_size"])


# GraphNorm


@sorted_or_not
@size_given_or_not
def test_graph_norm_is_the_one_of_pyg(shuffled: bool, batch_size: int | None) -> None:
    peer = Peer(gn.GraphNorm(CHANNELS), pyg.GraphNorm(CHANNELS))
    x = features(NODES, CHANNELS)
    for mode in (True, False):
        peer.train(mode).check(x, ragged_batch(shuffled=shuffled), batch_size)
        peer.train(mode).check(x)


def test_graph_norm_and_the_one_of_pyg_load_the_state_of_each_other() -> None:
    ours, theirs = gn.GraphNorm(CHANNELS), randomize(pyg.GraphNorm(CHANNELS))
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias", "mean_scale"]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_graph_norm_divides_by_the_rms_about_the_scaled_mean_and_not_by_the_standard_deviation(alpha: float) -> None:
    # The docstring of PyTorch Geometric and the survey write a variance; the code of both authors has no second mean.
    x = torch.randn(500, CHANNELS, dtype=torch.float64) + 2
    layer = gn.GraphNorm(CHANNELS, eps=1e-14, dtype=torch.float64)
    torch.nn.init.constant_(layer.mean_scale, alpha)
    y = layer(x)
    assert_equal(y.square().mean(0), torch.ones(CHANNELS))
    variance = y.var(0, unbiased=False)
    assert_equal(variance, 1 / (1 + (1 - alpha) ** 2 * x.mean(0).square() / x.var(0, unbiased=False)))
    assert (variance < 0.9).all() == (alpha != 1)
    read_literally = (x - alpha * x.mean(0)) / (x - alpha * x.mean(0)).std(0, unbiased=False)
    assert (difference(y, read_literally) < 1e-12) == (alpha == 1)


# PairNorm


@sorted_or_not
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("batch_size", [None, NUM_SAMPLES], ids=["no batch_size", "batch_size"])
def test_pair_norm_is_the_one_of_pyg(shuffled: bool, scale: float, batch_size: int | None) -> None:
    peer = Peer(gn.PairNorm(CHANNELS, scale), pyg.PairNorm(scale))
    x = features(NODES, CHANNELS)
    peer.check(x, ragged_batch(shuffled=shuffled), batch_size)
    peer.check(x)


@sorted_or_not
def test_pair_norm_of_single_rows_adds_eps_to_the_squared_norm_as_its_authors_do(shuffled: bool) -> None:
    batch = ragged_batch(shuffled=shuffled)

    def formula(x: Tensor, _: dict[str, Tensor]) -> Tensor:
        centred = x - mean_of_sample(batch, x)
        return 3 * centred / (centred.square().sum(1, keepdim=True) + 1e-5).sqrt()

    ours = gn.PairNorm(CHANNELS, 3.0, scale_individually=True)
    assert_formula(ours, formula, features(NODES, CHANNELS), batch, NUM_SAMPLES)


def test_pair_norm_of_single_rows_in_pyg_adds_eps_to_the_norm_and_differs_where_rows_are_short() -> None:
    x, eps = 1e-3 * features(NODES, CHANNELS), 1e-3
    centred = x - x.mean(0)
    norm = centred.square().sum(1, keepdim=True).sqrt()
    ours, theirs = (layer(x) for layer in (gn.PairNorm(CHANNELS, 1.0, True, eps), pyg.PairNorm(1.0, True, eps)))
    assert_equal(theirs, centred / (norm + eps), "PyG: eps outside the root")
    assert_equal(ours, centred / (norm.square() + eps).sqrt())
    assert difference(ours, theirs) > 0.5
    x = features(NODES, CHANNELS)
    both = gn.PairNorm(CHANNELS, 1.0, True, 1e-14)(x), pyg.PairNorm(1.0, True, 1e-14)(x)
    assert_equal(*both, "they agree without eps")


def test_pair_norm_of_single_rows_in_pyg_has_no_second_derivative_at_zero_and_ours_has() -> None:
    def second_derivative(layer: torch.nn.Module) -> Tensor:
        x = torch.ones(3, CHANNELS, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0, 0], x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    assert second_derivative(pyg.PairNorm(scale_individually=True)).isnan().any()
    assert second_derivative(gn.PairNorm(CHANNELS, scale_individually=True)).isfinite().all()


def test_pair_norm_fixes_the_mean_squared_row_norm_where_the_printed_formula_is_larger_by_the_channels() -> None:
    x = torch.randn(40, 4, dtype=torch.float64) + 1
    y = gn.PairNorm(4, scale=3.0, eps=1e-14)(x)
    assert_equal(y.square().sum(1).mean(), torch.tensor(9.0))
    assert_equal(y.mean(0), torch.zeros(4))
    printed = 3 * (x - x.mean()) / x.std(unbiased=False)
    assert_equal(printed.square().sum(1).mean(), torch.tensor(36.0))
    assert difference(printed.mean(0), torch.zeros(4)) > 0.1


# MeanSubtractionNorm


@sorted_or_not
@size_given_or_not
def test_mean_subtraction_is_the_one_of_pyg(shuffled: bool, batch_size: int | None) -> None:
    peer = Peer(gn.MeanSubtractionNorm(CHANNELS), pyg.MeanSubtractionNorm())
    x = features(NODES, CHANNELS)
    peer.check(x, ragged_batch(shuffled=shuffled), batch_size)
    peer.check(x)


def test_mean_subtraction_is_a_projection() -> None:
    x, batch, layer = features(NODES, CHANNELS), ragged_batch(), gn.MeanSubtractionNorm(CHANNELS)
    once = layer(x, batch)
    assert_equal(layer(once, batch), once)
    assert_equal((once * (x - once)).sum(), torch.tensor(0.0))
    assert_equal(layer(2 * x, batch), 2 * once)


# SetNorm


@sorted_or_not
@size_given_or_not
def test_set_norm_is_layer_norm_over_the_graph(shuffled: bool, batch_size: int | None) -> None:
    x, batch = features(NODES, CHANNELS), ragged_batch(shuffled=shuffled)
    ours = randomize(gn.SetNorm(CHANNELS, dtype=torch.float64))
    other = gn.LayerNorm(CHANNELS, mode="graph", dtype=torch.float64)
    other.load_state_dict(ours.state_dict())
    assert_equal(ours(x, batch, batch_size), other(x, batch, batch_size), tolerance=1e-15)
    Peer(gn.SetNorm(CHANNELS), pyg.LayerNorm(CHANNELS, mode="graph")).check(x, batch, batch_size)


def test_set_norm_standardizes_the_whole_set_and_keeps_the_differences_of_its_elements() -> None:
    x = features(4 * 7, CHANNELS).view(4, 7, CHANNELS)
    y = gn.SetNorm(CHANNELS, eps=1e-14, affine=False)(x)
    assert_equal(y.mean((1, 2)), torch.zeros(4))
    assert_equal(y.square().mean((1, 2)), torch.ones(4))
    assert difference(y.mean(2), torch.zeros(4, 7)) > 0.1


# GraphSizeNorm


@sorted_or_not
@size_given_or_not
def test_graph_size_norm_is_the_one_of_pyg(shuffled: bool, batch_size: int | None) -> None:
    peer = Peer(gn.GraphSizeNorm(CHANNELS), pyg.GraphSizeNorm())
    x = features(NODES, CHANNELS)
    peer.check(x, ragged_batch(shuffled=shuffled), batch_size)
    peer.check(x)


def test_graph_size_norm_divides_by_the_root_of_the_size() -> None:
    x, batch = features(NODES, CHANNELS), ragged_batch()
    root = torch.tensor(SIZES, dtype=torch.float64).sqrt()[batch, None]
    assert_equal(gn.GraphSizeNorm(CHANNELS)(x, batch, NUM_SAMPLES), x / root)
    twice = torch.cat([x, x]), torch.cat([batch, batch])
    assert_equal(gn.GraphSizeNorm(CHANNELS)(*twice)[:NODES], x / root / 2**0.5, "two copies in one graph")


# Constant features of one sample of five nodes


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            gn.GraphNorm(4),
            lambda c, layer: (
                layer.weight * (1 - layer.mean_scale) * c / ((1 - layer.mean_scale) ** 2 * c**2 + 1e-5).sqrt()
                + layer.bias
            ),
        ),
        (gn.PairNorm(4), lambda c, layer: torch.zeros(4)),
        (gn.PairNorm(4, scale_individually=True), lambda c, layer: torch.zeros(4)),
        (gn.MeanSubtractionNorm(4), lambda c, layer: torch.zeros(4)),
        (gn.SetNorm(4), lambda c, layer: layer.bias),
        (gn.GraphSizeNorm(4), lambda c, layer: torch.full((4,), c / 5**0.5, dtype=torch.float64)),
    ],
    ids=lambda value: repr(value) if isinstance(value, torch.nn.Module) else "",
)
def test_constant_features_have_a_defined_result(layer: torch.nn.Module, expected) -> None:
    layer = randomize(layer.double())
    for value in (0.0, 1.7, -3e4):
        x = torch.full((5, 4), value, dtype=torch.float64)
        assert_equal(layer(x), expected(value, layer).expand(5, 4), f"{value}")


# Irreps and vectors: the layers that treat all columns alike


IRREPS = "2x0e+1x0o+2x1o+1x2e"
ROWS = {
    "PairNorm": lambda features: gn.PairNorm(features, 3.0),
    "PairNorm of single rows": lambda features: gn.PairNorm(features, scale_individually=True),
    "MeanSubtractionNorm": gn.MeanSubtractionNorm,
    "GraphSizeNorm": gn.GraphSizeNorm,
}
every_row = pytest.mark.parametrize("build", ROWS.values(), ids=ROWS)


@every_row
@sorted_or_not
def test_of_irreps_and_vectors_a_row_is_the_layer_on_its_columns(build, shuffled: bool) -> None:
    batch = ragged_batch(shuffled=shuffled)
    x, vectors = features(NODES, 14), features(NODES, 12)
    naive = build(12)
    pairs = [(build(IRREPS), x, build(14)(x, batch)), (build(Vectors(4)), vectors, naive(vectors, batch))]
    for layer, given, expected in pairs:
        assert_equal(layer(given, batch, NUM_SAMPLES), expected)
    layer = build("4x1o")
    assert_equal(layer(vectors.view(NODES, 4, 3), batch), naive(vectors, batch).view(NODES, 4, 3))
    assert_equal(build(Vectors(6, 2))(vectors.view(NODES, 6, 2), batch), naive(vectors, batch).view(NODES, 6, 2))
    assert_equal(layer(vectors.view(1, NODES, 4, 3)), naive(vectors).view(1, NODES, 4, 3))


@every_row
def test_of_irreps_every_sample_may_be_rotated_and_inverted_by_itself(build) -> None:
    x, batch, layer = features(NODES, 14), ragged_batch(), build(IRREPS)
    matrices = o3.rand_matrix(NUM_SAMPLES, dtype=torch.float64) * torch.tensor([1, -1, 1, -1, 1])[:, None, None]
    turn = o3.Irreps(IRREPS).D_from_matrix(matrices)[batch]
    assert_equal(
        layer(torch.einsum("nij,nj->ni", turn, x), batch), torch.einsum("nij,nj->ni", turn, layer(x, batch)), "turned"
    )


def test_the_representation_says_which_features_a_row_takes() -> None:
    assert repr(gn.PairNorm("2x0e+1x1o")) == "PairNorm('2x0e+1x1o', scale=1.0)"
    assert repr(gn.MeanSubtractionNorm(Vectors(4))) == "MeanSubtractionNorm(Vectors(channels=4, dim=3))"
    assert repr(gn.GraphSizeNorm("4x1o")) == "GraphSizeNorm('4x1o')"


@pytest.mark.parametrize(("build", "way_out"), [(gn.GraphNorm, "EquivariantGraphNorm"), (gn.SetNorm, "scale='xvm'")])
@pytest.mark.parametrize("given", ["4x0e+2x1o", Vectors(4)], ids=str)
def test_rows_that_stretch_vectors_name_the_layer_for_features_that_rotate(build, way_out: str, given) -> None:
    with refused(rf"(?s)not equivariant.*\(S\).*\n\(.*{way_out}.* is this layer for features that rotate"):
        build(given)
