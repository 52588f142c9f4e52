"""What holds for every layer: exact derivatives, how samples are told apart, and how modules are kept and moved."""

import copy
import pickle

import pytest
import torch
from layers.cases import (
    CASES,
    CHANNELS,
    IDS,
    Case,
    derivatives,
    every_batch_layer,
    every_feature_layer,
    every_layer,
    every_sample_layer,
    some_layers,
    tracks,
)
from layers.peers import SIZES, assert_equal, difference, ragged_batch, refused
from torch import Tensor, nn
from torch.func import functional_call

import geonorm as gn

NODES = sum(SIZES)
train_or_eval = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def assert_same(given: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    """The same output and derivatives."""
    for name in expected:
        assert_equal(given[name], expected[name], name, tolerance)


# Derivatives


def modes(case: Case) -> list[bool]:
    """The modes in which a layer is a different function, and a function at all."""
    if case.representation == "spectral_norm":
        return [False]  # in training every call turns the power iteration further
    return [True, False] if tracks(case) else [True]


@pytest.mark.parametrize(
    ("case", "training"),
    [
        pytest.param(case, mode, id=f"{name}-{'training' if mode else 'evaluation'}")
        for name, case in zip(IDS, CASES, strict=True)
        for mode in modes(case)
    ],
)
def test_first_and_second_derivatives_are_those_of_the_function(case: Case, training: bool) -> None:
    sizes = (3, 0, 1)
    layer = case.make().train(training)
    given = case.inputs(sum(sizes))
    batch = ragged_batch(sizes, shuffled=True)
    names = [name for name, _ in layer.named_parameters()]
    smooth = [value.detach().requires_grad_() for value in (*given, *layer.parameters()) if value.is_floating_point()]

    def function(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values[len(values) - len(names) :], strict=True))
        rest = iter(values)
        inputs = tuple(next(rest) if value.is_floating_point() else value for value in given)
        arguments = (*inputs, batch, len(sizes)) if case.takes_batch else inputs
        return functional_call(layer, parameters, arguments)

    assert torch.autograd.gradcheck(function, smooth, atol=1e-6)
    assert torch.autograd.gradgradcheck(function, smooth, atol=1e-6)


# Samples


@every_batch_layer
@train_or_eval
def test_a_dense_batch_is_a_ragged_batch_of_equal_samples(case: Case, training: bool) -> None:
    layer = case.make().train(training)
    dense, (x,) = copy.deepcopy(layer), case.inputs(4 * 5)
    ragged = derivatives(case, layer, (x,), ragged_batch((5,) * 4), 4)
    given = derivatives(case, dense, (x.view(4, 5, CHANNELS),))
    assert given["output"].shape == (4, 5, CHANNELS)
    assert_same({name: value.view_as(ragged[name]) for name, value in given.items()}, ragged)
    assert_same(dense.state_dict(), layer.state_dict())


@every_batch_layer
@train_or_eval
def test_no_batch_is_one_sample(case: Case, training: bool) -> None:
    layer, inputs = case.make().train(training), case.inputs(NODES)
    one_sample = torch.zeros(NODES, dtype=torch.long)
    expected = derivatives(case, copy.deepcopy(layer), inputs, one_sample, 1)
    for batch, batch_size in ((None, None), (None, 1), (one_sample, None), (one_sample.int(), None)):
        assert_same(derivatives(case, copy.deepcopy(layer), inputs, batch, batch_size), expected)


@every_sample_layer
def test_each_sample_is_normalized_as_if_it_were_alone(case: Case) -> None:
    layer, (x,), batch = case.make().train(), case.inputs(NODES), ragged_batch(shuffled=True)
    together = layer(x, batch, len(SIZES))
    for sample in batch.unique():
        alone = layer(x[batch == sample])
        assert_equal(together[batch == sample], alone)
        assert difference(together[batch == sample], layer(x)[batch == sample]) > 1e-3, "samples do not matter"


@every_layer
@train_or_eval
def test_the_order_of_nodes_carries_no_information(case: Case, training: bool) -> None:
    layer, inputs, batch = case.make().train(training), case.inputs(NODES), ragged_batch()
    order = torch.randperm(NODES)
    other = copy.deepcopy(layer)
    expected = case(layer, *inputs, batch=batch, batch_size=len(SIZES))
    permuted = case(other, *(value[order] for value in inputs), batch=batch[order], batch_size=len(SIZES))
    assert_equal(permuted, expected[order])
    assert_same(other.state_dict(), layer.state_dict())


@every_sample_layer
def test_the_number_of_samples_may_be_given_or_found_and_empty_ones_change_nothing(case: Case) -> None:
    layer, (x,), batch = case.make(), case.inputs(NODES), ragged_batch()
    expected = copy.deepcopy(layer)(x, batch)
    for batch_size in (len(SIZES), len(SIZES) + 3):
        other = copy.deepcopy(layer)
        assert_equal(other(x, batch, batch_size), expected)
    relabelled = 2 * batch + 1
    assert_equal(copy.deepcopy(layer)(x, relabelled), expected)


@every_batch_layer
def test_nothing_is_read_back_from_the_device_when_the_number_of_samples_is_given(case: Case) -> None:
    layer = case.build(CHANNELS, device="meta")
    x, batch = torch.randn(NODES, CHANNELS, device="meta"), torch.zeros(NODES, dtype=torch.long, device="meta")
    y = layer(x, batch, len(SIZES))  # reading a value of a tensor on this device raises an error
    assert y.shape == x.shape
    if case.per_sample:
        with pytest.raises(RuntimeError, match="meta"):
            layer(x, batch)


# Modules


@every_feature_layer
def test_the_representation_says_what_was_asked_for(case: Case) -> None:
    assert repr(case.build(CHANNELS)) == case.representation
    assert str(nn.Sequential(case.build(CHANNELS))) == f"Sequential(\n  (0): {case.representation}\n)"


@every_layer
def test_a_copy_of_a_trained_layer_is_a_layer_of_its_own(case: Case) -> None:
    layer, (x, *rest) = case.make(), case.inputs(NODES)
    case(layer, x.requires_grad_(), *rest).square().sum().backward()
    other = copy.deepcopy(layer)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for value in other.state_dict().values():
        value.add_(1)
    assert_same(layer.state_dict(), before)


@every_layer
def test_the_state_dict_carries_all_that_a_layer_has_learned_and_seen(case: Case) -> None:
    layer, inputs = case.make().eval(), case.inputs(NODES)
    fresh = case.build(CHANNELS, dtype=torch.float64).eval()
    fresh.load_state_dict(layer.state_dict())
    assert_equal(case(fresh, *inputs), case(layer, *inputs))
    for name, value in layer.state_dict().items():
        assert value.dtype == (torch.int64 if name == "num_batches_tracked" else torch.float64), name


@every_feature_layer
def test_a_pickled_layer_comes_back(case: Case) -> None:
    layer, inputs = case.make().eval(), case.inputs(NODES)
    assert_equal(case(pickle.loads(pickle.dumps(layer)), *inputs), case(layer, *inputs))


@some_layers(lambda case: case.weights)
def test_torch_keeps_modules_with_normalized_weights_by_their_state_dict_only(case: Case) -> None:
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(case.make())


@every_layer
def test_device_and_dtype_may_be_asked_for_and_changed(case: Case) -> None:
    asked = case.build(CHANNELS, device="meta", dtype=torch.bfloat16)
    moved = case.build(CHANNELS).to(device="meta", dtype=torch.bfloat16)
    for layer in (asked, moved):
        for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
            assert value.device.type == "meta", name
            assert value.dtype in (torch.bfloat16, torch.int64), name
        repr(layer)
    assert [n for n, _ in asked.named_parameters()] == [n for n, _ in moved.named_parameters()]


@every_layer
def test_a_layer_that_changes_its_dtype_is_the_layer_made_with_that_dtype(case: Case) -> None:
    made = case.make().eval()
    moved = case.build(CHANNELS, dtype=torch.float32)
    moved = moved.to(torch.float64).eval()
    moved.load_state_dict(made.state_dict())
    inputs = case.inputs(NODES)
    assert_equal(case(moved, *inputs), case(made, *inputs))


@every_feature_layer
def test_reset_gives_back_a_new_layer(case: Case) -> None:
    torch.manual_seed(1)
    fresh = case.build(CHANNELS, dtype=torch.float64)
    layer = case.make()
    torch.manual_seed(1)
    layer.reset_parameters()
    assert_same(layer.state_dict(), fresh.state_dict())


@some_layers(lambda case: case.extra.__name__ == "nothing")
def test_layers_stand_in_a_sequence_of_modules(case: Case) -> None:
    x = torch.randn(NODES, CHANNELS)
    network = nn.Sequential(nn.Linear(CHANNELS, CHANNELS), case.build(CHANNELS), nn.SiLU())
    network(x).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_every_public_layer_is_in_the_table_of_this_test() -> None:
    layers = {value for value in vars(gn).values() if isinstance(value, type) and issubclass(value, nn.Module)}
    functions = {gn.weight_norm, gn.spectral_norm, gn.scaled_weight_standardization}
    built = {type(case.build(CHANNELS)) for case in CASES if not case.weights}
    assert layers - built == {gn.Standardize}, "Standardize has tests of its own"
    assert {case.representation for case in CASES if case.weights} == {function.__name__ for function in functions}


# Mistakes


@every_feature_layer
def test_features_of_another_width_or_type_are_refused(case: Case) -> None:
    layer = case.build(CHANNELS)
    x, *rest = case.inputs(NODES, dtype=torch.float32)
    message = rf"x has shape \[13, 3\].*, expected .*\[nodes, {CHANNELS}\]"
    with refused(message):
        layer(x[:, :3], *rest)
    with refused("x has dtype torch.int64, expected a floating-point type: convert it with x.float()"):
        layer(x.long(), *rest)


@every_batch_layer
def test_a_batch_that_does_not_fit_is_refused(case: Case) -> None:
    layer, (x,), batch = case.build(CHANNELS), case.inputs(NODES, dtype=torch.float32), ragged_batch()
    with refused(r"x has shape \[4\], expected \[nodes, 4\] .* or a dense batch \[samples, nodes, 4\]"):
        layer(x[0])
    with refused(r"batch has shape \[12\], expected \[13\]: one sample number for each row of x"):
        layer(x, batch[:-1])
    with refused(r"batch has shape \[13, 1\], expected \[13\]"):
        layer(x, batch[:, None])
    with refused(r"batch has dtype torch.float32, expected torch.int64: convert it with batch.long\(\)"):
        layer(x, batch.float())
    with refused(r"x has shape \[1, 13, 4\], a dense batch, and a batch vector was given too: flatten x"):
        layer(x[None], batch)


@every_sample_layer
def test_a_wrong_number_of_samples_is_refused(case: Case) -> None:
    layer, (x,), batch = case.build(CHANNELS).train(), case.inputs(NODES, dtype=torch.float32), ragged_batch()
    with refused("batch_size is 4 but batch numbers samples up to 4: pass the number of samples, or leave"):
        layer(x, batch, 4)
    with refused("batch_size is 5 but no batch vector says which node belongs to which sample: pass batch"):
        layer(x, None, 5)
    with refused("batch holds the sample number -1, expected numbers from 0"):
        layer(x, batch - 1)
