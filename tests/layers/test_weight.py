"""Rows that normalize weights: equal to torch, and to the published formulas."""

import copy
import math

import pytest
import torch
from layers.peers import assert_equal, assert_same_function, difference, features, randomize, refused
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import geonorm as gn

IN, OUT = 5, 4


def linear(inputs: int = IN, outputs: int = OUT, **options) -> nn.Linear:
    """A linear map in float64."""
    return nn.Linear(inputs, outputs, dtype=torch.float64, **options)


def original(module: nn.Module, number: str = "original") -> Tensor:
    """The tensor behind a normalized weight."""
    return getattr(module.parametrizations.weight, number)


# weight_norm


def both(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The module with our weight norm and with torch's, of the same random gains and weights."""
    theirs = randomize(parametrizations.weight_norm(copy.deepcopy(module)))
    ours = gn.weight_norm(module)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("kind", [nn.Linear, lambda *shape, **k: nn.Conv1d(*shape, 1, **k)], ids=["linear", "conv"])
def test_weight_norm_is_the_one_of_torch(kind) -> None:
    ours, theirs = both(kind(IN, OUT, dtype=torch.float64))
    x = features(7, IN)
    x = x if kind is nn.Linear else x[:, :, None]
    tensors = dict(ours.named_parameters())

    def function(module: nn.Module):
        return lambda x, *given: torch.func.functional_call(module, dict(zip(tensors, given, strict=True)), (x,))

    assert_same_function(function(ours), function(theirs), {"x": x, **tensors})


def test_second_derivatives_by_the_weight_are_wrong_in_torch_and_right_in_ours() -> None:
    def second_derivative(module: nn.Module) -> Tensor:
        weight = original(module, "original1")
        (gradient,) = torch.autograd.grad(module.weight.pow(3).sum(), weight, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), weight)[0]

    ours, theirs = both(linear())
    gain, weight = original(ours, "original0").detach(), original(ours, "original1").detach().requires_grad_()
    formula = (gain * weight / weight.square().sum(1, keepdim=True).sqrt()).pow(3).sum()
    (gradient,) = torch.autograd.grad(formula, weight, create_graph=True)
    (expected,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert_equal(second_derivative(ours), expected)
    assert (second_derivative(theirs) - expected).abs().max() > 0.1 * expected.abs().max()


def test_weights_of_zero_stay_zero_and_differentiable_where_torch_has_nan() -> None:
    module = linear()
    nn.init.zeros_(module.weight)
    theirs = parametrizations.weight_norm(copy.deepcopy(module))
    gn.weight_norm(module)
    assert theirs.weight.isnan().all()
    assert_equal(module.weight, torch.zeros(OUT, IN))
    module(features(7, IN)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_weight_norm_changes_nothing_at_first_and_gives_each_output_unit_a_length_of_its_own() -> None:
    module = linear()
    before = module.weight.detach().clone()
    assert gn.weight_norm(module) is module
    assert_equal(module.weight, before)
    gain, direction = original(module, "original0"), original(module, "original1")
    assert gain.shape == (OUT, 1)
    assert_equal(gain, before.norm(dim=1, keepdim=True))
    with torch.no_grad():
        gain.copy_(torch.arange(1.0, OUT + 1)[:, None])
        direction.mul_(7)
    assert_equal(module.weight.norm(dim=1), torch.arange(1.0, OUT + 1))
    assert_equal(module.weight / gain, before / before.norm(dim=1, keepdim=True))


# spectral_norm


def test_spectral_norm_is_the_one_of_torch() -> None:
    ours, x = linear(), features(7, IN)
    theirs = copy.deepcopy(ours)
    ours = gn.spectral_norm(ours, n_power_iterations=2)
    theirs = parametrizations.spectral_norm(theirs, n_power_iterations=2)
    theirs.load_state_dict(ours.state_dict())
    for mode in (True, True, False):
        ours.train(mode)
        theirs.train(mode)
        assert_same_function(ours, theirs, {"x": x})


def test_spectral_norm_divides_by_the_largest_singular_value_where_the_survey_multiplies() -> None:
    module = linear()
    with torch.no_grad():
        module.weight.mul_(5)
    weight = module.weight.detach().clone()
    sigma = torch.linalg.matrix_norm(weight, 2)
    assert gn.spectral_norm(module, n_power_iterations=300) is module
    assert_equal(module.weight, weight / sigma)
    assert_equal(torch.linalg.matrix_norm(module.weight, 2), torch.tensor(1.0))
    printed = sigma * weight
    assert sigma**2 > 2
    assert_equal(torch.linalg.matrix_norm(printed, 2), sigma**2, "the printed product")


def test_spectral_norm_follows_the_weight_in_training_only() -> None:
    module = gn.spectral_norm(linear())
    x = features(7, IN)
    with torch.no_grad():
        original(module).copy_(torch.randn(OUT, IN))
    module.eval()
    frozen = module(x)
    assert_equal(module(x), frozen)
    module.train()
    for _ in range(300):
        module(x)
    module.eval()
    assert difference(module(x), frozen) > 1e-3
    assert_equal(torch.linalg.matrix_norm(module.weight, 2), torch.tensor(1.0))


# scaled_weight_standardization


@pytest.mark.parametrize(("nonlinearity", "constant"), [("linear", 1.0), ("relu", math.sqrt(2 / (1 - 1 / math.pi)))])
@pytest.mark.parametrize("gain", [True, False])
def test_scaled_weight_standardization_computes_its_formula(nonlinearity: str, constant: float, gain: bool) -> None:
    module = linear()
    with torch.no_grad():
        module.weight.mul_(3).add_(1)
    weight, bias = module.weight.detach().clone(), module.bias
    assert gn.scaled_weight_standardization(module, gain=gain, nonlinearity=nonlinearity) is module
    gains = torch.linspace(0.5, 2, OUT, dtype=torch.float64)
    if gain:
        with torch.no_grad():
            module.parametrizations.weight[0].gain.copy_(gains)

    names = ["parametrizations.weight.original", *(["parametrizations.weight.0.gain"] if gain else [])]

    def ours(x: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, given, strict=True)), (x,))

    def theirs(x: Tensor, weight: Tensor, gains: Tensor | None = None) -> Tensor:
        mean, deviation = weight.mean(1, keepdim=True), weight.std(1, unbiased=False, keepdim=True)
        standardized = constant * (weight - mean) / (deviation * IN**0.5)
        return x @ (standardized if gains is None else gains[:, None] * standardized).T + bias

    assert_same_function(ours, theirs, {"x": features(7, IN), "W": weight, **({"gain": gains} if gain else {})})


def test_standardized_rows_add_up_to_zero_and_have_norm_one_where_the_printed_ones_have_the_root_of_the_fan_in() -> (
    None
):
    module = linear()
    weight = module.weight.detach().clone()
    gn.scaled_weight_standardization(module)
    assert_equal(module.weight.sum(1), torch.zeros(OUT))
    assert_equal(module.weight.norm(dim=1), torch.ones(OUT))
    printed = (weight - weight.mean(1, keepdim=True)) / weight.std(1, unbiased=False, keepdim=True)
    assert_equal(printed.norm(dim=1), torch.full((OUT,), 5**0.5, dtype=torch.float64), "without the root of the fan-in")


def test_a_constant_added_to_all_inputs_of_a_node_is_lost() -> None:
    module, x = gn.scaled_weight_standardization(linear()), features(7, IN)
    assert_equal(module(x + features(7, 1)), module(x))


def test_the_fan_in_of_a_convolution_counts_its_window() -> None:
    module = nn.Conv1d(3, OUT, 5, dtype=torch.float64)
    assert gn.scaled_weight_standardization(module).parametrizations.weight[0].matrices.least_fan_in == 15
    assert_equal(module.weight.flatten(1).norm(dim=1), torch.ones(OUT))


def test_constant_rows_become_zero_and_stay_differentiable() -> None:
    module = linear()
    nn.init.constant_(module.weight, 2.0)
    gn.scaled_weight_standardization(module)
    assert_equal(module.weight, torch.zeros(OUT, IN))
    module(features(7, IN)).square().sum().backward()
    assert original(module).grad.isfinite().all()


def test_small_rows_are_divided_by_the_least_value_as_in_the_code_of_the_authors() -> None:
    module = linear()
    with torch.no_grad():
        module.weight.mul_(1e-6)
    centred = module.weight.detach() - module.weight.detach().mean(1, keepdim=True)
    gn.scaled_weight_standardization(module, eps=1e-4)
    assert_equal(module.weight, centred / 1e-2)


def test_half_precision_weights_are_standardized_in_float32() -> None:
    module = nn.Linear(4000, 2, bias=False)
    nn.init.normal_(module.weight, mean=10.0)
    module.to(torch.bfloat16)
    weight = module.weight.detach().double()
    centred = weight - weight.mean(1, keepdim=True)
    gn.scaled_weight_standardization(module)
    assert module.weight.dtype == torch.bfloat16
    exact = centred / centred.norm(dim=1, keepdim=True)
    assert ((module.weight - exact).abs() <= 2**-8 * exact.abs() + 1e-7).all()


def test_weights_that_cannot_be_standardized_are_refused() -> None:
    with refused("nonlinearity is 'silu', expected one of 'linear', 'relu'"):
        gn.scaled_weight_standardization(linear(), nonlinearity="silu")
    with refused(r"the weight 'weight' has shape \[4, 1\] and an output unit of fan-in 1: standardizing needs"):
        gn.scaled_weight_standardization(linear(1))
    with refused(r"the weight 'bias' has shape \[4\]"):
        gn.scaled_weight_standardization(linear(), "bias")
