"""The guide against the checker: what it recommends passes, what it refuses fails, what it counts is counted."""

import json
import re

import pytest
import torch
from layers.peers import refused
from table.cases import build
from torch import nn

import geonorm as gn
from geonorm.guide import COSTS, feels_distant_parts, recommend, rows
from geonorm.layers.fields import Fields
from geonorm.match import frozen, jacobian, relative_error
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.rows import layer_of, open_thresholds
from geonorm.match.tasks import ENERGY, FORCES, IMAGE_STYLE, POINT_CLOUD_CLASS, TASKS, Task
from geonorm.table import Row

#: Layers with further inputs and those of weights are measured in tests of their own (tests/table).
FURTHER = ("MessageNorm", "SchNet", "DensityNorm", "PerTypeScaleShift", "TypedBatchNorm")
MEASURED = [row for row in rows() if row.acts_on != "weights" and row.name not in FURTHER]
#: The strictest task, and one that does not mind shifts and scales of each sample.
STRICT_AND_LAX = [ENERGY, IMAGE_STYLE]
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
    for task in STRICT_AND_LAX:
        advice = recommend(task, features)[row.name]
        if made is None:
            assert not advice.matched
            continue
        layer, inputs = made
        open_thresholds(layer)
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


@pytest.mark.parametrize("row", [row for row in rows() if row.acts_on != "weights"], ids=lambda row: row.name)
def test_what_a_row_reads_is_what_its_jacobian_feels(row: Row) -> None:
    layer, inputs, _ = layer_of(row, "scalars") or layer_of(row, "vectors")
    # Each type of nodes has to occur in two samples.
    sizes = (4, 5) * (2 if row.name == "TypedBatchNorm" else 1)
    fields, batch, nodes = Fields(inputs), batch_of(sizes), sum(sizes)
    x = generic_features(fields, sizes, 0)
    matrix = jacobian(layer, x, batch, len(sizes)).reshape(nodes, -1, nodes, x.shape[1])
    feels = matrix.abs() > 1e-9
    between, itself = feels.any(3).any(1), torch.eye(nodes, dtype=torch.bool)
    same = batch[:, None] == batch
    cost = COSTS[recommend(ENERGY)[row.name].cost]
    assert between[~same].any() == (cost == "the whole batch, of all processes")
    assert between[same & ~itself].any() == (cost in ("one sample", "the whole batch, of all processes"))
    if row.features == "tensors" or row.layer is gn.EvNorm:
        return  # whose columns are not those of the input
    field = torch.tensor(fields.field_of_column)
    other = feels[range(nodes), :, range(nodes)].any(0)[field[:, None] != field].any()
    if cost == "one node" or COSTS.index(cost) < COSTS.index("one node"):
        assert other == (cost == "one node")


@pytest.mark.parametrize("name", ["LayerNorm", "PairNorm", "InstanceNorm", "GroupNorm", "EGAN", "RMSNorm", "SetNorm"])
@pytest.mark.parametrize(("features", "inputs"), [("scalars", "8x0e"), ("vectors", "8x1o")])
def test_what_is_erased_is_what_the_checker_counts(name: str, features: str, inputs: str) -> None:
    advice = recommend(ENERGY, features)[name]
    wide = 24 if features == "vectors" and advice.row.features == "scalars" else inputs
    layer = build(advice.row, int(wide) if wide == 24 else (8 if advice.row.features == "scalars" else inputs))
    removed = gn.check(layer, inputs, sizes=(4, 5)).states[0].removed
    assert removed.dimension == advice.erases


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_features_of_several_types_need_what_each_type_needs(task: Task) -> None:
    scalars, vectors, both = (recommend(task, kind) for kind in ("scalars", "vectors", "scalars and vectors"))
    for each in both:
        assert not set(vectors[each.row.name].against) - {"features"}, each
        assert not set(scalars[each.row.name].against) - {"features"}, each
    alone = {each.row.name for each in scalars.others} | {each.row.name for each in vectors.others}
    assert {each.row.name for each in both.others} == alone


@pytest.mark.parametrize("name", ["LayerNorm", "PairNorm", "DynamicTanh", "EquivariantLayerNorm", "Allegro / MACE"])
def test_the_checker_agrees_on_irreps(name: str) -> None:
    inputs = "3x0e+1x1o+1x2e"
    advice = recommend(ENERGY, inputs)[name]
    layer = build(advice.row, Fields(inputs).dim if advice.row.features == "scalars" else inputs)
    report = gn.check(layer, inputs)
    assert report.matched == advice.matched, f"{advice}\n{report}"
    assert ("rotation" in report.broken) == ("rotation" in advice.against)
    assert "features" in recommend(ENERGY, inputs)["Quaternion"].against


def test_irreps_say_which_features_they_are() -> None:
    kinds = {
        "scalars": [16, "16x0e"],
        "vectors": ["8x1o", "4x1o+4x1e", gn.Vectors(8)],
        "scalars and vectors": ["8x0e+8x1o"],
        "irreps": ["8x0e+8x1o+8x2e", "8x0o", "4x2e"],
    }
    for kind, examples in kinds.items():
        for example in [kind, *examples]:
            assert recommend(ENERGY, example).features == kind


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


def test_the_cheapest_is_a_constant_and_what_has_a_remark_comes_later() -> None:
    for features in ("scalars", "vectors"):
        matched = recommend(FORCES, features).matched
        assert COSTS[matched[0].cost] == "nothing: a constant"
        keys = [(each.erases, each.cost, len(each.remarks)) for each in matched]
        assert keys == sorted(keys)
    remarks = {each.row.name: each.remarks for each in recommend(FORCES, "vectors")}
    assert "a mean over neighbours forgets how many they are" in remarks["SchNet"]
    assert "large features saturate" in remarks["DynamicTanh"]
    assert "bounds weights, not features" in remarks["WeightNorm"]
    assert "returns lengths and directions apart" in remarks["EvNorm per node"]


def test_a_mean_over_neighbours_forgets_how_many_they_are_and_an_average_does_not() -> None:
    message = torch.randn(1, 4, dtype=torch.float64)
    own, average = gn.NeighborNorm(4), gn.AverageNeighborNorm(4, 12.0)
    assert torch.allclose(own(3 * message, torch.tensor([3])), own(5 * message, torch.tensor([5])))
    assert not torch.allclose(average(3 * message), average(5 * message))


def test_large_features_saturate_where_the_guide_says_so() -> None:
    large = 1e3 * torch.randn(9, 8, dtype=torch.float64)
    layer = gn.DynamicTanh(8, dtype=torch.float64)
    assert torch.allclose(layer(large), layer(2 * large), atol=1e-2)


def test_a_message_that_is_removed_counts_as_erased() -> None:
    lax = Task("direction", respects=["node permutation"], irrelevant=["scale per node"])
    advice = recommend(lax)["MessageNorm"]
    assert advice.matched
    assert advice.erases == 9
    assert "removes scale per node of the messages" in str(advice)


def test_a_task_that_asks_for_the_inversion_alone_is_heard() -> None:
    mirrored = Task("mirrored", respects=["inversion"], irrelevant=["shift per channel", "scale per channel"])
    recommendation = recommend(mirrored, "vectors")
    assert recommendation["BatchNorm"].reasons == ("on vector columns it breaks the inversion",)
    assert recommendation["Quaternion"].matched
    assert "inversion" in gn.check(gn.BatchNorm(12), "4x1o", task=mirrored).broken


def test_the_call_of_every_row_names_a_layer_of_the_library() -> None:
    for advice in recommend(ENERGY).advice:
        name, inside = re.fullmatch(r"gn\.(\w+)\((.*)\)", advice.call).groups()
        assert getattr(gn, name) is advice.row.layer
        assert inside.startswith("linear" if advice.row.acts_on == "weights" else "features")
    assert recommend(ENERGY)["MACE"].call == "gn.AverageNeighborNorm(features, avg_num_neighbors=..., power=1.0)"


def test_the_summary_counts() -> None:
    assert recommend(FORCES).summary.endswith("layers match; none of them takes a statistic of the features")
    assert "; 1 of them takes a statistic of the features (EvNorm per node)" in recommend(FORCES, "vectors").summary
    assert "(LayerNorm, EGAN, SetNorm, …)" in recommend(IMAGE_STYLE).summary


def test_the_recommendation_as_data_and_as_html() -> None:
    recommendation = recommend(FORCES, "vectors")
    data = json.loads(json.dumps(recommendation.to_dict()))
    assert len(data["matched"]) + len(data["others"]) == len(rows())
    assert data["matched"][0]["reads"] == "nothing: a constant"
    assert all(each["reasons"] for each in data["others"])
    page = recommendation._repr_html_()
    assert page.count("<tr>") == len(rows()) + 2
    assert page.index("<details>") < page.index('<td style="text-align: left">BatchNorm</td>')
    assert ">gn.ScaleFactor(<wbr>features)</code>" in page
    assert repr(recommendation) == str(recommendation)


@pytest.mark.parametrize("features", ["edges", None, 2.5])
def test_unknown_features_are_refused(features: object) -> None:
    with refused(f"features are {features!r}, expected 'scalars', 'vectors', 'scalars and vectors', 'irreps', or"):
        recommend(ENERGY, features)
