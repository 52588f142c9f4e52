"""The compiler: one graph, the same numbers, few compilations."""

import shutil

import pytest
import torch
from kernels.oracle import BATCH, COLUMNS, NODES, SAMPLES
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from untyped import untyped_copy


@pytest.fixture(scope="module")
def gn():
    """The library without the check of shapes, whose wrappers the compiler cannot trace."""
    with untyped_copy() as library:
        yield library


@pytest.fixture(autouse=True)
def nothing_compiled():
    """Forget what was compiled before."""
    torch.compiler.reset()


LAYERS = {
    "GraphNorm": lambda gn: gn.GraphNorm(COLUMNS),
    "BatchNorm": lambda gn: gn.BatchNorm(COLUMNS),
    "LayerNorm of nodes": lambda gn: gn.LayerNorm(COLUMNS, mode="node"),
    "BatchNorm of irreps": lambda gn: gn.Standardize(
        "3x0e+1x1o", mean="bx", scale="bxm", track_running_stats=True, momentum=None
    ),
    "learned exponent": lambda gn: gn.Standardize(
        "3x0e+1x1o", mean="x", scale="xm", statistic="rms", mean_on="all", learn_exponent=True, exponent=0.5
    ),
}


def first_order(layer: nn.Module, x: Tensor, batch: Tensor, samples: int) -> list[Tensor]:
    layer.zero_grad()
    y = layer(x, batch, samples)
    weight = torch.cos(torch.arange(y.numel())).view_as(y)
    (y * weight).sum().backward()
    grads = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    x.grad = None
    return [value.detach().clone() for value in (y, *grads, *layer.state_dict().values())]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_compiled_layer_is_one_graph_with_the_same_result(gn, make, training):
    layer = make(gn).train(training)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(NODES, COLUMNS, requires_grad=True)
    expected = first_order(layer, x, BATCH, SAMPLES)
    layer.load_state_dict(state)
    found = first_order(torch.compile(layer, backend="aot_eager", fullgraph=True), x, BATCH, SAMPLES)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_batches_of_other_sizes_do_not_compile_again_and_again(gn):
    counter = CompileCounterWithBackend("aot_eager")
    layer = gn.GraphNorm(COLUMNS)
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for sizes in ((3, 4), (5, 2, 6), (1, 2, 3, 4), (7, 7, 3, 2, 2), (9, 4)):
        batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        x = torch.randn(len(batch), COLUMNS)
        torch.testing.assert_close(compiled(x, batch, len(sizes)), layer(x, batch, len(sizes)))
    assert counter.frame_count <= 2


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="inductor needs a C++ compiler")
def test_the_default_compiler_gives_the_same_result(gn):
    layer = gn.GraphNorm(COLUMNS)
    x = torch.randn(NODES, COLUMNS, requires_grad=True)
    expected = first_order(layer, x, BATCH, SAMPLES)
    found = first_order(torch.compile(layer, fullgraph=True), x, BATCH, SAMPLES)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_second_derivative_of_compiled_code_is_refused_and_never_wrong(gn):
    # Training on forces needs it: there the layer is to be left out of the compiled part.
    layer = gn.GraphNorm(COLUMNS)
    x = torch.randn(NODES, COLUMNS, requires_grad=True)
    y = torch.compile(layer, backend="aot_eager", fullgraph=True)(x, BATCH, SAMPLES)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(first.square().sum(), x)


def test_the_safe_norm_is_one_graph(gn):
    x = torch.tensor([[3e20, 4e20], [0.0, 0.0], [3e-20, 4e-20]], requires_grad=True)
    norm = torch.compile(gn.numerics.safe_norm, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(norm, torch.tensor([5e20, 0.0, 5e-20]))
    (gradient,) = torch.autograd.grad(norm.sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]))
