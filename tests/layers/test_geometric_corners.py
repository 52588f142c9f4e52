"""Every row of the tables that the general form covers is a setting of it: the same function, state for state."""

from collections.abc import Callable, Iterator

import pytest
import torch
from layers.peers import assert_equal, ragged_batch, randomize, refused
from torch import Tensor, nn
from untyped import untyped

import geonorm as gn
from geonorm.layers.corners import ALSO, CORNERS, NEEDS, OUTSIDE
from geonorm.layers.fields import Features
from geonorm.table.row import Row

ROWS = {
    each.name: each
    for table in (gn.TABLE1, gn.AFTER_2022)
    for row in table.values()
    for each in (row, *row.variants.values())
}
#: What a row that takes these is given: the names of the properties of the tables.
FEATURES: dict[str, list[Features]] = {
    "scalars": [4],
    "vectors": [4, "2x1o+2x1e"],
    "scalars and vectors": [4, "3x0e+2x1o"],
    "irreps": [4, gn.Vectors(4), "2x0e+2x0o+2x1o+1x1e+2x2e"],
}
#: Rows that are declared on scalars and take irreps too.
MORE = ("PairNorm", "MeanSubtractionNorm", "GraphSizeNorm", "SchNet", "Allegro / MACE", "MACE")
SIZES = (5, 1, 4, 3)
NODES = sum(SIZES)
#: The constant by which rows divide, and what else a row and its corner are told.
ROW_NEEDS = {"GroupNorm": {"num_groups": 2}, "FilterResponseNorm": {"threshold": False}}


def cases() -> Iterator[pytest.param]:
    for name in CORNERS:
        row = ROWS[name]
        for features in [*FEATURES[row.features], *(["2x0e+2x1o"] if name in MORE else [])]:
            yield pytest.param(row, features, id=f"{name}-{features}")


def pair(row: Row, features: Features) -> tuple[nn.Module, gn.GeometricNorm]:
    """The layer of a row, with random parameters, and the corner with the same."""
    needs = {name: value for name, value in row.needs.items() if name != "avg_num_neighbors"}
    if "avg_num_neighbors" in row.needs:
        needs["avg_num_neighbors"] = 7.0
    theirs = randomize(row.make(features, **{**needs, **ROW_NEEDS.get(row.name, {})}, dtype=torch.float64))
    if row.name == "ScaleFactor":
        theirs.set(1 / 7)
    changes = {NEEDS[row.name]: {"channel_groups": 2, "constant": 7.0}[NEEDS[row.name]]} if row.name in NEEDS else {}
    ours = gn.GeometricNorm.like(row.name, features, **changes, dtype=torch.float64)
    for name, value in parameters(theirs).items():
        copy_into(parameters(ours)[name], value)
    return theirs, ours


def parameters(layer: nn.Module) -> dict[str, list[Tensor]]:
    """What is learned, by the last word of its name; of a general layer from part to part."""
    found: dict[str, list[Tensor]] = {}
    for name, value in layer.named_parameters():
        word = {"kappa": "softness"}.get(name.split(".")[-1], name.split(".")[-1])
        if not name.startswith("phi"):  # what DensityNorm learns makes the number, it does not divide by it
            found.setdefault(word, []).append(value)
    return {} if isinstance(layer, gn.DensityNorm) else found


@torch.no_grad()
def copy_into(targets: list[Tensor], values: list[Tensor]) -> None:
    for target, part in zip(targets, torch.cat(values).split([len(each) for each in targets]), strict=True):
        target.copy_(part)


def buffers(layer: nn.Module) -> dict[str, Tensor]:
    """Running statistics, by the last word of their names."""
    return {name.split(".")[-1]: value for name, value in layer.named_buffers() if "running" in name}


def calls(row: Row, theirs: nn.Module, ours: nn.Module) -> tuple[Callable, Callable]:
    """Both as functions of the features and of the batch."""
    if row.name == "SchNet":
        counts = torch.randint(0, 6, (NODES,))
        return lambda x, batch: theirs(x, counts), lambda x, batch: ours(x, batch, len(SIZES), counts)
    if row.name == "DensityNorm":
        distances, receivers = 4 * torch.rand(30, dtype=torch.float64), torch.randint(0, NODES, (30,))
        counts = 1 + theirs.density(distances, receivers, NODES).detach()
        return lambda x, batch: theirs(x, distances, receivers), lambda x, batch: ours(x, batch, len(SIZES), counts)
    takes_batch = row.acts_on == "features" and row.name != "ScaleFactor"
    alone = (lambda x, batch: theirs(x, batch, len(SIZES))) if takes_batch else lambda x, batch: theirs(x)
    return alone, lambda x, batch: ours(x, batch, len(SIZES))


def everything(layer: nn.Module, call: Callable, x: Tensor, batch: Tensor) -> dict[str, Tensor]:
    """The output, gradients of the features and of what is learned, and second derivatives."""
    x = x.detach().requires_grad_()
    y = call(x, batch)
    y = torch.cat([part.flatten(1) for part in y], 1) if isinstance(y, tuple) else y.flatten(1)
    learned = parameters(layer)
    leaves = [x, *(value for values in learned.values() for value in values)]
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    gradients = torch.autograd.grad((y.sin() * weights).sum(), leaves, create_graph=True)
    second = torch.autograd.grad((gradients[0].sin() * weights.flatten()[0]).sum(), leaves, allow_unused=True)
    found = {"output": y.detach(), "gradient of x": gradients[0].detach(), "second derivative of x": second[0]}
    for kind, values in (("gradient", gradients), ("second derivative", second)):
        rest = iter(values[1:])
        for name, several in learned.items():
            taken = [next(rest) for _ in several]
            zeros = [
                torch.zeros_like(one) if value is None else value for value, one in zip(taken, several, strict=True)
            ]
            found[f"{kind} of {name}"] = torch.cat(zeros).detach()
    return found


@pytest.mark.parametrize(("row", "features"), list(cases()))
def test_a_corner_is_the_layer_of_its_row(row: Row, features: Features) -> None:
    theirs, ours = pair(row, features)
    assert parameters(ours).keys() == parameters(theirs).keys(), "they learn other things"
    one, other = calls(row, theirs, ours)
    batch = ragged_batch(SIZES, shuffled=True)
    width = ours.fields.dim
    shape = (NODES, 4, 3) if ours.fields.block and not isinstance(features, str) else (NODES, width)
    with untyped():
        for training in (True, True, False):  # two steps move the buffers
            x = (2 * torch.randn(NODES, width, dtype=torch.float64) + 0.4).view(shape)
            theirs.train(training)
            ours.train(training)
            given, expected = everything(ours, other, x, batch), everything(theirs, one, x, batch)
            assert given.keys() == expected.keys()
            for name, value in expected.items():
                assert_equal(given[name], value, f"{name}, {'training' if training else 'evaluation'}", 1e-11)
            if ours.source == "running":
                for name, value in buffers(theirs).items():
                    assert_equal(buffers(ours)[name], value, name)


def test_every_row_of_the_tables_is_a_corner_or_named_as_none() -> None:
    assert set(CORNERS) | set(OUTSIDE) == set(ROWS)
    assert not set(CORNERS) & set(OUTSIDE)


def test_the_other_names_are_those_of_the_tables() -> None:
    for name, corner in ALSO.items():
        assert gn.table.find(name).name == corner


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_no_corner_says_why(name: str) -> None:
    with refused(f"{name} is no corner of the general form: it"):
        gn.GeometricNorm.like(name, 4)


def test_a_corner_is_found_by_any_name_and_a_wrong_name_meets_the_nearest() -> None:
    assert repr(gn.GeometricNorm.like("graph_norm", 4)) == repr(gn.GeometricNorm.like("GraphNorm", 4))
    assert repr(gn.GeometricNorm.like("RotEqNet", 4)) == repr(gn.GeometricNorm.like("vector_field_norm", 4))
    with refused("no row of the tables is called 'GrafNorm': try 'GraphNorm'"):
        gn.GeometricNorm.like("GrafNorm", 4)


def test_a_corner_made_for_scalars_refuses_what_rotates() -> None:
    with refused("a running mean of features that rotate points in a fixed direction"):
        gn.GeometricNorm.like("BatchNorm", "2x0e+2x1o")
    with refused(r"\(M\) the mean over Axes\('bx'\) carries a vector"):
        gn.GeometricNorm.like("BatchNorm", "2x0e+2x1o", source="batch")
    with refused(r"\(M\) the mean over Axes\('x'\) carries a vector between nodes"):
        gn.GeometricNorm.like("PairNorm", "2x0e+2x1o", level="node")
    with refused(r"\(S\) the scale over Axes\('x'\)"):
        gn.GeometricNorm.like("InstanceNorm", "2x1o")


@pytest.mark.parametrize("features", [4, gn.Vectors(4)], ids=str)
def test_more_readings_of_published_layers_are_corners(features: Features) -> None:
    # PairNorm of every row by itself, of a row norm of two, and the divisor of the survey's text on Case 3.
    x, batch = 2 * torch.randn(NODES, 4 * (1 if features == 4 else 3), dtype=torch.float64), ragged_batch(SIZES)
    like = gn.GeometricNorm.like
    individually = like("PairNorm", features, scale="vtm", dtype=torch.float64)
    assert_equal(individually(x, batch), gn.PairNorm(features, scale_individually=True)(x, batch))
    longer = like("PairNorm", features, gain=True, bias=False, dtype=torch.float64)
    nn.init.constant_(longer.parts[0].weight, 2.0)
    assert_equal(longer(x, batch), gn.PairNorm(features, 2.0)(x, batch))
    if features != 4:
        spread = gn.GeometricNorm(
            features, scale="bx", statistic="own", exponent=1.0, mode="product", bias=False, dtype=torch.float64
        )
        assert_equal(spread(x, batch), gn.VectorFieldNorm(4, center_magnitude=True).double()(x, batch))


def test_eqgat_as_coded_has_an_exponent_of_two() -> None:
    # Its released code divides by mean squares without the root: sizes are inverted, not removed.
    layer = gn.GeometricNorm(4, scale="xv", exponent=2.0, eps=0.0, gain=False, bias=False, dtype=torch.float64)
    x = torch.randn(NODES, 4, dtype=torch.float64)
    assert_equal(layer(3 * x), layer(x) / 3)
    assert_equal(layer(x), x / x.square().mean())
