"""What holds for every layer in every floating-point type, and for inputs that invite trouble."""

import copy
from dataclasses import replace

import pytest
import torch
from layers.case import Case, derivatives
from layers.cases import every_feature_layer, some_layers, tracks
from layers.peers import SIZES, ragged_batch
from torch import Tensor

NODES = sum(SIZES)
train_or_eval = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def constant_but_one(x: Tensor) -> Tensor:
    """The first channel as it is, all others constant."""
    return torch.cat([x[:, :1], torch.full_like(x[:, 1:], 0.3)], 1)


#: Changes of ordinary features that make them hard: what x becomes, the batch and the number of samples.
HARD = {
    "no nodes": lambda x: (x[:0], None, None),
    "no nodes and no samples": lambda x: (x[:0], torch.empty(0, dtype=torch.long), 0),
    "no nodes in three samples": lambda x: (x[:0], torch.empty(0, dtype=torch.long), 3),
    "an empty sample in the middle": lambda x: (x[:5], torch.tensor([0, 0, 0, 2, 2]), 3),
    "a single node": lambda x: (x[:1], None, None),
    "samples of one node": lambda x: (x[:3], torch.arange(3), None),
    "constant features": lambda x: (torch.full_like(x, 1.7), ragged_batch(), len(SIZES)),
    "one constant channel": lambda x: (constant_but_one(x), ragged_batch(), len(SIZES)),
    "zero features": lambda x: (torch.zeros_like(x), ragged_batch(), len(SIZES)),
    "one zero row": lambda x: (torch.cat([x[:1] * 0, x[1:]]), ragged_batch(), len(SIZES)),
    "tiny features": lambda x: (1e-20 * x, ragged_batch(), len(SIZES)),
    "large features": lambda x: (1e10 * x, ragged_batch(), len(SIZES)),
    "far from zero": lambda x: (x + (1e8 if x.dtype == torch.float64 else 1e4), ragged_batch(), len(SIZES)),
}
hard = pytest.mark.parametrize("kind", HARD)


def hard_inputs(case: Case, kind: str, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], dict[str, object]]:
    """The inputs of a layer, and the batch they come in."""
    inputs = case.inputs(NODES, dtype=dtype)
    x, batch, batch_size = HARD[kind](inputs[0])
    return (x, *case.take(inputs, torch.arange(len(x)))[1:]), {"batch": batch, "batch_size": batch_size}


@every_feature_layer
@hard
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_hard_inputs_have_finite_results_to_second_order(case: Case, kind: str, dtype: torch.dtype) -> None:
    inputs, batch = hard_inputs(case, kind, dtype)
    for training in (True, False) if tracks(case) else (True,):
        layer = case.make(dtype=dtype).train(training)
        found = derivatives(case, layer, inputs, **batch)
        assert found["output"].shape == (len(inputs[0]), *case.output.shape)
        for name, value in found.items():
            assert value.dtype == dtype, name
            assert value.isfinite().all(), f"{name} in {'training' if training else 'evaluation'}"
        for name, value in layer.state_dict().items():
            assert value.isfinite().all(), name


@every_feature_layer
@hard
def test_float32_gives_the_result_of_float64_to_the_accuracy_of_its_input(case: Case, kind: str) -> None:
    inputs, batch = hard_inputs(case, kind, torch.float32)
    layer = case.make(dtype=torch.float32)
    exact = copy.deepcopy(layer).double()
    wide = tuple(value.double() if value.is_floating_point() else value for value in inputs)
    given, expected = (
        derivatives(case, layer, inputs, **batch, order=1),
        derivatives(case, exact, wide, **batch, order=1),
    )
    # Far from zero the input is known to 1e-4 of its spread only, constant features are one up to the rounding of their
    # mean, and the gradient amplifies both.
    relative = {"far from zero": 2e-2, "constant features": 5e-3}.get(kind, 1e-4)
    # Where what is left is the difference of equal numbers, its size is that of their last digits, divided by √ε.
    absolute = 1e-3 if kind in ("constant features", "a single node", "samples of one node") else 0
    # A length that is added to a constant is known to the last digit of the constant.
    absolute = 1e-23 if kind == "tiny features" else absolute
    for name, value in expected.items():
        if value.numel():
            error = (given[name].double() - value).abs().max()
            assert error <= relative * value.abs().max() + absolute, f"{name}: {error:.1e}"


@some_layers(lambda case: not case.weights and case.split is None)
@train_or_eval
def test_zero_channels_are_allowed(case: Case, training: bool) -> None:
    layer = case.build(case.form.without, dtype=torch.float64).train(training)
    if case.prepare is not None:
        case.prepare(layer)
    shape = case.form.shape_without
    inputs = torch.empty(5, *shape, dtype=torch.float64), *case.extra(5, replace(case.form, shape=shape), torch.float64)
    for batch, batch_size in ((None, None), (torch.tensor([0, 0, 1, 3, 3]), 4)):
        found = derivatives(case, layer, inputs, batch, batch_size)
        assert found["output"].numel() == 0
        assert all(value.isfinite().all() for value in found.values())
    if case.takes_batch:
        assert case(layer, torch.empty(2, 5, *shape, dtype=torch.float64)).shape[:2] == (2, 5)


@some_layers(lambda case: case.takes_batch)
def test_a_dense_batch_may_be_empty(case: Case) -> None:
    layer = case.make()
    for samples, nodes in ((0, 5), (3, 0)):
        y = case(layer, torch.empty(samples, nodes, *case.form.shape, dtype=torch.float64))
        assert y.shape == (samples, nodes, *case.output.shape)


# Half precision


#: The last digit of numbers in [1, 2).
UNIT = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2**-23}


@every_feature_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("parameters", ["half", "float32"])
def test_half_precision_rounds_the_result_only(case: Case, dtype: torch.dtype, parameters: str) -> None:
    # Sums over this many nodes, this far from zero, would be wrong in the first digit in half precision.
    sizes = (1500, 1, 600)
    x, *rest = case.inputs(sum(sizes), dtype=torch.float32)
    inputs = tuple(value.to(dtype) if value.is_floating_point() else value for value in (x + 3, *rest))
    batch = ragged_batch(sizes)
    layer = case.make(dtype=dtype if parameters == "half" else torch.float32)
    exact = copy.deepcopy(layer).double()
    wide = tuple(value.double() if value.is_floating_point() else value for value in inputs)
    given = derivatives(case, layer, inputs, batch, len(sizes), order=1)
    expected = derivatives(case, exact, wide, batch, len(sizes), order=1)
    assert given["output"].dtype == dtype
    assert given["derivative 1 by 0"].dtype == dtype
    error = (given["output"].double() - expected["output"]).abs()
    absolute = 1e-5 + UNIT[torch.float32] * case.stretch
    assert (error <= 1.01 * UNIT[dtype] / 2 * expected["output"].abs() + absolute).all()


@every_feature_layer
def test_automatic_half_precision_does_not_reach_inside_a_layer(case: Case) -> None:
    (x, *rest), batch = case.inputs(NODES, dtype=torch.float32), ragged_batch()
    for training in (True, False):
        layer = case.make(dtype=torch.float32).train(training)
        other, x = copy.deepcopy(layer), x.detach().requires_grad_()
        expected = case(layer, x, *rest, batch=batch, batch_size=len(SIZES))
        (force,) = torch.autograd.grad(expected.cos().sum(), x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = case(other, x, *rest, batch=batch, batch_size=len(SIZES))
            (inside,) = torch.autograd.grad(y.cos().sum(), x, retain_graph=True)
        (outside,) = torch.autograd.grad(y.cos().sum(), x)
        assert torch.equal(y, expected)
        assert torch.equal(outside, force)
        # torch's own gradient of a product of matrices, two of them, is cast where it is taken.
        assert torch.equal(inside, force) == (not case.representation.startswith("DiffGroupNorm"))
        for name, value in layer.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name


@some_layers(lambda case: case.weights and not case.form.rotates)  # e3nn's own products choose their type
def test_a_linear_map_with_normalized_weights_runs_in_automatic_half_precision(case: Case) -> None:
    layer, (x,) = case.make(dtype=torch.float32).eval(), case.inputs(NODES, dtype=torch.float32)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert (y - expected).abs().max() < 0.05 * expected.abs().max()
