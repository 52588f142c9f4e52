"""The checker: layers broken on purpose are found out, right ones pass, and neither depends on luck."""

import pytest
import torch
from match.broken import BROKEN, RIGHT

import geonorm as gn
from geonorm.match.check import check
from geonorm.match.tasks import ENERGY, IMAGE_STYLE, POINT_CLOUD_CLASS, Task

every_broken = pytest.mark.parametrize("name", BROKEN)
every_right = pytest.mark.parametrize("name", RIGHT)


@every_broken
def test_a_broken_layer_is_found_out_and_its_fault_named(name: str) -> None:
    layer, inputs, broken, added, level = BROKEN[name]
    report = check(layer, inputs)
    assert not report.matched
    assert set(report.broken) == broken
    assert set(report.added) == added
    assert report.level == level


@every_right
def test_a_right_layer_passes(name: str) -> None:
    layer, inputs = RIGHT[name]
    report = check(layer, inputs)
    assert report.matched, str(report)
    assert report.level == "node"
    assert not report.couples
    assert not report.confuses


@every_broken
def test_the_verdict_on_a_broken_layer_does_not_depend_on_the_seed(name: str) -> None:
    layer, inputs, broken, added, level = BROKEN[name]
    for seed in range(50):
        report = check(layer, inputs, seed=seed)
        assert (set(report.broken), set(report.added), report.level) == (broken, added, level), seed


# 9 nodes of 8 scalar channels in two samples: what each layer loses, in closed form
COUNTS = {
    "BatchNorm": (gn.BatchNorm(8), 8 + 8),
    "LayerNorm, graph": (gn.LayerNorm(8), 2 + 2),
    "LayerNorm, node": (gn.LayerNorm(8, mode="node"), 9 + 9),
    "InstanceNorm": (gn.InstanceNorm(8), 16 + 16),
    "GroupNorm": (gn.GroupNorm(8, 2), 4 + 4),
    "FilterResponseNorm": (gn.FilterResponseNorm(8, threshold=False), 16),
    "VarianceNorm, std": (gn.VarianceNorm(8), 8),
    "VarianceNorm, rms": (gn.VarianceNorm(8, statistic="rms"), 8),
    "GraphNorm": (gn.GraphNorm(8), 16 + 16),
    "PairNorm": (gn.PairNorm(8), 16 + 2),
    "MeanSubtractionNorm": (gn.MeanSubtractionNorm(8), 16),
    "SetNorm": (gn.SetNorm(8), 2 + 2),
    "GraphSizeNorm": (gn.GraphSizeNorm(8), 0),
    "DiffGroupNorm": (gn.DiffGroupNorm(8, 2), 0),
    "AverageNeighborNorm": (gn.AverageNeighborNorm(8, 10.0), 0),
    "RMSNorm": (gn.RMSNorm(8), 9),
    "DynamicTanh": (gn.DynamicTanh(8), 0),
}
VECTOR_COUNTS = {
    "QuaternionNorm, channel": (gn.QuaternionNorm(4), 4),
    "QuaternionNorm, sample": (gn.QuaternionNorm(4, mode="sample"), 2),
    "VectorPerceptronNorm": (gn.VectorPerceptronNorm(4), 9),
    "EGANNorm": (gn.EGANNorm(4), 2),
    "VectorNeuronNorm": (gn.VectorNeuronNorm(4), 4 + 4),
    "VectorFieldNorm": (gn.VectorFieldNorm(4), 4),
    "FieldNorm": (gn.FieldNorm("4x1o"), 36),
    "PairNorm": (gn.PairNorm("4x1o"), 24 + 2),
}


@pytest.mark.parametrize(
    ("layer", "inputs", "expected"),
    [
        *(pytest.param(layer, "8x0e", count, id=name) for name, (layer, count) in COUNTS.items()),
        *(
            pytest.param(layer, "4x1o", count, id=f"{name} on vectors")
            for name, (layer, count) in VECTOR_COUNTS.items()
        ),
    ],
)
def test_what_is_lost_in_training_has_the_dimension_of_the_closed_form(layer, inputs: str, expected: int) -> None:
    report = check(layer, inputs)
    assert report.states[0].removed.dimension == expected
    assert report.states[0].removed.unnamed == 0


@pytest.mark.parametrize(
    ("layer", "normal", "independent", "injective"),
    [
        pytest.param(gn.BatchNorm(8), True, False, True, id="BatchNorm"),
        pytest.param(gn.LayerNorm(8), True, True, False, id="LayerNorm"),
        pytest.param(gn.SetNorm(8), True, True, False, id="SetNorm"),
        pytest.param(gn.InstanceNorm(8), True, True, False, id="InstanceNorm"),
        pytest.param(gn.AverageNeighborNorm(8, 10.0), False, True, True, id="a constant"),
        pytest.param(gn.BatchNorm(8).eval(), True, False, True, id="BatchNorm, whose mode is set here"),
    ],
)
def test_of_normalization_independence_and_distinction_two_hold(layer, normal, independent, injective) -> None:
    report = check(layer, "8x0e")
    assert (bool(report.added), not report.couples, not report.confuses) == (normal, independent, injective)
    assert not (report.added and not report.couples and not report.confuses)


def test_a_task_may_declare_an_invariance_irrelevant() -> None:
    layer = gn.InstanceNorm(8)
    assert not check(layer, "8x0e").matched
    report = check(layer, "8x0e", task=IMAGE_STYLE)
    assert report.matched, str(report)
    assert report.states[0].removed.irrelevant == {"shift per (sample, channel)": 16, "scale per (sample, channel)": 16}
    own = Task("own", respects=["node permutation"], irrelevant=["shift per (sample, channel)"])
    assert set(check(layer, "8x0e", task=own).added) == {"scale per (sample, channel)"}


def test_what_is_declared_per_channel_covers_what_is_lost_of_all_channels() -> None:
    assert check(gn.SetNorm(8), "8x0e", task=IMAGE_STYLE).matched


def test_pair_norm_of_raw_coordinates_suits_point_clouds_and_not_energies() -> None:
    layer = gn.PairNorm("1x1o")
    report = check(layer, "1x1o", task=POINT_CLOUD_CLASS, coordinates=True)
    assert report.matched, str(report)
    assert not report.confuses
    assert report.states[0].removed.irrelevant == {"translation per sample": 6, "scale per sample": 2}
    assert report.states[0].errors["translation"] < 1e-12
    assert check(layer, "1x1o", task=ENERGY, coordinates=True).added == {"scale per sample": 2}
    # As features, the same numbers have no place in space, and to lose their mean is a loss.
    assert check(layer, "1x1o", task=ENERGY).added == {"shift per (sample, channel)": 6, "scale per sample": 2}


def test_a_bias_on_pseudoscalars_breaks_the_inversion_alone() -> None:
    report = check(lambda x: x + 1, "4x0o")
    assert set(report.broken) == {"inversion"}
    assert report.level == "node"


def test_a_layer_that_feels_where_the_molecule_is_breaks_translation() -> None:
    report = check(gn.VectorPerceptronNorm(1), "1x1o", coordinates=True)
    assert report.broken["translation"] > 1e-2
    moved_along = check(lambda x: 1.0 * x, "1x1o", coordinates=True)
    assert moved_along.states[0].errors["translation"] < 1e-12


def test_a_count_taken_over_the_batch_couples_samples_although_it_has_no_derivative() -> None:
    def divided_by_how_many_are_positive(x, batch):
        return x / (1 + (x > 0).sum())

    for seed in range(20):
        report = check(divided_by_how_many_are_positive, 4, seed=seed)
        assert report.couples
        assert set(report.broken) == {"sample independence"}


def test_a_layer_that_divides_by_the_number_of_all_nodes_couples_samples() -> None:
    report = check(lambda x: x / len(x) ** 0.5, 4)
    assert report.couples
    assert set(report.broken) == {"sample independence"}
    assert not check(gn.GraphSizeNorm(4), 4).couples


def test_a_function_of_graphs_that_it_already_holds_is_checked_all_the_same() -> None:
    neighbours = torch.tensor([1, 2, 3, 0, 5, 6, 7, 8, 4])

    def first_neighbour(x):
        return x + x[neighbours] * (x + 0).reshape(9, -1)

    assert not check(first_neighbour, 4).couples
    assert not check(first_neighbour, 4).confuses


def test_a_count_taken_over_the_sample_couples_nothing() -> None:
    def divided_by_how_many_are_positive(x, batch):
        positive = x.new_zeros(int(batch.max()) + 1).index_add(0, batch, (x > 0).sum(1).to(x.dtype))
        return x / (1 + positive)[batch, None]

    assert not check(divided_by_how_many_are_positive, 4).couples


def test_training_and_evaluation_are_two_functions() -> None:
    report = check(gn.BatchNorm(8), "8x0e")
    training, evaluation = (s for s in report.states if s.name in ("training", "evaluation after updates"))
    assert training.errors["sample independence"] > 0.1
    assert evaluation.errors["sample independence"] == 0
    assert evaluation.added == {}


@pytest.mark.parametrize("layout", ["flat", "vectors"])
def test_vectors_may_come_with_their_components_as_an_axis(layout: str) -> None:
    shapes = []

    def layer(x: torch.Tensor) -> torch.Tensor:
        shapes.append(x.shape[1:])
        return 2 * x

    assert check(layer, "4x1o", vectors=layout == "vectors").matched
    assert set(shapes) == {(4, 3) if layout == "vectors" else (12,)}


def test_a_readout_per_sample_is_checked_too() -> None:
    def energy(x: torch.Tensor, batch: torch.Tensor, batch_size: int) -> torch.Tensor:
        lengths = x.reshape(len(x), -1, 3).square().sum((1, 2))
        return x.new_zeros(batch_size).index_add(0, batch, lengths)[:, None]

    report = check(energy, "4x1o", outputs="1x0e")
    assert not report.broken
    assert not report.couples
    assert report.level == "sample"
    # Of whole families a sum of squares forgets how each vector lies; that the sample lies somehow is allowed.
    assert report.added == {"rotation per (node, field)": 66, "reversal per (node, field)": 0}
    assert report.states[0].removed.irrelevant == {"rotation per sample": 6}


def test_the_report_is_text_html_and_data() -> None:
    report = check(gn.BatchNorm(8), "8x0e")
    text = str(report)
    assert text.startswith("BatchNorm(8) on 8x0e is not a geometric match for the task 'energy'")
    assert "sample independence" in text
    assert "shift per channel: 8 directions" in text
    assert "<caption" in report._repr_html_()
    data = report.to_dict()
    assert data["matched"] is False
    assert data["added"] == {"shift per channel": 8, "scale per channel": 8}
    assert data["states"][0]["name"] == "training"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": "8x0e", "sizes": (9,)}, "expected two samples or more"),
        ({"inputs": "8x0e", "vectors": True}, "are no vectors: with vectors=True give '16x1o'"),
        ({"inputs": "8y0e"}, "neither a number of scalar channels nor irreps"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(gn.BatchNorm(8), **arguments)


def test_a_task_of_ones_own_is_read_or_refused() -> None:
    with pytest.raises(ValueError, match="respects 'rotations', expected some of 'node permutation'"):
        Task("mine", respects=["rotations"])
    with pytest.raises(ValueError, match="'stretch per node' is no change of features: write for example"):
        Task("mine", respects=[], irrelevant=["stretch per node"])
