"""ScaleFactor: GemNet's constants, measured once on a few batches and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geonorm.axes import check_floating_point
from geonorm.numerics import accumulation_dtype
from geonorm.processes import global_sum


class ScaleFactor(nn.Module):
    r"""Scale factor: multiply by a constant that was fitted so that the variance of a reference is kept.

    $$ y\mapsto\lambda y,\qquad \lambda=\sqrt{\mathrm{Var}(x_{\rm ref})/\mathrm{Var}(y)} $$

    Without a reference the variance becomes one. λ is fitted by :func:`fit_scale_factors` before training and never
    trained: a buffer of the state dict, NaN until then. A constant breaks no symmetry and adds no invariance.

    Args:
        channels: The number of columns of y.
        device: The device of the buffer ``scale_factor``.
        dtype: Its dtype.

    Raises:
        ValueError: If the number of channels is negative.

    Source: Gasteiger, Becker and Günnemann 2021 (arXiv 2106.08903); TUM-DAML/gemnet_pytorch ``ScalingFactor``, where a
    factor that was not fitted is one.
    """

    def __init__(
        self, channels: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if channels < 0:
            raise ValueError(f"channels is {channels}, expected a number of channels >= 0")
        self.channels = channels
        self.register_buffer("scale_factor", torch.full((), math.nan, device=device, dtype=dtype))
        # Whether the factor is known, on the host: the forward pass must not wait for the device to find out.
        self.fitted = False
        self._observer: Callable[[ScaleFactor, Tensor, Tensor | None], None] | None = None

    def reset_parameters(self) -> None:
        """Forget the factor."""
        self.scale_factor.fill_(math.nan)
        self.fitted = False

    def set(self, value: float | int) -> None:
        """Set the factor.

        Args:
            value: A positive number.

        Raises:
            ValueError: If it is not positive and finite.
        """
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"the scale factor is {value}, expected a positive number")
        self.scale_factor.fill_(value)
        self.fitted = True

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        value = state_dict.get(f"{prefix}scale_factor")
        if value is not None and not value.is_meta:
            self.fitted = bool(value.isfinite())

    def forward(
        self,
        y: Float[Tensor, "*rows channels"],
        reference: Float[Tensor, "..."] | Callable[[], Float[Tensor, "..."]] | None = None,
    ) -> Float[Tensor, "*rows channels"]:
        """Multiply by the factor.

        Args:
            y: Features, ``[rows, channels]``, of nodes, edges or triplets; any irreps.
            reference: The features whose variance y is to have, ``[other rows, other channels]``, or a function that
                makes them; looked at while the factor is fitted, and not otherwise.

        Returns:
            The scaled features, of the shape and dtype of ``y``.

        Raises:
            ValueError: If the last axis does not fit, or y holds no floating-point numbers.
            RuntimeError: If the factor has not been fitted.
        """
        if not y.ndim or y.shape[-1] != self.channels:
            raise ValueError(f"y has shape {list(y.shape)}, expected [rows, {self.channels}]")
        check_floating_point(y, "y")
        if self._observer is not None:
            self._observer(self, y, reference() if callable(reference) else reference)
        if not self.fitted:
            raise RuntimeError(
                "this ScaleFactor has not been fitted: call geonorm.fit_scale_factors(model, batches) on a few batches "
                "before training, or load a state dict in which it is fitted"
            )
        return (y.to(accumulation_dtype(y.dtype)) * self.scale_factor).to(y.dtype)

    def extra_repr(self) -> str:
        """The number of channels and the factor."""
        known = self.fitted and not self.scale_factor.is_meta
        return f"{self.channels}, scale_factor={round(self.scale_factor.item(), 4) if known else None}"


class Variance:
    """The variances that one factor sees, in float64: mean over columns of the variance over rows, weighed by rows."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)  # rows, and rows times the variance of y and of the reference

    def __call__(self, factor: ScaleFactor, y: Tensor, reference: Tensor | None) -> None:
        rows, variance = self._of(y)
        known, wanted = (2, 1.0) if reference is None else self._of(reference)
        if rows and known:
            self.sums += torch.tensor([rows, rows * variance, rows * wanted], dtype=torch.float64)

    @staticmethod
    def _of(values: Tensor) -> tuple[int, float]:
        """Rows and variance; no rows where there are too few for a variance."""
        matrix = values.detach().double().reshape(-1, values.shape[-1])
        if matrix.shape[0] < 2 or not matrix.shape[1]:
            return 0, 0.0
        return matrix.shape[0], float(matrix.var(0).mean())

    def factor(self, name: str) -> float:
        """The factor that follows; the name is for the person to whom there is none."""
        rows, output, reference = global_sum(self.sums).tolist()
        if not rows:
            raise ValueError(f"the batches hold no two rows for {name}: a variance needs them")
        if not (output > 0 and reference > 0 and math.isfinite(output) and math.isfinite(reference)):
            raise ValueError(
                f"{name} cannot be fitted: the variance of its input is {output / rows:.3g} and that of its reference "
                f"{reference / rows:.3g}, expected positive numbers"
            )
        return math.sqrt(reference / output)


@contextmanager
def _in_evaluation(model: nn.Module):
    """Evaluation mode without gradients; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _call(model: nn.Module, batch: object) -> object:
    """The model of a batch: a tuple or a mapping holds its arguments."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def fit_scale_factors(
    model: nn.Module, batches: Iterable, call: Callable[[nn.Module, object], object] | None = None
) -> dict[str, float]:
    r"""Fit every :class:`ScaleFactor` of a model, one after the other, in the order in which the model meets them.

    $$ \lambda=\sqrt{\sum_bn_bv^{\rm ref}_b\Big/\sum_bn_bv_b},\qquad
       v=\operatorname*{mean}_{\rm columns}\ \operatorname*{var}_{\rm rows} $$

    with the unbiased variance over the rows of a batch b and their number $n_b$. All factors start at one; each is
    fitted with those before it in place, on all batches, in evaluation mode and without gradients (a model that needs
    them for forces enables them in ``call``). Across processes, each of which needs batches, the sums are those of all.

    Args:
        model: A model with scale factors; they are changed, nothing else is.
        batches: A few batches of the training set.
        call: What runs the model on a batch, ``call(model, batch)``. Without it a batch that is a tuple or a mapping
            holds the arguments of the model.

    Returns:
        The factors by the names of their modules, in the order of fitting. Factors that the model never meets are not
        among them and stay as they were.

    Raises:
        ValueError: If there are no batches, no factor is met, or a variance is zero or not finite. The factors are
            then as they were before.

    Source: TUM-DAML/gemnet_pytorch ``AutomaticFit``, which goes in the order of creation.
    """
    call = _call if call is None else call
    given = list(batches)
    if not given:
        raise ValueError("there are no batches to fit the scale factors on: give a few batches of the training set")
    names = {module: name for name, module in model.named_modules() if isinstance(module, ScaleFactor)}
    before = {factor: (factor.scale_factor.clone(), factor.fitted) for factor in names}
    met: dict[ScaleFactor, None] = {}
    found: dict[str, float] = {}
    try:
        with _in_evaluation(model):
            for factor in names:
                factor.set(1.0)
                factor._observer = lambda factor, y, reference: met.setdefault(factor)
            for batch in given:
                call(model, batch)
            for factor in names:
                factor._observer = None
            for factor in met:
                variance = factor._observer = Variance()
                for batch in given:
                    call(model, batch)
                factor._observer = None
                name = names[factor] or type(factor).__name__
                factor.set(variance.factor(name))
                found[name] = factor.scale_factor.item()
        if not found:
            raise ValueError("the model meets no ScaleFactor: is it the right model, and does call run it?")
    except BaseException:
        met.clear()
        raise
    finally:
        for factor, (value, fitted) in before.items():
            factor._observer = None
            if factor not in met:
                factor.scale_factor.copy_(value)
                factor.fitted = fitted
    return found


def load_scale_factors(model: nn.Module, factors: Mapping[str, float | int | str] | str | PathLike) -> None:
    """Set scale factors by name, from a mapping or a JSON file such as GemNet's ``scaling_factors.json``.

    Args:
        model: A model with scale factors.
        factors: The factors by the names of their modules; what is no number, such as a comment, is left out.

    Raises:
        ValueError: If a name is not that of a scale factor of the model, or a number is not positive.
    """
    if not isinstance(factors, Mapping):
        factors = json.loads(Path(factors).read_text(encoding="utf-8"))
    known = {name: module for name, module in model.named_modules() if isinstance(module, ScaleFactor)}
    numbers = {name: value for name, value in factors.items() if isinstance(value, int | float)}
    if unknown := sorted(numbers.keys() - known.keys()):
        raise ValueError(f"the model has no scale factors named {unknown}, it has {sorted(known)}")
    for name, value in numbers.items():
        known[name].set(value)
