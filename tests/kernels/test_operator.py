"""The operator: types, memory and function transforms."""

import pytest
import torch
from kernels.oracle import BATCH, COLUMNS, NODES, PARTITIONS, SAMPLES, Case, Statistic
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils._pytree import tree_leaves
from untyped import untyped

import geonorm as gn
from geonorm.axes import NodeFeatures
from geonorm.kernels import analytic
from geonorm.kernels.operator import standardize
from geonorm.kernels.plan import Parameters

CASES = [
    Case(Statistic("sample", PARTITIONS["each"]), Statistic("sample", PARTITIONS["each"]), "residual"),
    Case(Statistic("batch", PARTITIONS["each"]), Statistic("batch", PARTITIONS["pairs"]), "residual"),
    Case(Statistic("sample", PARTITIONS["uneven"]), Statistic("batch", PARTITIONS["pairs"]), "residual"),
    Case(Statistic("sample", PARTITIONS["all"]), Statistic("sample", PARTITIONS["uneven"]), "own"),
    Case(None, Statistic("node", PARTITIONS["all"]), "rms"),
    Case(Statistic("sample", PARTITIONS["each"]), None, "rms"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def features() -> Tensor:
    return torch.randn(NODES, COLUMNS, dtype=torch.float64) + 0.3


def as_type(parameters: Parameters, dtype: torch.dtype) -> Parameters:
    named = {name: getattr(parameters, name) for name in ("alpha", "gamma", "beta", "tau")}
    return Parameters(**{name: None if value is None else value.to(dtype) for name, value in named.items()})


# Types


def both_orders(case: Case, x: Tensor, parameters: Parameters) -> list[Tensor | None]:
    """The result, its gradient by everything, and the gradient of the gradient of x by everything."""
    named = {name: getattr(parameters, name) for name in ("alpha", "gamma", "beta", "tau")}
    inputs = {"x": x, **{name: value for name, value in named.items() if value is not None}}
    inputs = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    variables = list(inputs.values())
    x = inputs.pop("x")
    y, mean, square = standardize(x, Parameters(**inputs), case.plan(x))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    assert y.dtype == x.dtype
    assert all(statistic is None or statistic.dtype == wide for statistic in (mean, square))
    weight = torch.cos(torch.arange(y.numel())).view_as(y).to(y.dtype)
    first = torch.autograd.grad(y, variables, weight, create_graph=True)
    assert [value.dtype for value in first] == [value.dtype for value in variables]
    return [y, *first, *torch.autograd.grad(first[0], variables, weight, allow_unused=True)]


@every_case
@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mixed", [False, True], ids=["same parameters", "float32 parameters"])
def test_in_each_type_result_and_gradients_are_those_of_float64_up_to_one_rounding(case, narrow, mixed):
    x = features().to(narrow)
    parameters = as_type(case.parameters(), torch.float32 if mixed else narrow)
    found = both_orders(case, x, parameters)
    expected = both_orders(case, x.double(), as_type(parameters, torch.float64))
    rounding = max(torch.finfo(narrow).eps, 16 * torch.finfo(torch.float32).eps)
    for one, exact in zip(found, expected, strict=True):
        assert (one is None) == (exact is None)
        if exact is not None:
            assert (one.double() - exact).abs().max() <= 4 * rounding * exact.abs().max().clamp(min=1)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rows", ["sample", "batch"])
def test_statistics_of_half_precision_are_those_of_float32(narrow, rows):
    # A sum of 5000 entries of size 100 leaves the range of float16, and bfloat16 cannot count above 256.
    x = (100 + 10 * torch.randn(5000, COLUMNS)).to(narrow)
    batch = torch.arange(5000) % 2
    case = Case(Statistic(rows, PARTITIONS["each"]), Statistic(rows, PARTITIONS["pairs"]), "residual")
    _, mean, square = standardize(x, Parameters(), case.plan(x, batch, 2))
    _, exact_mean, exact_square = standardize(x.double(), Parameters(), case.plan(x.double(), batch, 2))
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(square.double(), exact_square, rtol=1e-5, atol=0)


@every_case
def test_the_statistics_it_returns_are_numbers_not_variables(case):
    x = features().requires_grad_()
    y, mean, square = standardize(x, case.parameters(), case.plan(x))
    assert y.requires_grad
    for statistic in (mean, square):
        assert statistic is None or not statistic.requires_grad
    assert (mean is None) == (case.mean is None)
    assert (square is None) == (case.scale is None)


def test_with_nothing_to_do_the_result_is_a_copy():
    x = features().requires_grad_()
    case = Case(None, None, "rms")
    y, _, _ = standardize(x, Parameters(), case.plan(x))
    assert torch.equal(y, x)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.ones_like(x))


# Memory


def saved(function, *inputs: Tensor) -> int:
    """The bytes that autograd keeps for the backward pass of a function, each piece of memory counted once."""
    kept: dict[int, int] = {}

    def count(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        result = function(*inputs)
    del result
    return sum(kept.values())


@pytest.mark.parametrize(
    ("mean", "scale", "statistic", "share"),
    [("x", "x", "residual", 1 / 3), ("x", "xv", "own", 1 / 3), ("bx", "bx", "residual", 1.01)],
)
def test_only_the_features_and_small_tensors_are_kept(mean, scale, statistic, share):
    nodes, channels, samples = 2000, 64, 100
    x = torch.randn(nodes, channels, requires_grad=True)
    batch = torch.arange(nodes) // (nodes // samples)
    layer = gn.Standardize(channels, mean=mean, scale=scale, statistic=statistic)
    kept = saved(layer, x, batch, samples)
    matrix, statistics, index = nodes * channels * 4, samples * channels * 4, nodes * 8
    assert matrix <= kept <= matrix + 3 * statistics + 2 * index

    def plain(x: Tensor) -> Tensor:
        plan = layer._plan(NodeFeatures.read(x, batch, samples, channels))
        return analytic.forward(x, layer._operator_parameters(x), plan)[0]

    torch.testing.assert_close(plain(x), layer(x, batch, samples))
    assert kept <= share * saved(plain, x)


def test_the_gradient_keeps_one_more_matrix_for_its_own_gradient():
    nodes, channels = 2000, 64
    x = torch.randn(nodes, channels, requires_grad=True)
    batch = torch.arange(nodes) // 20
    y = gn.GraphNorm(channels)(x, batch, 100)
    weight = torch.randn_like(x, requires_grad=True)
    kept = saved(lambda y: torch.autograd.grad(y, x, weight, create_graph=True), y)
    assert kept <= 2.3 * nodes * channels * 4


# Function transforms


def as_function(layer: torch.nn.Module, batch: Tensor, samples: int):
    """The layer as a function of x and its parameters, and these parameters, moved from where they start."""
    names = [name for name, _ in layer.named_parameters()]
    values = [value.detach() + 0.1 * torch.randn_like(value) for _, value in layer.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x, batch, samples))

    return function, values


TRANSFORMED = [
    gn.GraphNorm(3, eps=0.1, dtype=torch.float64),
    gn.Standardize(
        3, mean="x", scale="xv", statistic="rms", eps=0.1, learn_exponent=True, exponent=0.6, dtype=torch.float64
    ),
    gn.Standardize(3, mean="bx", scale="x", statistic="own", eps=0.1, bias=False, gain=False, dtype=torch.float64),
]
#: Reverse over reverse is the closed form; the others must agree with it.
NESTED = {
    "forward over reverse": lambda f, at: jacfwd(jacrev(f, at), at),
    "reverse over forward": lambda f, at: jacrev(jacfwd(f, at), at),
    "forward over forward": lambda f, at: jacfwd(jacfwd(f, at), at),
    "hessian": hessian,
}


@pytest.mark.parametrize("layer", TRANSFORMED, ids=repr)
def test_all_ways_to_the_second_derivative_agree(layer):
    function, values = as_function(layer, BATCH, SAMPLES)
    x = torch.randn(NODES, 3, dtype=torch.float64)
    weight = torch.randn_like(x)
    at = tuple(range(1 + len(values)))

    def loss(*inputs: Tensor) -> Tensor:
        return (function(*inputs) * weight).sum()

    with untyped():
        expected = tree_leaves(jacrev(jacrev(loss, at), at)(x, *values))
        for name, way in NESTED.items():
            for one, other in zip(tree_leaves(way(loss, at)(x, *values)), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11, msg=name)


@pytest.mark.parametrize("layer", TRANSFORMED, ids=repr)
def test_forward_mode_is_the_transpose_of_reverse_mode(layer):
    function, values = as_function(layer, BATCH, SAMPLES)
    x, tangent, cotangent = torch.randn(3, NODES, 3, dtype=torch.float64)
    _, along = jvp(lambda x: function(x, *values), (x,), (tangent,))
    pulled = grad(lambda x: (function(x, *values) * cotangent).sum())(x)
    torch.testing.assert_close((along * cotangent).sum(), (pulled * tangent).sum())


@pytest.mark.parametrize("layer", TRANSFORMED, ids=repr)
def test_vmap_is_a_loop(layer):
    function, values = as_function(layer, BATCH, SAMPLES)
    x = torch.randn(4, NODES, 3, dtype=torch.float64)
    weight = torch.randn(NODES, 3, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return function(x, *values)

    def slope(x: Tensor) -> Tensor:
        return grad(lambda x: (value(x) * weight).sum())(x)

    def curve(x: Tensor) -> Tensor:
        return grad(lambda x: (slope(x) * weight).sum())(x)

    for one in (value, slope, curve):
        torch.testing.assert_close(vmap(one)(x), torch.stack([one(entry) for entry in x]))
    torch.testing.assert_close(
        grad(lambda x: vmap(value)(x).square().sum())(x), vmap(grad(lambda x: value(x).square().sum()))(x)
    )
