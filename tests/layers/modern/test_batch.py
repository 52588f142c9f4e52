"""Statistics over nodes on irreps: e3nn's and Equiformer's layers, and where others break a symmetry or a gradient."""

import pytest
import torch
from e3nn import nn as e3nn
from e3nn import o3
from layers.modern.irreps import (
    BATCH,
    IRREPS,
    NODES,
    NUM_SAMPLES,
    action,
    assert_irreps_formula,
    assert_same_to_second_order,
    features,
    terms,
)
from layers.peers import EXACT, assert_equal, difference, mean_of_sample, ragged_batch, randomize
from torch import Tensor, nn

import geonorm as gn

each_normalization = pytest.mark.parametrize("normalization", ["component", "norm"])
each_affine = pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
each_irreps = pytest.mark.parametrize("irreps", [IRREPS, "3x0e", "2x1o", "2x0o+1x1e", "1x0e+2x1o+1x0e"])


def pair(irreps: str, normalization: str = "component", affine: bool = True) -> tuple[nn.Module, nn.Module]:
    """Our batch normalization, with the state of e3nn's."""
    # e3nn cannot split features into blocks of multiplicity zero.
    known = o3.Irreps(irreps).remove_zero_multiplicities()
    theirs = randomize(e3nn.BatchNorm(known, affine=affine, normalization=normalization).double())
    ours = gn.EquivariantBatchNorm(irreps, affine=affine, normalization=normalization, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def with_parameters(layer: nn.Module) -> tuple[dict[str, Tensor], object]:
    """The learned tensors of a layer that have entries, and the layer as a function of x and them."""
    learned = {name: value for name, value in layer.named_parameters() if value.numel()}

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(learned, values, strict=True)), (x,))

    return learned, call


# EquivariantBatchNorm


@each_irreps
@each_normalization
@each_affine
def test_batch_norm_is_the_one_of_e3nn_in_training_and_evaluation(irreps: str, normalization: str, affine: bool):
    ours, theirs = pair(irreps, normalization, affine)
    for training in (True, True, False):
        x = features(irreps)
        learned, call = with_parameters(theirs.train(training))
        assert_same_to_second_order(with_parameters(ours.train(training))[1], call, {"x": x, **learned})
        for name, value in theirs.named_buffers():
            if value.numel():
                assert_equal(getattr(ours, name), value, name)
    assert ours.num_batches_tracked == 2


@each_irreps
@each_affine
def test_the_state_of_the_layer_of_e3nn_is_loaded_also_as_a_part_of_a_network(irreps: str, affine: bool):
    _, theirs = pair(irreps, affine=affine)
    for _ in range(2):
        theirs(features(irreps))
    ours = nn.Sequential(gn.EquivariantBatchNorm(irreps, affine=affine, dtype=torch.float64))
    report = ours.load_state_dict(nn.Sequential(theirs).state_dict())
    assert not report.missing_keys
    assert not report.unexpected_keys
    x = features(irreps)
    assert_equal(ours.eval()(x), theirs.eval()(x))


def test_a_state_that_does_not_fit_is_refused_as_ever():
    layer = gn.EquivariantBatchNorm("2x1o")
    state = {**layer.state_dict(), "bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match=r'Unexpected key.* "bias"'):
        layer.load_state_dict(state)
    del state["bias"], state["running_var"]
    with pytest.raises(RuntimeError, match=r'Missing key.* "running_var"'):
        layer.load_state_dict(state)


def test_of_a_number_of_channels_it_is_batch_norm_with_the_unbiased_variance_of_torch_and_of_irreps_that_of_e3nn():
    x = features("5x0e")
    by_number, known = (
        layer(5, momentum=1.0, dtype=torch.float64) for layer in (gn.EquivariantBatchNorm, gn.BatchNorm)
    )
    by_irreps = gn.EquivariantBatchNorm("5x0e", momentum=1.0, dtype=torch.float64)
    assert_same_to_second_order(by_number, known, {"x": x})
    by_irreps(x)
    assert by_number.state_dict().keys() == known.state_dict().keys()
    for name, value in known.state_dict().items():
        assert_equal(by_number.state_dict()[name].double(), value.double(), name)
    assert_equal(by_irreps(x), known(x))
    assert_equal(by_irreps.running_var * NODES / (NODES - 1), known.running_var)
    assert_equal(by_number.eval()(x), known.eval()(x))


def test_a_batch_mean_of_vectors_is_not_subtracted_because_it_points_from_one_sample_into_another():
    x, turn = features("3x1o"), action("3x1o", "sample", BATCH)
    layer = gn.EquivariantBatchNorm("3x1o", dtype=torch.float64)
    assert_equal(layer(turn(x)), turn(layer(x)))
    centred = gn.Standardize(
        "3x1o", mean="bx", mean_on="all", scale="bxm", level="batch", gain=False, dtype=torch.float64
    )
    whole = action("3x1o", "batch", BATCH)
    assert_equal(centred(whole(x)), whole(centred(x)))
    assert difference(centred(turn(x)), turn(centred(x))) > 0.1


def test_statistics_of_training_are_those_of_the_batch_where_a_layer_on_running_ones_neither_normalizes_nor_learns_it():
    # escnn's NormBatchNorm: the batch only moves the buffer, without gradient, and the buffer divides.
    def on_running_statistics(x: Tensor, momentum: float = 0.1) -> Tensor:
        new = (x.detach().unflatten(1, (3, 3)) ** 2).mean((0, 2)) * NODES / (NODES - 1)
        factor = ((1 - momentum) + momentum * new + 1e-5).rsqrt()
        return (x.unflatten(1, (3, 3)) * factor[:, None]).flatten(1)

    ours = gn.EquivariantBatchNorm("3x1o", eps=1e-12, dtype=torch.float64)
    x = 30 * features("3x1o").requires_grad_()

    def rms(y: Tensor) -> Tensor:
        return y.unflatten(1, (3, 3)).square().mean((0, 2)).sqrt()

    assert_equal(rms(ours(x)), torch.ones(3), tolerance=1e-10)
    assert (rms(on_running_statistics(x)) > 2).all()
    # A common scale is what the layer forgets, so that no gradient points along x; without the gradient of s it does.
    for layer, forgets in ((ours, True), (on_running_statistics, False)):
        y = layer(x)
        (gradient,) = torch.autograd.grad((y * torch.sin(y.detach())).sum(), x)
        assert ((gradient * x).sum().abs() < 1e-9) == forgets


# EquivariantInstanceNorm


def per_sample(
    irreps: str, x: Tensor, batch: Tensor, parameters: dict[str, Tensor], component: bool = True, alpha: bool = False
) -> Tensor:
    """Statistics of each sample: the mean of 0e, or a share α of the mean of all, and the second moment of a field."""
    biases = iter(parameters.get("bias", []))
    parts = []
    for block, scalar, which in terms(irreps, x):
        mean = mean_of_sample(batch, block.flatten(1)).view_as(block)
        share = parameters["mean_scale"][which, None] if alpha else float(scalar)
        centred = block - share * mean
        square = centred.square().sum(2) / (block.shape[2] if component else 1)
        y = centred * (mean_of_sample(batch, square) + 1e-5).rsqrt()[:, :, None]
        if "weight" in parameters:
            y = y * parameters["weight"][which, None]
        if scalar and "bias" in parameters:
            y = y + torch.stack([next(biases) for _ in range(block.shape[1])])[:, None]
        parts.append(y.flatten(1))
    return torch.cat(parts, 1)


@each_irreps
@each_normalization
@each_affine
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
def test_instance_norm_takes_the_statistics_of_each_graph(irreps, normalization, affine, shuffled):
    batch = ragged_batch(shuffled=shuffled)
    layer = gn.EquivariantInstanceNorm(irreps, affine=affine, normalization=normalization, dtype=torch.float64)

    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return per_sample(irreps, x, batch, parameters, normalization == "component")

    assert_irreps_formula(randomize(layer), formula, features(irreps), batch, NUM_SAMPLES)


@each_normalization
def test_on_a_dense_batch_instance_norm_is_the_one_of_e3nn(normalization: str):
    irreps = "2x0e+3x1o+1x0o"
    theirs = randomize(e3nn.BatchNorm(irreps, instance=True, normalization=normalization).double())
    ours = gn.EquivariantInstanceNorm(irreps, normalization=normalization, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = features(irreps, 12).view(3, 4, -1)
    assert_same_to_second_order(ours, theirs, {"x": x})


def test_instance_norm_of_e3nn_takes_every_row_of_a_node_matrix_for_an_instance_and_erases_the_invariants():
    x = features("2x0e+1x1o")
    theirs, ours = (
        build().double()
        for build in (
            lambda: e3nn.BatchNorm("2x0e+1x1o", instance=True),
            lambda: gn.EquivariantInstanceNorm("2x0e+1x1o"),
        )
    )
    assert theirs(x)[:, :2].abs().max() == 0
    assert ours(x, BATCH, NUM_SAMPLES)[:, :2].abs().mean() > 0.3
    # It also divides every vector by its own length, so that the sizes within a graph are lost.
    lengths = theirs(x)[:, 2:].norm(dim=1)
    assert_equal(lengths, torch.full_like(lengths, 3**0.5), tolerance=1e-3)
    assert ours(x, BATCH, NUM_SAMPLES)[:, 2:].norm(dim=1).std() > 0.3


def test_pseudoscalars_are_neither_centred_nor_shifted_where_a_test_of_the_degree_alone_breaks_the_inversion():
    # SEGNN's first version asks for l == 0 and forgets the parity.
    def by_degree(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        centred = x - mean_of_sample(BATCH, x)
        return centred * (mean_of_sample(BATCH, centred.square()) + 1e-5).rsqrt() * weight + bias

    x = features("3x0o")
    weight, bias = torch.rand(2, 3, dtype=torch.float64)
    assert difference(by_degree(-x, weight, bias), -by_degree(x, weight, bias)) > 0.1
    mixed = torch.tensor([1.0, -1.0], dtype=torch.float64)[torch.arange(NODES) % 2, None]
    assert difference(by_degree(mixed * x, weight, 0 * bias), mixed * by_degree(x, weight, 0 * bias)) > 0.1
    for layer in (gn.EquivariantInstanceNorm, gn.EquivariantBatchNorm):
        ours = randomize(layer("3x0o", dtype=torch.float64))
        assert ours.bias is None
        assert_equal(ours(-x, BATCH), -ours(x, BATCH))
        assert_equal(ours(mixed * x, BATCH), mixed * ours(x, BATCH))


# EquivariantGraphNorm


@each_irreps
@each_normalization
@each_affine
def test_graph_norm_subtracts_its_share_of_the_mean_of_every_type(irreps, normalization, affine):
    layer = gn.EquivariantGraphNorm(irreps, affine=affine, normalization=normalization, dtype=torch.float64)

    def formula(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return per_sample(irreps, x, BATCH, parameters, normalization == "component", alpha=True)

    assert_irreps_formula(randomize(layer), formula, features(irreps), BATCH, NUM_SAMPLES)


def test_graph_norm_begins_as_instance_norm():
    layer = gn.EquivariantGraphNorm(IRREPS, dtype=torch.float64)
    shares = torch.cat(
        [torch.full((block.shape[1],), float(scalar)) for block, scalar, _ in terms(IRREPS, features(IRREPS))]
    )
    assert layer.mean_scale.tolist() == shares.tolist()
    x, instance = features(IRREPS), gn.EquivariantInstanceNorm(IRREPS, dtype=torch.float64)
    assert_same_to_second_order(lambda x: layer(x, BATCH), lambda x: instance(x, BATCH), {"x": x})
    randomize(layer).reset_parameters()
    assert layer.mean_scale.tolist() == shares.tolist()


def test_of_a_number_of_channels_it_is_graph_norm():
    ours, known = (randomize(layer(5, dtype=torch.float64)) for layer in (gn.EquivariantGraphNorm, gn.GraphNorm))
    ours.load_state_dict(known.state_dict())
    x = features("5x0e")
    assert_same_to_second_order(lambda x: ours(x, BATCH), lambda x: known(x, BATCH), {"x": x})


def test_where_the_whole_mean_is_subtracted_a_translation_of_every_graph_is_forgotten():
    layer = gn.EquivariantGraphNorm("1x1o", dtype=torch.float64)
    x, shift = features("1x1o"), torch.randn(NUM_SAMPLES, 3, dtype=torch.float64)[BATCH]
    assert difference(layer(x + shift, BATCH), layer(x, BATCH)) > 0.1
    nn.init.ones_(layer.mean_scale)
    assert_equal(layer(x + shift, BATCH), layer(x, BATCH), tolerance=1e3 * EXACT)
