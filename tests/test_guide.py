"""The guide against the checker: what it recommends passes, what it refuses fails."""

import pytest
import torch
from layers.peers import refused
from table.cases import build, open_thresholds
from torch import nn

import geonorm as gn
from geonorm.guide import feels_distant_parts, recommend, rows
from geonorm.match import frozen, relative_error
from geonorm.match.tasks import ENERGY, FORCES, IMAGE_STYLE, POINT_CLOUD_CLASS
from geonorm.table import Row

#: Layers with further inputs and those of weights are measured in tests of their own (tests/table).
FURTHER = ("MessageNorm", "SchNet", "DensityNorm", "PerTypeScaleShift", "TypedBatchNorm")
MEASURED = [row for row in rows() if row.acts_on != "weights" and row.name not in FURTHER]
#: The strictest task, and one that does not mind shifts and scales of each sample.
TASKS = [ENERGY, IMAGE_STYLE]
every_row = pytest.mark.parametrize("row", MEASURED, ids=lambda row: row.name)


def layer_on(row: Row, features: str) -> tuple[nn.Module, str] | None:
    """The layer of a row on scalars or on vectors, and what its columns are; ``None`` if it takes no such features."""
    if row.features == "tensors" or (row.features == "vectors" and features == "scalars"):
        return None
    if row.features == "scalars":
        return build(row), "12x0e" if features == "scalars" else "4x1o"
    irreps = "8x0e" if features == "scalars" else "4x1o"
    return build(row, irreps), irreps


@pytest.mark.parametrize("features", ["scalars", "vectors"])
@every_row
def test_the_checker_agrees_with_the_guide(row: Row, features: str) -> None:
    made = layer_on(row, features)
    for task in TASKS:
        advice = recommend(task, features)[row.name]
        if made is None:
            assert not advice.matched
            continue
        layer, inputs = made
        open_thresholds(row, layer)
        outputs = "4x0e+4x1o" if row.name.startswith("EvNorm") else None
        report = gn.check(layer, inputs, outputs, task=task)
        assert report.matched == advice.matched, f"{task.name}: {advice}\n{report}"


@every_row
def test_distant_parts_are_felt_where_the_guide_says_so(row: Row) -> None:
    features = "scalars" if row.features in ("scalars", "irreps") else "vectors"
    made = layer_on(row, features)
    if made is None:
        return
    function, generator = frozen(made[0]), torch.Generator().manual_seed(0)
    x = torch.randn(9, 12 if made[1] in ("12x0e", "4x1o") else 8, dtype=torch.float64, generator=generator)
    apart = function(x, torch.tensor([0] * 4 + [1] * 5), 2)
    together = function(x, torch.zeros(9, dtype=torch.long), 1)
    assert (relative_error(apart, together) > 1e-3) == feels_distant_parts(row)


def test_forces_are_left_with_constants_and_layers_that_forget_nothing() -> None:
    """Corollary F: no exact statistic is allowed where every magnitude counts."""
    for features in ("scalars", "vectors"):
        matched = recommend(FORCES, features).matched
        assert matched
        assert all(advice.erases == 0 for advice in matched)
        names = [advice.row.name for advice in matched]
        assert {"Allegro / MACE", "ScaleFactor", "DynamicTanh"} <= set(names)
        assert names.index("ScaleFactor") < names.index("GraphSizeNorm"), "which feels distant parts"


def test_the_order_is_by_what_is_erased_and_then_by_cost() -> None:
    matched = recommend(IMAGE_STYLE).matched
    assert [advice.erases for advice in matched] == sorted(advice.erases for advice in matched)
    assert recommend(POINT_CLOUD_CLASS, "vectors")["Quaternion per sample"].matched


def test_every_row_has_a_verdict_and_every_refusal_a_reason() -> None:
    recommendation = recommend(ENERGY)
    assert len(recommendation.advice) == len(rows()) == len({advice.row.name for advice in recommendation.advice})
    assert all(advice.reasons for advice in recommendation.others)
    text = str(recommendation)
    assert "BatchNorm: in training the samples of a batch depend on each other; it removes shift per channel" in text
    assert "<table" in recommendation._repr_html_()
    assert [advice.row.name for advice in recommendation] == [advice.row.name for advice in recommendation.matched]
    assert recommendation["graph_norm"] is recommendation["GraphNorm"]


def test_unknown_features_are_refused() -> None:
    with refused("features are 'edges', expected 'scalars' or 'vectors'"):
        recommend(ENERGY, "edges")
