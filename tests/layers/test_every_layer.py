"""What holds for every layer: exact derivatives, and how samples are told apart."""

import copy
from math import prod

import pytest
import torch
from layers.case import Case, derivatives
from layers.cases import (
    CASES,
    IDS,
    every_batch_layer,
    every_layer,
    every_sample_layer,
    tracks,
)
from layers.peers import SIZES, assert_equal, assert_same, difference, ragged_batch
from torch import Tensor
from torch.func import functional_call

NODES = sum(SIZES)
train_or_eval = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


# Derivatives


def modes(case: Case) -> list[bool]:
    """The modes in which a layer is a different function, and a function at all."""
    if case.representation.startswith("spectral_norm"):
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

        def call(*arguments: Tensor | int | None) -> Tensor:
            return functional_call(layer, parameters, arguments)

        return case(call, *inputs, batch=batch, batch_size=len(sizes))

    # Of many columns a random projection of the derivatives is compared, not every entry.
    fast = prod(case.form.shape) > 8
    assert torch.autograd.gradcheck(function, smooth, atol=1e-6, fast_mode=fast)
    assert torch.autograd.gradgradcheck(function, smooth, atol=1e-6, fast_mode=fast)


# Samples


@every_batch_layer
@train_or_eval
def test_a_dense_batch_is_a_ragged_batch_of_equal_samples(case: Case, training: bool) -> None:
    layer = case.make().train(training)
    dense, (x,) = copy.deepcopy(layer), case.inputs(4 * 5)
    ragged = derivatives(case, layer, (x,), ragged_batch((5,) * 4), 4)
    given = derivatives(case, dense, (x.view(4, 5, *case.form.shape),))
    assert given["output"].shape == (4, 5, *case.output.shape)
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
    together, mixed = case(layer, x, batch=batch, batch_size=len(SIZES)), case(layer, x)
    for sample in batch.unique():
        alone = case(layer, x[batch == sample])
        assert_equal(together[batch == sample], alone)
        assert difference(together[batch == sample], mixed[batch == sample]) > 1e-3, "samples do not matter"


@every_layer
@train_or_eval
def test_the_order_of_nodes_carries_no_information(case: Case, training: bool) -> None:
    layer, inputs, batch = case.make().train(training), case.inputs(NODES), ragged_batch()
    order = torch.randperm(NODES)
    other = copy.deepcopy(layer)
    expected = case(layer, *inputs, batch=batch, batch_size=len(SIZES))
    permuted = case(other, *case.take(inputs, order), batch=batch[order], batch_size=len(SIZES))
    assert_equal(permuted, expected[order])
    assert_same(other.state_dict(), layer.state_dict())


@every_sample_layer
def test_the_number_of_samples_may_be_given_or_found_and_empty_ones_change_nothing(case: Case) -> None:
    layer, (x,), batch = case.make(), case.inputs(NODES), ragged_batch()
    expected = case(copy.deepcopy(layer), x, batch=batch)
    for batch_size in (len(SIZES), len(SIZES) + 3):
        assert_equal(case(copy.deepcopy(layer), x, batch=batch, batch_size=batch_size), expected)
    assert_equal(case(copy.deepcopy(layer), x, batch=2 * batch + 1), expected)


@every_batch_layer
def test_nothing_is_read_back_from_the_device_when_the_number_of_samples_is_given(case: Case) -> None:
    layer, x = case.new(device="meta"), torch.randn(NODES, *case.form.shape, device="meta")
    batch = torch.zeros(NODES, dtype=torch.long, device="meta")
    y = case(layer, x, batch=batch, batch_size=len(SIZES))  # reading a value of a tensor here raises an error
    assert y.shape == (NODES, *case.output.shape)
    if case.per_sample:
        with pytest.raises(RuntimeError, match="meta"):
            case(layer, x, batch=batch)
