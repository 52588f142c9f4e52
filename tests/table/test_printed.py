"""The formulas of Table 1 to the letter, against the published layers."""

import pytest
import torch
from torch import Tensor, nn

from geonorm import LayerNorm
from geonorm.layers.weight import scaled_weight_standardization, spectral_norm, weight_norm
from geonorm.table import AFTER_2022, TABLE1
from geonorm.table.printed import rms_of_vectors, standardized

B, X, V = 3, 5, 4


@pytest.fixture
def a() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(B, X, V, dtype=torch.float64) + torch.tensor([1.0, -2.0, 0.5, 3.0])


@pytest.fixture
def vectors() -> Tensor:
    """A batch of vectors, each channel of each sample with an offset and a scale of its own."""
    torch.manual_seed(0)
    scale = torch.rand(B, 1, V, 1, dtype=torch.float64) + 0.5
    return scale * (torch.randn(B, X, V, 3, dtype=torch.float64) + torch.randn(B, 1, V, 3, dtype=torch.float64))


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 6, bias=False, dtype=torch.float64)


def published(name: str, a: Tensor, **options) -> Tensor:
    return TABLE1.make(name, V, eps=1e-14, dtype=torch.float64, **options)(a)


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-11, atol=1e-11)


def distance(first: Tensor, second: Tensor) -> float:
    return ((first - second).norm() / second.norm()).item()


def permute(a: Tensor) -> Tensor:
    """Give the nodes of every sample another order."""
    return torch.stack([sample[torch.randperm(X)] for sample in a])


def test_every_printed_row_has_a_function_or_a_reason_and_no_other_row_has() -> None:
    for row in TABLE1.values():
        assert (row.printed is not None) == ((row.as_printed is None) != (row.undefined is None)), row.name
    assert [row.name for row in TABLE1.values() if row.undefined] == ["Quaternion", "Vector Perceptron / EGAN"]
    assert all(row.as_printed is row.undefined is None for row in AFTER_2022.values())


def as_published(name: str, a: Tensor, vectors: Tensor, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """An erroneous formula as printed, and the layer as built (GraphNorm at α = 0), at the same input."""
    row = TABLE1[name]
    weight = linear.weight.detach().clone()
    if row.acts_on == "weights":
        further = {"n_power_iterations": 200} if name == "SpectralNorm" else {}
        return row.as_printed(weight), row.make(linear, **further).eval().weight
    if name == "GraphNorm":
        layer = row.make(V, eps=1e-14, dtype=torch.float64)
        nn.init.zeros_(layer.mean_scale)
        return row.as_printed(a, alpha=0.0), layer(a)
    if name == "EvNorm":
        return row.as_printed(vectors)[0], row.make(V, dtype=torch.float64)(vectors)[0]
    if name == "Vector Neuron":
        return row.as_printed(vectors)[0], row.make(V, dtype=torch.float64)(vectors)
    if name == "Allegro / MACE":
        counts = torch.arange(1.0, B * X + 1, dtype=torch.float64).view(B, X)
        layer = row.make(V, counts.mean().item(), dtype=torch.float64)
        return row.as_printed(a, counts), layer(a.flatten(0, 1)).view_as(a)
    return row.as_printed(a), row.make(V, dtype=torch.float64)(a)


@pytest.mark.parametrize("name", [row.name for row in TABLE1.values() if row.verdict == "error"])
def test_where_the_verdict_is_error_the_printed_formula_is_another_function(
    name: str, a: Tensor, vectors: Tensor, linear: nn.Linear
) -> None:
    printed, layer = as_published(name, a, vectors, linear)
    assert distance(printed, layer) > 0.1


def test_the_axis_y_makes_quaternion_norm_per_channel_or_per_sample(vectors: Tensor) -> None:
    make = lambda mode: TABLE1.make("Quaternion", V, mode, eps=1e-14, dtype=torch.float64)  # noqa: E731
    assert close(rms_of_vectors("xvm")(vectors), make("sample")(vectors))
    assert close(rms_of_vectors("bxm")(vectors), make("channel")(vectors))
    # Neither letter is in the print, and the two layers differ.
    assert distance(make("sample")(vectors), make("channel")(vectors)) > 0.05


def test_no_axis_y_makes_the_vector_perceptron_and_one_makes_egan(vectors: Tensor) -> None:
    options = {"vector_eps": 1e-14, "dtype": torch.float64}
    perceptron = TABLE1.make("Vector Perceptron / EGAN", V, **options)(vectors)
    assert close(rms_of_vectors("vm")(vectors), 3**0.5 * perceptron)
    for reading in ("xm", "xvm", "bxm", "bxvm"):
        assert distance(rms_of_vectors(reading)(vectors), 3**0.5 * perceptron) > 0.05, reading
    egan = TABLE1.make("EGAN", V, eps=1e-14, dtype=torch.float64)(vectors)
    assert close(rms_of_vectors("xvm")(vectors), 3**0.5 * egan)
    scalars = torch.randn(B, X, 2, dtype=torch.float64)
    both = TABLE1.make("EGAN", V, scalar_channels=2, eps=1e-14, dtype=torch.float64)((scalars, vectors))
    assert close(both[0], standardized("xv")(scalars))


def test_ev_norm_is_printed_with_statistics_of_neither_kind_and_with_its_direction_right(vectors: Tensor) -> None:
    content, direction = TABLE1["EvNorm"].as_printed(vectors, beta=0.8)
    assert close(content.mean((1, 2)), torch.zeros(B, dtype=torch.float64))
    for statistics, zero_over in (("batch", (0, 1)), ("node", (2,))):
        layer = TABLE1.make("EvNorm", V, statistics, eps=0.0, smoothing=0.0, dtype=torch.float64)
        nn.init.constant_(layer.kappa, 1 / 0.8)
        published_content, published_direction = layer(vectors)
        assert published_content.mean(zero_over).abs().max() < 1e-12
        assert distance(content, published_content) > 0.1
        assert close(direction, published_direction)


def test_the_printed_labels_of_ev_norm_are_crossed(vectors: Tensor) -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    content, direction = TABLE1["EvNorm"].as_printed(vectors)
    turned_content, turned_direction = TABLE1["EvNorm"].as_printed(vectors @ turn.T)
    assert close(turned_content, content), "what is made of the part called positional is invariant"
    assert close(turned_direction, direction @ turn.T), "what is made of the part called invariant rotates"
    assert distance(turned_direction, direction) > 0.1


def test_vector_neuron_is_the_product_of_the_printed_pair(vectors: Tensor) -> None:
    direction, content = TABLE1["Vector Neuron"].as_printed(vectors)
    layer = TABLE1.make("Vector Neuron", V, eps=1e-14, dtype=torch.float64)(vectors)
    assert torch.allclose(direction * content.unsqueeze(3), layer, rtol=1e-5, atol=1e-5)
    assert close(direction.norm(dim=3), torch.ones(B, X, V, dtype=torch.float64))
    assert distance(direction, layer) > 0.5
    assert ((direction * layer).sum(3) < 0).double().mean() > 0.3, "and the layer reverses vectors"


def test_the_missing_layer_is_variance_norm_on_vectors_in_the_reading_that_is_not_printed(vectors: Tensor) -> None:
    vectors = vectors + 1
    options = {"eps": 1e-14, "dtype": torch.float64}
    field = TABLE1.make("Vector Field", V, **options)(vectors)
    as_nodes = vectors.movedim(3, 2).flatten(1, 2)
    back = lambda y: y.unflatten(1, (X, 3)).movedim(2, 3)  # noqa: E731
    by_rms = TABLE1.make("VarianceNorm RMS", V, **options)(as_nodes)
    assert close(field, back(by_rms))
    assert distance(back(TABLE1["VarianceNorm"].as_printed(as_nodes)), field) > 0.05


@pytest.mark.parametrize("name", [row.name for row in TABLE1.values() if row.verdict == "same"])
def test_where_the_verdict_is_same_the_printed_formula_is_the_layer(name: str, a: Tensor) -> None:
    row = TABLE1[name]
    layer = row.make(V, **row.needs, eps=1e-14, dtype=torch.float64)
    arguments = {"projection": layer.assign.T, "s": layer.lamda} if name == "DiffGroupNorm" else {}
    assert close(row.as_printed(a, **arguments), layer(a))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LayerNorm", {"mode": "graph"}),
        ("GroupNorm", {"num_groups": 2}),
        ("FilterResponseNorm", {"threshold": False}),
        ("VarianceNorm", {"statistic": "std"}),
    ],
)
def test_one_reading_of_the_printed_formula_is_the_layer(name: str, options: dict, a: Tensor) -> None:
    assert close(TABLE1[name].as_printed(a), published(name, a, **options))


@pytest.mark.parametrize(
    ("name", "options"),
    [("LayerNorm", {"mode": "node"}), ("FilterResponseNorm", {}), ("VarianceNorm", {"statistic": "rms"})],
)
def test_the_other_reading_is_another_function(name: str, options: dict, a: Tensor) -> None:
    assert distance(TABLE1[name].as_printed(a), published(name, a, **options)) > 0.1


def test_variance_norms_two_readings_agree_where_channel_means_vanish(a: Tensor) -> None:
    centred = a - a.mean((0, 1))
    assert close(TABLE1["VarianceNorm"].as_printed(centred), published("VarianceNorm", centred, statistic="rms"))


def test_weight_norm_is_the_printed_formula_row_by_row(linear: nn.Linear) -> None:
    weight = linear.weight.detach().clone()
    printed = TABLE1["WeightNorm"].as_printed
    assert printed(weight).norm() == pytest.approx(1)
    rows = torch.cat([printed(weight[k : k + 1], g=float(weight[k].norm())) for k in range(len(weight))])
    assert close(weight_norm(linear).weight, rows)


def test_spectral_norm_is_printed_as_a_product(linear: nn.Linear) -> None:
    weight = linear.weight.detach().clone()
    largest = torch.linalg.matrix_norm(weight, 2).item()
    printed = TABLE1["SpectralNorm"].as_printed(weight)
    normalized = spectral_norm(linear, n_power_iterations=200).eval().weight
    assert torch.linalg.matrix_norm(printed, 2).item() == pytest.approx(largest**2)
    assert torch.linalg.matrix_norm(normalized, 2).item() == pytest.approx(1)
    assert close(printed, largest**2 * normalized)


def test_scaled_weight_is_printed_without_the_root_of_the_fan_in(linear: nn.Linear) -> None:
    printed = TABLE1["ScaledWeight"].as_printed(linear.weight.detach().clone())
    normalized = scaled_weight_standardization(linear).weight
    assert torch.allclose(printed.norm(dim=1), torch.full((6,), 5.0, dtype=torch.float64).sqrt())
    assert torch.allclose(normalized.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert close(printed, 5.0**0.5 * normalized)


def test_graph_norm_and_its_print_agree_at_alpha_one_only(a: Tensor) -> None:
    layer = TABLE1.make("GraphNorm", V, eps=1e-14, dtype=torch.float64)
    printed = TABLE1["GraphNorm"].as_printed
    assert close(printed(a), layer(a))
    for alpha in (0.0, 0.5, 2.0):
        nn.init.constant_(layer.mean_scale, alpha)
        assert close(layer(a).square().mean(1), torch.ones(B, V, dtype=torch.float64))
        ratio = (a.mean(1) / a.std(1, correction=0)).square()
        assert close(printed(a, alpha=alpha).square().mean(1), 1 + (1 - alpha) ** 2 * ratio)


def test_pair_norm_as_printed_is_layer_norm_times_s(a: Tensor) -> None:
    printed = TABLE1["PairNorm"].as_printed(a, s=3.0)
    assert close(printed, 3 * published("LayerNorm", a, mode="graph"))
    assert close(printed.square().sum(2).mean(1), torch.full((B,), 9.0 * V, dtype=torch.float64))
    layer = published("PairNorm", a, scale=3.0)
    assert close(layer.square().sum(2).mean(1), torch.full((B,), 9.0, dtype=torch.float64))
    assert layer.mean(1).abs().max() < 1e-12
    assert printed.mean(1).abs().max() > 1


@pytest.mark.parametrize("name", ["MeanSubtractionNorm", "SetNorm"])
def test_statistics_per_node_index_depend_on_the_order_of_nodes_and_couple_samples(name: str, a: Tensor) -> None:
    row = TABLE1[name]
    layer = row.make(V, dtype=torch.float64)
    sorted_by_value = lambda y: y.sort(dim=1).values  # noqa: E731
    permuted = permute(a)
    assert distance(sorted_by_value(row.as_printed(permuted)), sorted_by_value(row.as_printed(a))) > 0.05
    assert close(sorted_by_value(layer(permuted)), sorted_by_value(layer(a)))
    other = a.clone()
    other[1:] += torch.randn_like(other[1:])
    assert distance(row.as_printed(other)[:1], row.as_printed(a)[:1]) > 0.05
    assert torch.equal(layer(other)[:1], layer(a)[:1])


def test_set_norm_corrected_is_layer_norm_over_the_graph(a: Tensor) -> None:
    assert torch.equal(TABLE1.make("SetNorm", V, dtype=torch.float64)(a), LayerNorm(V, dtype=torch.float64)(a))


def test_message_norm_has_lengths_of_nodes_not_over_nodes(a: Tensor) -> None:
    message = torch.randn_like(a)
    layer = TABLE1.make("MessageNorm", V, dtype=torch.float64)
    length = torch.linalg.vector_norm
    assert close(length(layer(a, message), dim=2), length(a, dim=2))
    printed = TABLE1["MessageNorm"].as_printed(a, message)
    assert close(length(printed - a, dim=1), length(a, dim=1))
    assert distance(printed, a + layer(a, message)) > 0.05


def test_graph_size_norm_is_printed_without_the_root(a: Tensor) -> None:
    layer = TABLE1.make("GraphSizeNorm", V)
    assert close(X**0.5 * TABLE1["GraphSizeNorm"].as_printed(a), layer(a))


def test_schnet_divides_by_the_own_count(a: Tensor) -> None:
    counts = torch.randint(1, 9, (B, X))
    layer = TABLE1.make("SchNet", V)
    printed = TABLE1["SchNet"].as_printed(a, counts.double())
    assert close(printed, layer(a.flatten(0, 1), counts.flatten()).view_as(a))


def test_the_printed_average_is_maces_on_one_batch_and_misses_allegros_root(a: Tensor) -> None:
    counts = torch.randint(1, 9, (B, X)).double()
    average = counts.mean().item()
    printed = TABLE1["Allegro / MACE"].as_printed(a, counts)
    make = lambda power: TABLE1.make("Allegro / MACE", V, average, power, dtype=torch.float64)  # noqa: E731
    assert close(printed, make(1.0)(a.flatten(0, 1)).view_as(a))
    assert close(printed * average**0.5, make(0.5)(a.flatten(0, 1)).view_as(a))
