"""Two samples of one batch with the same output, where neither a shift nor a scale tells of them."""

import pytest
import torch
from torch import nn

import geonorm as gn
from geonorm.layers.fields import Fields
from geonorm.match.frozen import frozen
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.pairs import _of_a_node, partner
from geonorm.match.rows import layer_of

SIZES = (4, 5)


def found(layer, features: str, seed: int = 0) -> tuple[str, float] | None:
    return partner(frozen(layer), generic_features(Fields(features), SIZES, seed), batch_of(SIZES), irreps=features)


def test_vector_neurons_give_opposite_vectors_of_lengths_reflected_at_the_mean_one_output() -> None:
    for seed in range(20):
        words, difference = found(gn.VectorNeuronNorm(4), "4x1o", seed)
        assert words == "reversal and change of length of vectors of one node"
        assert difference < 1e-8
    assert found(gn.VectorNeuronNorm(4, reversal=False), "4x1o") is None


def test_the_same_in_numbers() -> None:
    """A length n becomes 2μ − n with the direction reversed; μ is the mean of the batch with both vectors in it."""
    layer = gn.VectorNeuronNorm(1, eps=0.0).double()
    others = torch.tensor([[3.0, 0, 0], [0, 5.0, 0]], dtype=torch.float64)
    n = 1.5  # the mean of n, 2μ − n, 3 and 5 is μ where 4μ = 2μ + 8
    pair = torch.tensor([[n, 0, 0], [n - 8.0, 0, 0]], dtype=torch.float64)
    y = layer(torch.cat([pair, others])[:, None])
    torch.testing.assert_close(y[0], y[1], atol=1e-5, rtol=0)


def test_tensor_norm_gives_a_tensor_and_its_inverse_in_the_unit_sphere_one_output() -> None:
    layer, irreps, _ = layer_of(gn.AFTER_2022["TensorNorm"], "vectors")
    for seed in range(20):
        words, _ = found(layer, irreps, seed)
        assert words == "change of length of vectors of one node"


@pytest.mark.parametrize(
    ("layer", "features"),
    [
        (gn.BatchNorm(8), "8x0e"),
        (gn.BatchNorm(40), "40x0e"),
        (gn.VectorFieldNorm(4), "4x1o"),
        (gn.EquivariantBatchNorm("4x0e+4x1o"), "4x0e+4x1o"),
        (gn.DynamicTanh(8), "8x0e"),
        (gn.DiffGroupNorm(8, 3), "8x0e"),
        (nn.Identity(), "8x0e"),
        (nn.Tanh(), "8x0e"),
        (lambda x: x**3, "8x0e"),
    ],
)
def test_a_layer_that_tells_all_samples_apart_has_no_pair(layer, features: str) -> None:
    assert all(found(layer, features, seed) is None for seed in range(5))


def test_a_loss_without_a_name_confuses_along_its_directions() -> None:
    def cubes(x, batch):
        size = x.new_zeros(int(batch.max()) + 1).index_add(0, batch, (x**4).sum(1))
        return x**3 / size[batch, None] ** 0.75  # cubes and no scale of the sample: a scale after all

    def fourth_powers(x, batch):
        return cubes(torch.sinh(x), batch)

    for seed in range(5):
        assert found(fourth_powers, "8x0e", seed)[0] == "direction without a name"
    assert next(iter(gn.check(cubes, "8x0e").states[0].confused)) == "scale of the sample"
    report = gn.check(fourth_powers, "8x0e")
    assert report.confuses
    assert "under a direction without a name" in str(report)


def test_an_activation_with_a_minimum_is_told_apart_from_one_without() -> None:
    assert found(nn.ReLU(), "8x0e") is not None
    assert found(nn.Softplus(), "8x0e") is None


def test_vectors_with_more_columns_than_are_sought_at_once_are_sought_by_field() -> None:
    words, _ = found(gn.VectorNeuronNorm(32), "32x1o")
    assert words == "reversal and change of length of vectors of one node"
    fields, types = torch.arange(40).repeat_interleave(3), torch.tensor([0, 1]).repeat_interleave(60)
    assert [places.tolist() for places in _of_a_node(fields, types)] == [[0, 1, 2], [60, 61, 62]]
    assert [len(places) for places in _of_a_node(fields[:30], types[:30])] == [30]


def test_a_task_that_does_not_mind_one_node_is_not_asked() -> None:
    layer, irreps, _ = layer_of(gn.AFTER_2022["TensorNorm"], "vectors")
    assert gn.check(layer, irreps).confuses
    indifferent = gn.tasks.Task("directions", respects=["rotation"], irrelevant=["scale per (node, channel)"])
    assert not gn.check(layer, irreps, task=indifferent).confuses


def inner_products(x, batch):
    """Of every node with all nodes of its sample, all channels with all: what is left of a sample that may turn."""
    v = x.unflatten(1, (-1, 3)).unflatten(0, (int(batch.max()) + 1, -1))
    return torch.einsum("bicm,bjdm->bicjd", v, v).flatten(0, 1).flatten(1)


@pytest.mark.parametrize(("task", "confuses"), [(gn.tasks.ENERGY, False), (gn.tasks.FORCES, True)])
def test_a_turned_sample_is_another_one_only_where_it_matters(task, confuses: bool) -> None:
    report = gn.check(inner_products, "2x1o", "16x0e", sizes=(4, 4), task=task)
    assert report.confuses is confuses


def test_a_moved_sample_is_another_one_only_where_it_matters() -> None:
    layer = gn.MeanSubtractionNorm("1x1o")
    assert not gn.check(layer, "1x1o", task=gn.tasks.FORCES, coordinates=True).confuses
    assert gn.check(layer, "1x1o", task=gn.tasks.FORCES).confuses
