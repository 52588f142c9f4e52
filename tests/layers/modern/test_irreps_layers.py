"""What holds for every normalization of irreps: its symmetry at the declared level, its layouts, hard inputs."""

import copy
from collections.abc import Callable

import pytest
import torch
from layers.modern.irreps import BATCH, IRREPS, NODES, NUM_SAMPLES, action, features, second_order, trained
from layers.peers import assert_equal, difference, ragged_batch, randomize, refused
from torch import Tensor, nn
from untyped import untyped

import geonorm as gn
from geonorm.layers.fields import Vectors

BUILDS = {
    "RMSNorm": gn.RMSNorm,
    "EquivariantBatchNorm": gn.EquivariantBatchNorm,
    "EquivariantBatchNorm without running statistics": lambda irreps, **factory: gn.EquivariantBatchNorm(
        irreps, normalization="norm", track_running_stats=False, **factory
    ),
    "EquivariantInstanceNorm": gn.EquivariantInstanceNorm,
    "EquivariantGraphNorm": gn.EquivariantGraphNorm,
    "EquivariantLayerNorm": gn.EquivariantLayerNorm,
    "EquivariantLayerNorm, centred": lambda irreps, **factory: gn.EquivariantLayerNorm(
        irreps, center_vectors=True, **factory
    ),
    "SeparableLayerNorm": gn.SeparableLayerNorm,
    "EquivariantRMSNorm": gn.EquivariantRMSNorm,
    "FieldNorm": gn.FieldNorm,
    "NormSE3": gn.NormSE3,
    "MaxMinNorm": gn.MaxMinNorm,
}
every = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS.keys())
#: Only where running statistics are kept, evaluation is another function than training.
MODES = [(name, True) for name in BUILDS] + [("EquivariantBatchNorm", False)]
every_in_each_mode = pytest.mark.parametrize(
    ("build", "training"),
    [(BUILDS[name], training) for name, training in MODES],
    ids=[f"{name}, {'training' if training else 'evaluation'}" for name, training in MODES],
)
Build = Callable[..., nn.Module]


def make(build: Build, irreps: str = IRREPS, training: bool = True) -> nn.Module:
    """The layer with random parameters, after two batches."""
    return trained(build(irreps, dtype=torch.float64), irreps).train(training)


# Symmetry


@every_in_each_mode
@pytest.mark.parametrize("irreps", [IRREPS, "4x1o", "3x0o+2x1e", "6x0e"])
def test_every_node_may_be_rotated_and_inverted_by_itself_or_where_a_mean_of_vectors_is_learned_every_sample(
    build: Build, training: bool, irreps: str
):
    layer, x = make(build, irreps, training), features(irreps)
    per_sample = isinstance(layer, gn.EquivariantGraphNorm)
    for per in ("batch", "sample") if per_sample else ("batch", "sample", "node"):
        turn = action(irreps, per, BATCH)
        assert_equal(layer(turn(x), BATCH), turn(layer(x, BATCH)), per, tolerance=1e-11)
    if isinstance(layer, gn.Standardize):
        assert layer.level == ("sample" if per_sample else "node")


def test_a_learned_share_of_the_mean_vector_binds_the_nodes_of_a_graph_together():
    turn, x = action("4x1o", "node", BATCH), features("4x1o")
    new, learned = gn.EquivariantGraphNorm("4x1o", dtype=torch.float64), make(gn.EquivariantGraphNorm, "4x1o")
    assert_equal(new(turn(x), BATCH), turn(new(x, BATCH)))
    assert difference(learned(turn(x), BATCH), turn(learned(x, BATCH))) > 0.1


@every_in_each_mode
def test_the_order_of_nodes_and_samples_carries_no_information(build: Build, training: bool):
    layer, x = make(build, training=training), features(IRREPS)
    expected = layer(x, BATCH, NUM_SAMPLES)
    nodes, samples = torch.randperm(NODES), torch.randperm(NUM_SAMPLES)
    assert_equal(layer(x[nodes], samples[BATCH[nodes]], NUM_SAMPLES), expected[nodes])
    assert_equal(layer(x, BATCH), expected)


@every
def test_a_sample_does_not_see_the_others_but_in_a_statistic_of_the_batch(build: Build):
    layer, x = make(build), features(IRREPS)
    other = torch.where(BATCH[:, None] == 0, x, features(IRREPS))
    mine = BATCH == 0
    same = difference(layer(other, BATCH)[mine], layer(x, BATCH)[mine]) < 1e-12
    assert same == (not isinstance(layer, gn.EquivariantBatchNorm))


# Layouts


@every_in_each_mode
@pytest.mark.parametrize("dim", [2, 3])
def test_vectors_come_with_their_components_as_an_axis_or_flat_and_in_dense_batches(
    build: Build, training: bool, dim: int
):
    layer = build(Vectors(4, dim), dtype=torch.float64)
    randomize(layer).train(training)
    x, batch = torch.randn(12, 4, dim, dtype=torch.float64), torch.arange(12) // 4
    expected = copy.deepcopy(layer)(x, batch, 3)
    assert expected.shape == x.shape
    assert_equal(copy.deepcopy(layer)(x.flatten(1), batch, 3), expected.flatten(1))
    assert_equal(copy.deepcopy(layer)(x.view(3, 4, 4, dim)), expected.view(3, 4, 4, dim))
    assert_equal(copy.deepcopy(layer)(x.view(3, 4, 4 * dim)), expected.view(3, 4, 4 * dim))
    if dim == 3:
        known = build("4x1o", dtype=torch.float64).train(training)
        known.load_state_dict(layer.state_dict())
        assert_equal(known(x, batch, 3), expected)


@every
def test_a_dense_batch_of_irreps_is_a_batch_of_samples_of_one_size(build: Build):
    layer, x = make(build), features(IRREPS, 12)
    assert_equal(layer(x.view(3, 4, -1)), layer(x, torch.arange(12) // 4, 3).view(3, 4, -1))


@every
def test_features_that_do_not_fit_are_refused(build: Build):
    with refused(r"x has shape \[5, 6\], expected \[nodes, 7\]"):
        build("1x0e+2x1o")(torch.randn(5, 6))
    with refused(r"x has shape \[5, 4, 3\], expected \[nodes, 4, 2\], \[nodes, 8\]"):
        build(Vectors(4, 2))(torch.randn(5, 4, 3))


# Numbers


@every_in_each_mode
@pytest.mark.parametrize("irreps", ["2x0e+1x1o+1x0o", "2x1e"])
def test_first_and_second_derivatives_are_those_of_the_function(build: Build, training: bool, irreps: str):
    layer = make(build, irreps, training)
    x, batch = features(irreps, 5).requires_grad_(), torch.tensor([1, 0, 1, 1, 0])
    leaves = [x, *layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, batch, 2))

    with untyped():
        assert torch.autograd.gradcheck(call, leaves)
        assert torch.autograd.gradgradcheck(call, leaves)


HARD = {
    "no nodes": lambda x: (x[:0], None, None),
    "no nodes in three samples": lambda x: (x[:0], BATCH[:0], 3),
    "one node": lambda x: (x[:1], None, None),
    "samples of one node": lambda x: (x[:3], torch.arange(3), 3),
    "zeros": lambda x: (0 * x, BATCH, NUM_SAMPLES),
    "a row of zeros": lambda x: (torch.cat([0 * x[:1], x[1:]]), BATCH, NUM_SAMPLES),
    "a field of zeros": lambda x: (torch.cat([x[:, :2], 0 * x[:, 2:5], x[:, 5:]], 1), BATCH, NUM_SAMPLES),
    "constant": lambda x: (torch.full_like(x, 1.7), BATCH, NUM_SAMPLES),
    "far from zero": lambda x: (x + 1e4, BATCH, NUM_SAMPLES),
    "tiny": lambda x: (1e-20 * x, BATCH, NUM_SAMPLES),
    "large": lambda x: (1e8 * x, BATCH, NUM_SAMPLES),
}


@every
@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_hard_inputs_have_finite_results_to_second_order(build: Build, kind: str, dtype: torch.dtype):
    layer = randomize(build(IRREPS, dtype=dtype))
    x, batch, batch_size = HARD[kind](features(IRREPS).to(dtype))

    def call(x: Tensor) -> Tensor:
        return layer(x, batch, batch_size)

    for name, value in second_order(call, {"x": x}).items():
        assert value.isfinite().all(), name
    if batch is not None and len(x) == 0:
        return
    zero = call(torch.zeros_like(x))
    shifted = torch.cat([zero[:, 2:11], zero[:, 12:]], 1)  # all columns but those of 0e
    assert shifted.abs().max() == 0 if shifted.numel() else True


@every
def test_features_without_invariants_without_channels_and_without_anything_are_allowed(build: Build):
    for irreps, columns in (("2x1o", 6), ("0x0e+2x1o", 6), ("0x1o+2x0e", 2), ("0x0e", 0), ("0x1o", 0), ("", 0)):
        layer = build(irreps)
        for training in (True, False):
            assert layer.train(training)(torch.randn(5, columns)).shape == (5, columns)
        assert layer(torch.randn(0, columns)).shape == (0, columns)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_the_result_only(build: Build, dtype: torch.dtype):
    layer = randomize(build(IRREPS)).to(dtype)
    exact = copy.deepcopy(layer).double()
    x = features(IRREPS).to(dtype)
    y, expected = layer(x, BATCH), exact(x.double(), BATCH)
    assert y.dtype == dtype
    assert_equal(y.double(), expected, tolerance=torch.finfo(dtype).eps)


# Torch


@every
def test_layers_are_copied_saved_moved_reset_and_made_without_memory(build: Build):
    layer, x = make(build), features(IRREPS)
    restored = build(IRREPS, dtype=torch.float64)
    restored.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), restored):
        assert torch.equal(other.eval()(x), layer.eval()(x))
    layer.reset_parameters()
    fresh = build(IRREPS, dtype=torch.float64)
    assert layer.state_dict().keys() == fresh.state_dict().keys()
    for name, value in fresh.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value), name
    empty = build(IRREPS, device="meta", dtype=torch.float64)
    assert {tensor.device.type for tensor in [*empty.parameters(), *empty.buffers()]} <= {"meta"}
    assert empty(x.to("meta"), BATCH.to("meta"), NUM_SAMPLES).shape == x.shape


@every
def test_nothing_is_read_back_from_the_device_when_the_number_of_samples_is_given(build: Build):
    layer = build(IRREPS, device="meta")
    assert layer(
        torch.empty(7, layer.fields.dim, device="meta"), torch.empty(7, dtype=torch.long, device="meta"), 3
    ).is_meta


def test_unsorted_batches_have_the_statistics_of_their_samples():
    for build in BUILDS.values():
        layer, x, batch = make(build), features(IRREPS), ragged_batch(shuffled=True)
        order = batch.argsort(stable=True)
        assert_equal(layer(x, batch)[order], layer(x[order], batch[order]), repr(layer))
