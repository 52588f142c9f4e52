"""The program that looks for equal layers finds those that are equal by their formulas, and no others."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from geonorm.table import AFTER_2022, TABLE1, Row
from geonorm.table.readings import SETTINGS, SHAPES, Draw, readings
from geonorm.table.twins import Twins, constant_factor, factor_in_words, find_twins

ROWS = (*TABLE1.values(), *AFTER_2022.values())
FOUND = find_twins(ROWS)

# By their formulas, with what the output of the first is multiplied by to give the others.
EQUAL = [
    ("scalars", {"SetNorm": 1, "LayerNorm (graph)": 1, "GroupNorm (one group)": 1, "EGAN": 1}),
    ("scalars", {"InstanceNorm": 1, "GroupNorm (a group per channel)": 1, "GraphNorm (α = 1)": 1}),
    ("scalars", {"InstanceNorm": 1, "EquivariantInstanceNorm": 1, "EquivariantGraphNorm (α = 1)": 1}),
    ("scalars", {"LayerNorm (node)": 1, "Vector Perceptron": 1, "EquivariantLayerNorm": 1}),
    ("scalars", {"FilterResponseNorm (linear part)": 1, "GraphNorm (α = 0)": 1}),
    ("scalars", {"BatchNorm": 1, "EquivariantBatchNorm": 1}),
    ("scalars", {"Allegro": 1, "MACE": 12**-0.5}),
    ("vectors", {"Vector Field": 1, "Quaternion (per channel)": 1, "EquivariantBatchNorm": 1}),
    ("vectors", {"Vector Field": 1, "VarianceNorm (RMS, components as nodes)": 1}),
    ("vectors", {"Vector Field": 1, "Vector Field (RMS of lengths)": 3**-0.5}),
    ("vectors", {"EGAN": 1, "Quaternion (per sample)": 3**0.5}),
    ("vectors", {"Vector Perceptron": 1, "EquivariantLayerNorm": 3**0.5, "RMSNorm": 3**0.5}),
    ("vectors", {"EquivariantInstanceNorm": 1, "GraphNorm (α = 0, components as nodes)": 1}),
    ("irreps", {"EquivariantInstanceNorm": 1, "EquivariantGraphNorm (α as it starts)": 1}),
]
# Of a form, but not equal: other axes, another statistic, or equal on a single type only.
DIFFERENT = [
    ("scalars", "LayerNorm (graph)", "LayerNorm (node)"),
    ("scalars", "GroupNorm (two groups)", "LayerNorm (graph)"),
    ("scalars", "VarianceNorm (RMS)", "VarianceNorm (deviation)"),
    ("scalars", "PairNorm", "LayerNorm (graph)"),
    ("scalars", "GraphSizeNorm", "MACE"),
    ("scalars", "RMSNorm", "EquivariantRMSNorm"),
    ("vectors", "Quaternion (per channel)", "Vector Perceptron"),
    ("vectors", "Quaternion (per channel)", "Quaternion (per sample)"),
    ("vectors", "Vector Field", "VarianceNorm (deviation, components as nodes)"),
    ("vectors", "Vector Field", "Vector Field (deviation of lengths)"),
    ("irreps", "EquivariantLayerNorm", "SeparableLayerNorm"),
    ("irreps", "SeparableLayerNorm", "EquivariantRMSNorm"),
]


def group_of(on: str, name: str) -> Twins | None:
    return next((twins for twins in FOUND if twins.on == on and name in twins), None)


def factor_of(twins: Twins, name: str) -> float:
    return next(f for reading, f in zip(twins.members, twins.factors, strict=True) if reading.name == name)


@pytest.mark.parametrize(("on", "factors"), EQUAL, ids=[f"{on}: {' = '.join(factors)}" for on, factors in EQUAL])
def test_layers_that_are_equal_by_their_formulas_are_found(on: str, factors: dict[str, float]) -> None:
    first, *_ = factors
    twins = group_of(on, first)
    assert twins is not None
    for name, factor in factors.items():
        assert name in {reading.name for reading in twins.members}
        assert factor_of(twins, name) / factor_of(twins, first) == pytest.approx(factor, abs=1e-9)


@pytest.mark.parametrize(("on", "first", "second"), DIFFERENT)
def test_layers_that_differ_are_not_found(on: str, first: str, second: str) -> None:
    names = {reading.name for reading in readings(ROWS, on)}
    assert {first, second} <= names, "both are compared"
    twins = group_of(on, first)
    assert twins is None or second not in {reading.name for reading in twins.members}


def test_only_constants_pass_for_constants() -> None:
    (twins,) = [twins for twins in FOUND if twins.constant]
    assert {"Allegro / MACE", "ScaleFactor"} <= {row.name for row in twins.rows}


def test_groups_have_two_rows_or_more_the_oldest_first_and_no_rounding_is_needed() -> None:
    for twins in FOUND:
        years = [reading.row.year for reading in twins.members]
        assert years == sorted(years)
        assert len(twins.rows) >= 2
        assert twins.error < 1e-14
        assert twins.factors[0] == pytest.approx(1, abs=1e-15)


def test_on_vectors_no_group_repeats_what_holds_of_scalars() -> None:
    for twins in FOUND:
        assert any(not reading.components for reading in twins.members)
    assert find_twins([TABLE1["SetNorm"], TABLE1["LayerNorm"]])[1:] == []


@pytest.mark.parametrize("seed", [10, 20])
def test_other_random_numbers_find_the_same(seed: int) -> None:
    assert [repr(twins) for twins in find_twins(ROWS, seed=seed)] == [repr(twins) for twins in FOUND]


class PerBatch(nn.Module):
    """One divisor for a whole batch: on a single batch nobody can tell it from a constant."""

    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.square().mean().sqrt()


def invented(layer: type[nn.Module]) -> Row:
    return replace(TABLE1["InstanceNorm"], name=layer.__name__, aliases=(), layer=layer)


def test_a_divisor_of_the_batch_is_no_constant() -> None:
    rows = [TABLE1["Allegro / MACE"], invented(PerBatch)]
    (twins,) = find_twins(rows, draws=1)
    assert "PerBatch" in twins
    assert find_twins(rows, draws=2) == []


class Nothing(PerBatch):
    """Zero is every other layer times a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x


class Overflow(PerBatch):
    """Infinity compares with nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0


def test_layers_without_an_output_are_left_out() -> None:
    assert find_twins([TABLE1["InstanceNorm"], invented(Nothing), invented(Overflow)]) == []


class Doubled(PerBatch):
    """A constant of another sign."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -2 * x


def test_factors_are_relative_to_the_oldest_layer() -> None:
    allegro = TABLE1["Allegro / MACE"]
    (twins,) = find_twins([replace(allegro, year=2030), invented(Doubled)])
    assert twins.rows[0].name == "Doubled"
    assert factor_of(twins, "Allegro") == pytest.approx(-0.5 / 12**0.5)
    assert repr(twins) == ("Twins on scalars: Doubled, Allegro × -1/√48, MACE × -0.0417")


def test_every_row_on_features_is_read_and_every_setting_names_a_layer() -> None:
    read = {reading.row.name for on in SHAPES for reading in readings(ROWS, on)}
    silent = [row.name for row in ROWS if row.name not in read]
    assert silent == [row.name for row in ROWS if row.acts_on == "weights" or row.features == "tensors"]
    layers = [each.layer.__name__ for row in ROWS for each in (row, *row.variants.values())]
    assert set(SETTINGS) <= set(layers)


def test_reading_a_layer_leaves_the_random_numbers_of_torch_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    find_twins([TABLE1["DiffGroupNorm"]])
    assert torch.equal(torch.rand(2), expected)


def test_components_as_nodes_is_the_layer_on_a_larger_sample() -> None:
    draw = Draw.random("vectors", 0)
    (reading,) = [each for each in readings([TABLE1["InstanceNorm"]], "vectors") if each.components.endswith("nodes")]
    y = reading(draw)
    for sample in range(4):
        pool = draw.x[draw.beside["batch"] == sample]
        expected = (pool - pool.mean((0, 2), keepdim=True)) / pool.std((0, 2), correction=0, keepdim=True)
        torch.testing.assert_close(y[draw.beside["batch"] == sample], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1.0, "1"), (2.0, "2"), (-1.0, "-1"), (3**0.5, "√3"), (1 / 3**0.5, "1/√3"), (12**-0.5, "1/√12"), (0.7, "0.7")],
)
def test_constants_are_written_as_roots_where_they_are_roots(factor: float, words: str) -> None:
    assert factor_in_words(factor) == words


def test_the_constant_between_two_tensors() -> None:
    torch.manual_seed(0)
    a = torch.randn(50, dtype=torch.float64)
    factor, error = constant_factor(a, -3 * a)
    assert (factor, error) == (pytest.approx(-3), pytest.approx(0, abs=1e-15))
    assert constant_factor(a, a.square())[1] > 0.5


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="draws is 0"):
        find_twins(ROWS, draws=0)
    with pytest.raises(ValueError, match="expected one of 'scalars', 'vectors', 'irreps'"):
        readings(ROWS, "quaternions")
