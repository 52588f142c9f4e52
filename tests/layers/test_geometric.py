"""The general layer: what it does by default, settings per type, what restores what is lost, and its mistakes."""

import copy

import pytest
import torch
from layers.peers import assert_equal, ragged_batch, randomize, refused
from layers.test_theorems import GRAPHS, nullity
from torch import Tensor
from torch.func import jacrev
from untyped import untyped

import geonorm as gn
from geonorm.layers.geometric import PoolStatistics

IRREPS = "2x0e+2x0o+2x1o+1x2e"
DIM = 15
SIZES = (5, 1, 4, 3)
NODES = sum(SIZES)


def batch_and_features(columns: int = DIM) -> tuple[Tensor, Tensor]:
    return ragged_batch(SIZES, shuffled=True), 2 * torch.randn(NODES, columns, dtype=torch.float64) + 0.4


def jacobian(function, x: Tensor) -> Tensor:
    with untyped():
        parts = jacrev(function)(x)
    parts = parts if isinstance(parts, tuple) else (parts,)
    return torch.cat([part.reshape(-1, x.numel()) for part in parts]).detach()


# The default


def test_by_default_a_node_is_divided_by_a_power_of_its_size_and_nothing_is_lost() -> None:
    layer = gn.GeometricNorm(IRREPS, dtype=torch.float64)
    batch, x = batch_and_features()
    size = (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    assert_equal(layer(x, batch), x / size**0.5)
    x = torch.randn(9, DIM, dtype=torch.float64)
    matrix = jacobian(lambda x: layer(x, GRAPHS, 2), x)
    assert nullity(matrix) == 0
    blocks = matrix.view(9, DIM, 9, DIM).abs().amax((1, 3))
    assert torch.equal(blocks > 0, torch.eye(9, dtype=torch.bool)), "every node is alone"


def test_with_exponents_of_its_own_for_every_type_a_factor_becomes_a_power_of_it() -> None:
    exponents = {"0e": 0.2, "1o": 0.7, "rest": 1.0}
    layer = gn.GeometricNorm(IRREPS, scale="vm", exponent=exponents, eps=0.0, bias=False, dtype=torch.float64)
    _, x = batch_and_features()
    power = torch.tensor([0.8] * 2 + [0.0] * 2 + [0.3] * 6 + [0.0] * 5, dtype=torch.float64)
    assert_equal(layer(3 * x), 3**power * layer(x))
    learned = {name: value.shape for name, value in layer.named_parameters() if "exponent" in name}
    assert list(learned.values()) == [(1,), (1,)], "an exponent of one is not learned"


def test_types_that_share_a_scale_learn_one_exponent() -> None:
    assert gn.GeometricNorm(IRREPS).parts[0].exponent_logit.shape == (1,)
    assert gn.GeometricNorm(IRREPS, scale="vm").parts[0].exponent_logit.shape == (4,)


# Settings per type


def test_settings_per_type_are_layers_of_the_types_apart() -> None:
    layer = gn.GeometricNorm(
        IRREPS,
        mean={"0e": "x", "1o": "xv"},
        alpha={"0e": 0.3, "rest": 1.0},
        scale={"0e": "x", "0o": None, "1o": "xm", "rest": "vtm"},
        exponent={"2e": 0.5, "rest": 1.0},
        eps={"1o": 0.1, "rest": 1e-5},
        gain={"1o": False, "rest": True},
        dtype=torch.float64,
    )
    randomize(layer)
    batch, x = batch_and_features()
    apart = [
        gn.Standardize("2x0e", mean="x", alpha=0.3, scale="x", dtype=torch.float64),
        gn.Standardize("2x0o", mean=None, scale=None, dtype=torch.float64),
        gn.Standardize("2x1o", mean="xv", mean_on="all", scale="xm", eps=0.1, gain=False, dtype=torch.float64),
        gn.Standardize("1x2e", mean=None, scale="vm", exponent=0.5, learn_exponent=True, dtype=torch.float64),
    ]
    for ours, part in zip(apart, layer.parts, strict=True):
        ours.load_state_dict(part.state_dict())
    columns = x.split([2, 2, 6, 5], 1)
    expected = torch.cat([ours(part, batch) for ours, part in zip(apart, columns, strict=True)], 1)
    assert_equal(layer(x, batch), expected)


@pytest.mark.parametrize("order", ["1x1o+2x0e+1x1o+1x0o", "1x0o+1x1o+2x0e+1x1o"])
def test_the_order_of_the_irreps_changes_nothing_but_the_order_of_the_columns(order: str) -> None:
    settings = {"mean": {"0e": "v"}, "scale": {"0e": "v", "rest": "vtm"}, "statistics": True}
    layer = gn.GeometricNorm(order, **settings, dtype=torch.float64)
    plain = gn.GeometricNorm("2x0e+2x1o+1x0o", **settings, dtype=torch.float64)
    places = {"1x1o+2x0e+1x1o+1x0o": [3, 4, 0, 1, 2, 5, 6, 7, 8], "1x0o+1x1o+2x0e+1x1o": [4, 5, 1, 2, 3, 6, 7, 8, 0]}
    fields = {"1x1o+2x0e+1x1o+1x0o": [1, 2, 0, 3, 4], "1x0o+1x1o+2x0e+1x1o": [2, 3, 1, 4, 0]}
    batch, x = batch_and_features(9)
    y, found = layer(x, batch)
    expected, statistics = plain(x[:, places[order]], batch)
    assert_equal(y[:, places[order]], expected)
    assert_equal(found.mean[:, places[order]], statistics.mean)
    assert_equal(found.log_scale[:, fields[order]], statistics.log_scale)


def test_features_without_any_type_are_allowed_whatever_the_settings() -> None:
    layer = gn.GeometricNorm("0x0e+0x1o", mean={"0e": "v"}, scale={"0e": "v", "rest": "vm"}, statistics=True)
    y, found = layer(torch.zeros(4, 0))
    assert y.shape == found.mean.shape == found.log_scale.shape == (4, 0)


# What restores what is lost


LOSSY = {
    "instance": ({"mean": "x", "scale": {"0e": "x", "rest": "xm"}}, 2 * 15 + 2 * 7),
    "node, invariants centred": ({"mean": {"0e": "v"}, "scale": {"0e": "v", "rest": "vtm"}}, 9 + 2 * 9),
    "PairNorm": ({"mean": "x", "scale": "xvtm", "normalization": "row"}, 2 * 15 + 2),
    "batch": ({"mean": {"0e": "bx"}, "scale": "bxm"}, 2 + 7),
}


@pytest.mark.parametrize("name", LOSSY)
def test_the_statistics_bring_the_lost_directions_back(name: str) -> None:
    # Theorem B4: shifts and scales, as many as mean pools (times components) and scale pools.
    settings, lost = LOSSY[name]
    layer = gn.GeometricNorm(
        IRREPS, **settings, exponent=1.0, eps=0.0, bias=False, statistics=True, dtype=torch.float64
    )
    x = torch.randn(9, DIM, dtype=torch.float64)
    assert nullity(jacobian(lambda x: layer(x, GRAPHS, 2)[0], x)) == lost
    with_statistics = jacobian(lambda x: (lambda y, found: (y, *found))(*layer(x, GRAPHS, 2)), x)
    assert nullity(with_statistics) == 0
    extra = with_statistics[x.numel() :]
    assert torch.linalg.matrix_rank(extra, rtol=1e-9) == lost, "no more numbers than were lost"


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("exponent", [1.0, 0.6])
def test_the_statistics_invert_the_layer(name: str, exponent: float) -> None:
    settings, _ = LOSSY[name]
    layer = gn.GeometricNorm(IRREPS, **settings, exponent=exponent, statistics=True, dtype=torch.float64)
    randomize(layer)
    batch, x = batch_and_features()
    assert_equal(layer.inverse(*layer(x, batch)), x, tolerance=1e-10)
    dense = torch.randn(3, 4, DIM, dtype=torch.float64)
    assert_equal(layer.inverse(*layer(dense)), dense, tolerance=1e-10)


def test_the_statistics_turn_with_the_features_and_their_sizes_do_not() -> None:
    from geonorm.match import random_rotations, rotate

    layer = gn.GeometricNorm("2x0e+2x1o", mean="x", scale="xm", statistics=True, dtype=torch.float64)
    batch, x = batch_and_features(8)
    turns = random_rotations(len(SIZES))[batch]
    _, before = layer(x, batch)
    _, after = layer(rotate(x, turns, "2x0e+2x1o"), batch)
    assert_equal(after.mean, rotate(before.mean, turns, "2x0e+2x1o"))
    assert_equal(after.log_scale, before.log_scale)
    assert (before.mean[batch == 0] - before.mean[batch == 0][0]).abs().max() == 0, "one for each sample"


def test_in_evaluation_the_statistics_are_the_constants_that_were_used() -> None:
    layer = gn.GeometricNorm.like("EquivariantBatchNorm", "2x0e+2x1o", statistics=True, dtype=torch.float64)
    batch, x = batch_and_features(8)
    layer(x, batch)
    y, found = layer.eval()(x[:2])
    assert_equal(layer.inverse(y, found), x[:2])
    _, other = layer(x[2:4])
    assert torch.equal(found.mean, other.mean)
    assert torch.equal(found.log_scale, other.log_scale)


def test_lengths_have_statistics_too() -> None:
    settings = {"mean": "bx", "scale": "bx", "eps": 0.0, "exponent": 1.0, "statistics": True, "dtype": torch.float64}
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    length = x.norm(dim=2)
    y, found = gn.GeometricNorm(gn.Vectors(4), mode="product", length_eps=1e-9, **settings)(x)
    assert isinstance(found, PoolStatistics)
    assert_equal(found.mean, length.mean(0).expand(7, 4), tolerance=1e-8)
    assert_equal(found.log_scale, length.std(0, correction=0).log().expand(7, 4), tolerance=1e-8)
    (content, direction), _ = gn.GeometricNorm(gn.Vectors(4), mode="pair", **settings)(x)
    assert_equal(content, (length - length.mean(0)) / length.std(0, correction=0))
    assert direction.shape == x.shape
    assert y.shape == x.shape


# Sources, residual, tasks


def test_constants_are_the_same_in_both_modes_and_fit_finds_them() -> None:
    layer = gn.GeometricNorm(
        "2x0e+2x1o", scale="bxm", exponent=1.0, source="constant", constant=2.0, dtype=torch.float64
    )
    batches = [3 * torch.randn(500, 8, dtype=torch.float64) for _ in range(4)]
    assert_equal(layer(batches[0]), batches[0] / 2)
    fresh = copy.deepcopy(layer)
    layer.fit([*batches[:3], (batches[3], None, None)])
    assert layer.training
    assert not layer.parts[0].training
    y = torch.cat([layer(x) for x in batches])
    assert torch.allclose(y.square().mean(), torch.ones((), dtype=torch.float64), rtol=1e-3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert_equal(layer(batches[0][:3]), layer(batches[0])[:3])
    assert_equal(layer.eval()(batches[0]), layer.train()(batches[0]))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items()), "nothing moves"
    fresh.load_state_dict(layer.state_dict())
    assert_equal(fresh(batches[0]), layer(batches[0]))


def test_counts_are_those_of_the_sample_or_what_is_given() -> None:
    layer = gn.GeometricNorm(gn.Vectors(4), source="count", bias=False, dtype=torch.float64)
    batch, x = batch_and_features(12)
    number = torch.bincount(batch)[batch].double()
    assert_equal(layer(x, batch), x / number[:, None].sqrt())
    assert_equal(layer(x, batch, len(SIZES), torch.full((NODES,), 0.2)), x)
    assert_equal(
        layer(x.view(NODES, 4, 3), None, None, 4 * number), x.view(NODES, 4, 3) / 2 / number[:, None, None].sqrt()
    )


def test_a_residual_adds_the_input_and_makes_the_layer_injective() -> None:
    settings = {"mean": "x", "scale": "xvtm", "exponent": 1.0, "eps": 0.0, "bias": False, "dtype": torch.float64}
    x = torch.randn(9, DIM, dtype=torch.float64)
    plain, added = gn.GeometricNorm(IRREPS, **settings), gn.GeometricNorm(IRREPS, residual=0.5, **settings)
    assert_equal(added(x, GRAPHS), x + 0.5 * plain(x, GRAPHS))
    assert nullity(jacobian(lambda x: added(x, GRAPHS, 2), x)) == 0
    # Theorem: the identity plus a convex gradient, so no direction shrinks.
    matrix = jacobian(lambda x: added(x, GRAPHS, 2), x)
    assert_equal(matrix, matrix.T)
    assert torch.linalg.eigvalsh(matrix).min() > 1 - 1e-12


def test_tasks_choose_the_pools_and_the_exponent() -> None:
    make = gn.GeometricNorm.for_task
    assert repr(make(IRREPS)) == f"GeometricNorm({IRREPS!r})"
    shape = make(gn.Vectors(1), "sample", scale_matters=False, shift_matters=False, eps=0.0, bias=False)
    batch, x = batch_and_features(3)
    x = x.float()
    moved = 3 * x + torch.randn(len(SIZES), 3)[batch]
    kept = torch.bincount(batch)[batch] > 1
    torch.testing.assert_close(shape(moved, batch)[kept], shape(x, batch)[kept], rtol=1e-3, atol=1e-4)
    intensive = make(8, "sample", scale_matters=False, eps=0.0, bias=False)
    x = torch.randn(NODES, 8)
    torch.testing.assert_close(intensive(3 * x, batch), intensive(x, batch))
    assert (intensive(x + 1, batch) - intensive(x, batch)).abs().max() > 0.1


# Mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": "bx"}, r"\(M\) the mean over Axes\('bx'\) carries a vector .* from one sample to another"),
        ({"mean": "xvm"}, r"\(M\) the mean over Axes\('xvm'\) pools the components"),
        ({"mean": "x", "level": "node"}, r"\(M\) the mean over Axes\('x'\) carries a vector between nodes"),
        ({"scale": "x"}, r"\(S\) the scale over Axes\('x'\) is different for each component"),
        ({"scale": "xm", "statistic": "own"}, r"\(S\) a variance about the mean over Axes\('xm'\)"),
        ({"scale": {"0e": "v", "rest": "v"}}, r"\(S\) the scale over Axes\('v'\)"),
        ({"mean": {"3o": "x"}}, "mean names '3o', expected some of '0e', '0o', '1o', '2e', 'rest'"),
        ({"exponent": {"0e": 0.5}}, "exponent says nothing of 0o: name it, or give a value for 'rest'"),
        ({"mean": {"1o": "x"}, "scale": "xvtm"}, "share the scale over 'xvtm' but not the mean"),
        ({"alpha": 1.5}, "alpha is 1.5, expected numbers from 0 to 1"),
        ({"exponent": -0.5}, "exponent is -0.5, expected numbers from 0"),
        ({"exponent": 1.0, "learn_exponent": True}, "to be learned it must start strictly between 0 and 1"),
        ({"source": "mean"}, "source is 'mean', expected one of 'batch', 'running', 'constant', 'count'"),
        ({"source": "running"}, r"running statistics need a statistic over nodes: add x"),
        ({"source": "constant", "scale": "bxm", "constant": 0}, "constant is 0, expected a positive number"),
        ({"source": "count", "mean": "x"}, "source 'count' divides by a power of a number of nodes"),
        ({"source": "count", "statistics": True}, "source 'count' removes nothing"),
        ({"mode": "polar"}, "mode is 'polar', expected one of 'direct', 'product', 'pair'"),
        ({"mode": "pair", "mean": {"0e": "v"}}, "mean cannot differ between types"),
        ({"mode": "product", "length_eps": 0}, "'product' the lengths are divided by and length_eps must be positive"),
        ({"residual": -1}, "residual is -1 in mode 'direct': expected a number >= 0"),
        ({"mode": "pair", "residual": 1}, "residual is 1 in mode 'pair'"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with refused(message):
        gn.GeometricNorm(IRREPS, **settings)


def test_wrong_calls_are_refused() -> None:
    x = torch.randn(4, 8)
    with refused(r"counts have shape \[4\] and the source is 'batch'"):
        gn.GeometricNorm(8)(x, None, None, torch.ones(4))
    with refused(r"counts have shape \[3\] and the source is 'count': expected one number for each node, \[4\]"):
        gn.GeometricNorm(8, source="count")(x, None, None, torch.ones(3))
    with refused("the source is 'batch' and there are 1 batches"):
        gn.GeometricNorm(8).fit([x])
    with refused("the source is 'constant' and there are 0 batches"):
        gn.GeometricNorm(8, source="constant", scale="bx").fit([])
    with refused("only the formula itself is inverted"):
        gn.GeometricNorm(8, residual=1.0).inverse(x, PoolStatistics(x, x))
    with refused("locality is 'graph', expected 'node' or 'sample'"):
        gn.GeometricNorm.for_task(8, "graph")
    with refused("a shift that all nodes of a sample share can be removed only where a node sees the others"):
        gn.GeometricNorm.for_task(8, shift_matters=False)


def test_it_is_found_by_name_and_stands_in_neither_table() -> None:
    assert repr(gn.make("geometric_norm", 8, exponent=0.3)) == "GeometricNorm(8, exponent=0.3)"
    assert gn.table.find("GeometricNorm").layer is gn.GeometricNorm
    assert "GeometricNorm" not in [*gn.TABLE1, *gn.AFTER_2022]


def test_the_default_is_a_geometric_match_for_every_task() -> None:
    with untyped():
        report = gn.check(gn.GeometricNorm("4x0e+2x1o", dtype=torch.float64), inputs="4x0e+2x1o", task=gn.tasks.FORCES)
    assert report.matched, report
    assert report.level == gn.table.find("GeometricNorm").properties.rotation == "node"
    assert not report.added
