"""What holds for every layer on vectors: every node may be rotated and reflected by itself, and the form is free."""

import copy
from collections.abc import Callable

import pytest
import torch
from layers.peers import SIZES, assert_equal, features, ragged_batch, randomize
from layers.vector.support import CHANNELS, NODES, joined, rotations, to_second_order, turn, turn_irreps, vectors
from torch import Tensor, nn

import geonorm as gn

#: Every layer and its options, built for features of any kind.
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "quaternion, channel": gn.QuaternionNorm,
    "quaternion, sample": lambda f, **k: gn.QuaternionNorm(f, mode="sample", **k),
    "perceptron": gn.VectorPerceptronNorm,
    "EGAN": gn.EGANNorm,
    "EvNorm, batch": gn.EvNorm,
    "EvNorm, node": lambda f, **k: gn.EvNorm(f, "node", "inverse", **k),
    "neuron": gn.VectorNeuronNorm,
    "neuron without reversal": lambda f, **k: gn.VectorNeuronNorm(f, reversal=False, **k),
    "field": gn.VectorFieldNorm,
    "field, lengths": lambda f, **k: gn.VectorFieldNorm(f, per_component=False, **k),
    "field, centred": lambda f, **k: gn.VectorFieldNorm(f, center_magnitude=True, **k),
}
PER_SAMPLE = ("quaternion, sample", "EGAN")
PER_NODE = ("perceptron", "EvNorm, node")
IRREPS = "3x0e+2x1o+2x0o+1x1e+2x2e"
every_layer = pytest.mark.parametrize("name", LAYERS)
train_or_eval = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def built(name: str, features: int | str | gn.layers.fields.Vectors = CHANNELS, training: bool = True) -> nn.Module:
    """A layer with random parameters that has seen two batches."""
    layer = randomize(LAYERS[name](features, dtype=torch.float64))
    for nodes in (7, 9):
        layer(torch.randn(nodes, features_dim(features), dtype=torch.float64) * nodes / 5)
    return layer.train(training)


def features_dim(features: int | str | gn.layers.fields.Vectors) -> int:
    """The number of columns."""
    return gn.layers.fields.Fields(gn.layers.vector.inputs.vector_features(features)).dim


def assert_turned(name: str, turned: Tensor | tuple, result: Tensor | tuple, act: Callable[[Tensor], Tensor]) -> None:
    """The result is turned like the features; the content of EvNorm is not."""
    if name.startswith("EvNorm"):
        assert_equal(turned[0], result[0], "content")
        turned, result = turned[1], result[1]
    assert_equal(turned, act(result))


@every_layer
@train_or_eval
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_every_node_may_be_rotated_and_reflected_by_itself(name: str, training: bool, dim: int) -> None:
    layer = built(name, gn.layers.fields.Vectors(CHANNELS, dim), training)
    other, v, batch, matrices = copy.deepcopy(layer), vectors(dim=dim), ragged_batch(), rotations(dim=dim)
    result, turned = layer(v, batch, len(SIZES)), other(turn(v, matrices), batch, len(SIZES))
    assert_turned(name, turned, result, lambda y: turn(y, matrices))
    for key, value in layer.state_dict().items():
        assert_equal(other.state_dict()[key], value, key)


@every_layer
@train_or_eval
def test_irreps_of_every_kind_are_transformed_by_themselves(name: str, training: bool) -> None:
    layer, batch, matrices = built(name, IRREPS, training), ragged_batch(shuffled=True), rotations()
    x = features(NODES, features_dim(IRREPS))
    result = copy.deepcopy(layer)(x, batch, len(SIZES))
    turned = copy.deepcopy(layer)(turn_irreps(x, matrices, IRREPS), batch, len(SIZES))
    assert_turned(name, turned, result, lambda y: turn_irreps(y, matrices, IRREPS))


@pytest.mark.parametrize("kind", [gn.BatchNorm, gn.LayerNorm, gn.InstanceNorm], ids=lambda kind: kind.__name__)
def test_the_same_statistics_of_single_components_would_not_do(kind: type[nn.Module]) -> None:
    layer, v, batch, matrices = kind(3 * CHANNELS), vectors(), ragged_batch(), rotations()
    result, turned = (layer(given.flatten(1), batch).view_as(v) for given in (v, turn(v, matrices)))
    assert (turned - turn(result, matrices)).norm() > 0.1 * result.norm()


@every_layer
@train_or_eval
def test_vectors_may_come_in_four_forms(name: str, training: bool) -> None:
    layer, v, batch = built(name, training=training), vectors(3 * 4), ragged_batch((4, 4, 4))
    expected = copy.deepcopy(layer)(v, batch, 3)
    for given, rows in ((v.flatten(1), (batch, 3)), (v.view(3, 4, CHANNELS, 3), ()), (v.view(3, 4, -1), ())):
        result = copy.deepcopy(layer)(given, *rows)
        vector_part = result[1] if isinstance(result, tuple) else result
        assert vector_part.shape == given.shape
        assert_equal(joined(result), joined(expected))
    as_irreps = LAYERS[name](f"{CHANNELS}x1o", dtype=torch.float64).train(training)
    as_irreps.load_state_dict(layer.state_dict())
    assert_equal(joined(as_irreps(v, batch, 3)), joined(expected))


@every_layer
def test_samples_share_a_statistic_or_do_not(name: str) -> None:
    layer, v, batch = built(name), vectors(), ragged_batch()
    with torch.no_grad():
        changed = torch.where((batch == 0)[:, None, None], 3 * v + 1, v)
        result, other = (joined_rows(copy.deepcopy(layer)(given, batch)) for given in (v, changed))
    same = (result[batch != 0] - other[batch != 0]).abs().max() < 1e-12
    assert same == (name in (*PER_SAMPLE, *PER_NODE))
    alone = torch.cat([joined_rows(copy.deepcopy(layer)(v[batch == sample])) for sample in batch.unique()])
    assert ((alone - result).abs().max() < 1e-12) == (name in (*PER_SAMPLE, *PER_NODE))
    together = joined_rows(copy.deepcopy(layer)(v))  # without a batch vector all nodes are one sample
    assert ((together - result).abs().max() < 1e-12) == (name not in PER_SAMPLE)


def joined_rows(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """One row for each node."""
    return torch.cat([part.flatten(1) for part in (result if isinstance(result, tuple) else (result,))], 1)


@every_layer
@train_or_eval
def test_nodes_and_samples_have_no_order(name: str, training: bool) -> None:
    layer, v, batch, order = built(name, training=training), vectors(), ragged_batch(), torch.randperm(NODES)
    expected = joined_rows(copy.deepcopy(layer)(v, batch, len(SIZES)))
    assert_equal(joined_rows(copy.deepcopy(layer)(v[order], batch[order], len(SIZES))), expected[order])


@pytest.mark.parametrize(
    ("name", "training"),
    [(name, mode) for name in LAYERS for mode in (True, False) if mode or name not in (*PER_SAMPLE, *PER_NODE)],
)
def test_derivatives_are_those_of_the_function(name: str, training: bool) -> None:
    irreps, batch = "1x0e+2x1o+1x0o", torch.tensor([2, 0, 2])
    layer = built(name, irreps, training)
    names = [key for key, _ in layer.named_parameters()]
    x = features(3, features_dim(irreps)).requires_grad_()

    def function(x: Tensor, *parameters: Tensor) -> Tensor | tuple[Tensor, ...]:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, batch, 3))

    leaves = (x, *layer.parameters())
    assert torch.autograd.gradcheck(function, leaves, atol=1e-6)
    assert torch.autograd.gradgradcheck(function, leaves, atol=1e-6)


HARD = {
    "no nodes": lambda v: (v[:0], None),
    "an empty sample": lambda v: (v[:3], torch.tensor([0, 2, 2])),
    "a single node": lambda v: (v[:1], None),
    "equal vectors": lambda v: (v[:1].expand_as(v), ragged_batch()),
    "zero vectors": lambda v: (torch.zeros_like(v), ragged_batch()),
    "one zero vector": lambda v: (v.index_fill(0, torch.tensor([2]), 0), ragged_batch()),
    "a zero channel": lambda v: (v.index_fill(1, torch.tensor([1]), 0), ragged_batch()),
    "tiny vectors": lambda v: (1e-20 * v, ragged_batch()),
    "large vectors": lambda v: (1e10 * v, ragged_batch()),
    "far from zero": lambda v: (v + 1e4, ragged_batch()),
}


@every_layer
@train_or_eval
@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_hard_inputs_have_finite_results_to_second_order(
    name: str, training: bool, kind: str, dtype: torch.dtype
) -> None:
    layer = built(name, training=training).to(dtype)
    v, batch = HARD[kind](vectors(dtype=dtype))
    found = to_second_order(lambda v: layer(v, batch, None if batch is None else len(SIZES)), {"x": v})
    for key, value in found.items():
        assert value.dtype == dtype
        assert value.isfinite().all(), key
    assert all(value.isfinite().all() for value in layer.state_dict().values())


@every_layer
@pytest.mark.parametrize("features", [0, "0x1o", "", "0x0e+0x1o", "3x0e", "2x0o"])
def test_irreps_may_lack_vectors_or_everything(name: str, features: int | str) -> None:
    width = features_dim(features)
    for training in (True, False):
        layer = LAYERS[name](features, dtype=torch.float64).train(training)
        x = torch.randn(5, width, dtype=torch.float64)
        found = to_second_order(layer, {"x": x})
        assert all(value.isfinite().all() for value in found.values())
        result = layer(x)
        assert (result[1] if isinstance(result, tuple) else result).shape == x.shape


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_the_result_only(name: str, dtype: torch.dtype) -> None:
    layer = built(name).to(dtype)
    v, batch = vectors(dtype=dtype), ragged_batch()
    result = joined(layer(v, batch))
    expected = joined(copy.deepcopy(layer).double()(v.double(), batch))
    assert result.dtype == dtype
    unit = 2**-8 if dtype == torch.bfloat16 else 2**-11
    assert ((result.double() - expected).abs() <= 1.01 * unit * expected.abs() + 1e-5).all()
