"""The closed forms of gradient and double backward are the derivatives of the formula, for every choice of pools."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import geonorm as gn
from geonorm.kernels import operator

BATCH = torch.tensor([0, 2, 0, 2, 2, 1, 4, 4, 4, 4, 2, 0])
SAMPLES = 6
AXES = {
    "scalars": (6, [None, "v", "x", "bx", "xv", "bxv"]),
    "irreps": ("2x0e+2x1o+1x0o", [None, "vm", "xm", "bxm", "xvm", "bx", "x", "xvtm"]),
}
CHOICES = [
    (features, mean, scale, statistic)
    for features, axes in AXES.values()
    for mean, scale, statistic in itertools.product(axes, axes, ("rms", "residual", "own"))
    if scale is not None or statistic == "residual"
]
PARAMETERS = [
    {},
    {"alpha": 0.6, "gain": False, "bias": False},
    {"learn_alpha": True},
    {"exponent": 0.7},
    {"exponent": 0.5, "learn_exponent": True, "learn_alpha": True},
]


def build(features, mean, scale, statistic, options) -> gn.Standardize:
    layer = gn.Standardize(
        features,
        mean=mean,
        scale=scale,
        statistic=statistic,
        mean_on="all",
        allow_illegal=True,
        eps=0.05,
        dtype=torch.float64,
        **options,
    )
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def derivatives(layer: gn.Standardize, x: Tensor, g: Tensor, third: bool) -> list[Tensor]:
    """Output, gradients, the gradients of a function of them, and the gradients of a function of those."""
    x, g, parameters = x.clone().requires_grad_(), g.clone().requires_grad_(), list(layer.parameters())
    generator = torch.Generator().manual_seed(1)

    def mixed(values: list[Tensor]) -> Tensor:
        draws = [torch.randn(value.shape, dtype=value.dtype, generator=generator) for value in values]
        return sum((value * draw).sum() + value.square().sum() for value, draw in zip(values, draws, strict=True))

    y = layer(x, BATCH, SAMPLES)
    first = torch.autograd.grad(y, [x, *parameters], g, create_graph=True)
    second = torch.autograd.grad(mixed(first), [x, g, *parameters], create_graph=third, materialize_grads=True)
    last = torch.autograd.grad(mixed(second), [x, g, *parameters], materialize_grads=True) if third else ()
    return [y, *first, *second, *last]


def plain(layer: gn.Standardize, x: Tensor, g: Tensor, third: bool, monkeypatch) -> list[Tensor]:
    """The same, differentiated by torch from the formula."""
    with monkeypatch.context() as patch:
        patch.setattr(operator, "_differentiated_by_torch", lambda: True)
        return derivatives(layer, x, g, third)


@pytest.mark.parametrize("number", range(len(PARAMETERS)))
@pytest.mark.parametrize("features", [features for features, _ in AXES.values()])
def test_closed_forms_are_the_derivatives_of_the_formula(features, number: int, monkeypatch) -> None:
    for place, choice in enumerate(choice for choice in CHOICES if choice[0] == features):
        if (place + number) % 2:
            continue
        layer = build(*choice, PARAMETERS[number] if choice[2] is not None else {})
        x = torch.randn(len(BATCH), layer.fields.dim, dtype=torch.float64) + 0.7
        g, third = torch.randn_like(x), place % 7 == 0
        found = derivatives(layer, x, g, third)
        expected = plain(layer, x, g, third, monkeypatch)
        for order, (value, reference) in enumerate(zip(found, expected, strict=True)):
            error = (value - reference).abs().max() / (1 + reference.abs().max())
            assert error < 1e-11, (choice, PARAMETERS[number], order)


@pytest.mark.parametrize("normalization", ["component", "norm", "row", "degree"])
@pytest.mark.parametrize("scale", ["bxm", "xvtm", "vm"])
def test_closed_forms_hold_for_every_weight_of_the_entries_of_a_pool(
    normalization: str, scale: str, monkeypatch
) -> None:
    for mean in (None, "bx" if "b" in scale else "x" if "x" in scale else "v"):
        layer = gn.Standardize(
            "2x0e+2x1o+1x2e", mean=mean, scale=scale, normalization=normalization, dtype=torch.float64
        )
        x = torch.randn(len(BATCH), layer.fields.dim, dtype=torch.float64) + 0.7
        g = torch.randn_like(x)
        for value, reference in zip(derivatives(layer, x, g, True), plain(layer, x, g, True, monkeypatch), strict=True):
            torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("mean", "scale", "statistic"),
    [("x", "x", "residual"), ("x", "xv", "residual"), ("bx", "bx", "own"), (None, "v", "rms"), ("x", "v", "residual")],
)
def test_closed_forms_agree_with_finite_differences(mean, scale, statistic) -> None:
    options = {"learn_alpha": mean is not None, "exponent": 0.5, "learn_exponent": True}
    layer = build(3, mean, scale, statistic, options)
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(len(BATCH), 3, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, BATCH, SAMPLES))

    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("layer", [gn.GraphNorm(8), gn.LayerNorm(8), gn.PairNorm(8), gn.BatchNorm(8)], ids=repr)
def test_only_the_features_are_kept_for_the_backward_pass(layer: nn.Module) -> None:
    x = torch.randn(3000, 8, requires_grad=True)
    batch = torch.arange(3000) // 30
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x, batch, 100)
    for tensor in (x, batch, y):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) < 0.15 * x.untyped_storage().nbytes()


def test_the_gradient_of_a_node_alone_in_its_sample_is_exactly_zero() -> None:
    x = torch.randn(3, 8, requires_grad=True)
    batch, g = torch.arange(3), torch.randn(3, 8)
    for layer in (gn.InstanceNorm(8), gn.GraphNorm(8)):
        nn.init.constant_(layer.weight, 1.3) if layer.weight is not None else None
        (gradient,) = torch.autograd.grad(layer(x, batch, 3), x, g, create_graph=True)
        assert not gradient.any()
        (second,) = torch.autograd.grad(gradient.sum(), x)
        assert not second.any()


def test_what_nobody_asks_for_is_not_computed() -> None:
    layer, g = gn.GraphNorm(8), torch.randn(12, 8)
    x = torch.randn(12, 8)
    only_parameters = torch.autograd.grad(layer(x, BATCH, SAMPLES), list(layer.parameters()), g)
    x.requires_grad_()
    everything = torch.autograd.grad(layer(x, BATCH, SAMPLES), [x, *layer.parameters()], g)
    for value, reference in zip(only_parameters, everything[1:], strict=True):
        torch.testing.assert_close(value, reference)
    with torch.no_grad():
        assert not layer(x, BATCH, SAMPLES).requires_grad
