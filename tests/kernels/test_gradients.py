"""Gradient and double backward, against automatic differentiation of the naive formula."""

from contextlib import nullcontext

import pytest
import torch
from kernels.conftest import few
from kernels.oracle import BATCH, COLUMNS, NODES, PARTITIONS, Case, Statistic, every_case, every_choice_of_rows
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck
from untyped import untyped

from geonorm.kernels.operator import standardize
from geonorm.kernels.plan import Parameters

every_rows = pytest.mark.parametrize(("statistic", "mean", "scale"), every_choice_of_rows(), ids=str)
#: Cases in which nothing coincides: centred per sample in uneven groups, scaled over the batch, and so on.
REPRESENTATIVE = [
    Case(Statistic("sample", PARTITIONS["each"]), Statistic("sample", PARTITIONS["each"]), "residual"),
    Case(Statistic("sample", PARTITIONS["uneven"]), Statistic("batch", PARTITIONS["pairs"]), "residual"),
    Case(Statistic("batch", PARTITIONS["pairs"]), Statistic("sample", PARTITIONS["all"], (2, 1, 3, 1, 4, 5)), "rms"),
    Case(Statistic("sample", PARTITIONS["all"]), Statistic("node", PARTITIONS["uneven"]), "own"),
    Case(None, Statistic("node", PARTITIONS["all"]), "rms"),
    Case(Statistic("batch", PARTITIONS["each"]), None, "rms"),
]


def leaves(case: Case, some: str = "all") -> dict[str, Tensor]:
    """Independent variables: x, and all parameters, or none, or all parameters but x."""
    x = torch.randn(NODES, COLUMNS, dtype=torch.float64) + 0.3
    parameters = case.parameters(some=some != "x")
    values = {"alpha": parameters.alpha, "gamma": parameters.gamma, "beta": parameters.beta, "tau": parameters.tau}
    variables = {name: value.requires_grad_() for name, value in values.items() if value is not None}
    return {"x": x.requires_grad_(some != "parameters"), **variables}


def library(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    x = inputs["x"]
    return standardize(x, Parameters(**{name: value for name, value in inputs.items() if name != "x"}), case.plan(x))[0]


def naive(case: Case, inputs: dict[str, Tensor]) -> Tensor:
    return case(inputs["x"], Parameters(**{name: value for name, value in inputs.items() if name != "x"}))


def derivatives(y: Tensor, variables: list[Tensor], directions: list[list[Tensor]], g: Tensor) -> list[list[Tensor]]:
    """The gradient of ⟨g, y⟩, the gradient of that along the first directions, and so on; zero where there is none."""
    orders, value = [], (y * g).sum()
    for along in [*directions, None]:
        found = grad(value, variables, create_graph=along is not None, allow_unused=True)
        orders.append([torch.zeros_like(v) if f is None else f for f, v in zip(found, variables, strict=True)])
        if along is not None:
            value = sum((one * other).sum() for one, other in zip(orders[-1], along, strict=True))
    return [[entry.detach() for entry in order] for order in orders]


def assert_same_derivatives(case: Case, inputs: dict[str, Tensor], orders: int) -> None:
    g = torch.randn(NODES, COLUMNS, dtype=torch.float64, requires_grad=True)
    names = [name for name, value in inputs.items() if value.requires_grad] + ["g"]
    variables = [inputs.get(name, g) for name in names]
    directions = [[torch.randn_like(variable) for variable in variables] for _ in range(orders - 1)]
    found, expected = (derivatives(formula(case, inputs), variables, directions, g) for formula in (library, naive))
    for order, (ours, theirs) in enumerate(zip(found, expected, strict=True), start=1):
        for name, one, other in zip(names, ours, theirs, strict=True):
            error = float((one - other).abs().max() / other.abs().max().clamp(min=1))
            assert error < 1e-11, f"{case}: derivative {order}, {name}: {error:.1e}"


@every_rows
def test_the_gradient_and_its_gradient_are_those_of_the_naive_formula(statistic, mean, scale, implementation):
    start = 5 * every_choice_of_rows().index((statistic, mean, scale))
    for number, case in enumerate(few(every_case(statistic, mean, scale), implementation, start)):
        with untyped() if number else nullcontext():  # shapes are checked once: that takes longer than the derivatives
            assert_same_derivatives(case, leaves(case, ("all", "all", "x", "parameters")[number % 4]), orders=2)


@pytest.mark.parametrize("case", REPRESENTATIVE, ids=str)
def test_the_third_and_the_fourth_derivative_are_right_too(case):
    assert_same_derivatives(case, leaves(case), orders=4)


@pytest.mark.parametrize("case", REPRESENTATIVE, ids=str)
def test_derivatives_agree_with_finite_differences(case):
    inputs = leaves(case)

    def function(*values: Tensor) -> Tensor:
        return library(case, dict(zip(inputs, values, strict=True)))

    assert gradcheck(function, tuple(inputs.values()), fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(function, tuple(inputs.values()), fast_mode=True)


@pytest.mark.parametrize("case", REPRESENTATIVE, ids=str)
def test_each_part_of_the_gradient_has_its_own_gradient(case):
    # Training on forces differentiates the gradient of x alone; other losses differentiate that of one parameter.
    inputs = leaves(case)
    for name in inputs:
        results = []
        for formula in (library, naive):
            g = torch.ones(NODES, COLUMNS, dtype=torch.float64)
            g[BATCH == 0] = 2.0
            (first,) = grad((formula(case, inputs) * g).sum(), inputs[name], create_graph=True)
            loss = (first * torch.cos(torch.arange(first.numel()).view_as(first))).sum()
            found = grad(loss, list(inputs.values()), allow_unused=True) if loss.requires_grad else [None] * len(inputs)
            pairs = zip(found, inputs.values(), strict=True)
            results.append([torch.zeros_like(value) if entry is None else entry for entry, value in pairs])
        for other, one, expected in zip(inputs, *results, strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-10, atol=1e-11, msg=f"{name} by {other}")


def test_the_gradient_is_given_for_whatever_asks_for_one():
    case = REPRESENTATIVE[0]
    for wanted in ("x", "alpha", "gamma", "beta", "tau"):
        inputs = {name: value.detach().requires_grad_(name == wanted) for name, value in leaves(case).items()}
        library(case, inputs).square().sum().backward()
        for name, value in inputs.items():
            assert (value.grad is not None) == (name == wanted)
