"""Which implementation computes: compiled kernels where there are such for the device, else plain torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from geonorm.kernels import cpu

#: The environment variable that chooses.
VARIABLE = "GEONORM_KERNELS"
CHOICES = ("auto", "cpu", "triton", "analytic")


def _checked(name: str, where: str) -> str:
    if name not in CHOICES:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(map(repr, CHOICES))}")
    if name == "cpu" and cpu.kernels() is None:
        raise RuntimeError(
            f"{where} is 'cpu' but the compiled kernels are not there: install geonorm where there is a C++ compiler "
            f"(pip install --no-build-isolation -v -e .), or leave {where} out, which computes the same with torch"
        )
    if name == "triton" and _triton() is None:
        raise RuntimeError(
            f"{where} is 'triton' but Triton cannot be imported: install it (pip install triton, on Linux), "
            f"or leave {where} out, which computes the same with torch"
        )
    return name


_chosen: str | None = None


def _choice() -> str:
    global _chosen
    if _chosen is None:
        _chosen = _checked(os.environ.get(VARIABLE, "auto"), VARIABLE)
    return _chosen


@cache
def _triton() -> ModuleType | None:
    """The kernels in Triton, imported when somebody first asks for them."""
    if find_spec("triton") is None:
        return None
    try:
        return import_module("geonorm.kernels.triton.launch")
    except ImportError:
        return None


@cache
def _trusted(device: torch.device) -> bool:
    """Whether the kernels in Triton compute on this device what torch computes; if not, one warning says why."""
    reason = import_module("geonorm.kernels.triton.check").failure(device)
    if reason is not None:
        warnings.warn(
            f"the Triton kernels are not used on {device}, plain torch computes instead: {reason}", stacklevel=2
        )
    return reason is None


def kernels(device: torch.device) -> ModuleType | None:
    """The compiled kernels for a device, or ``None`` where plain torch computes."""
    chosen = _choice()
    if device.type == "cpu":
        # Read line by line, kernels of Triton work on the CPU too: how they are tested without a device.
        if chosen == "triton" and _triton().INTERPRETED:
            return _triton()
        return None if chosen == "analytic" or cpu.kernels() is None else cpu
    if device.type != "cuda" or chosen in ("cpu", "analytic") or _triton() is None:
        return None
    if chosen == "auto":
        # The comparison waits for the device, which a graph that is being captured must not, and needs numbers.
        if device not in _compared and (
            torch._C._len_torch_dispatch_stack() or torch.cuda.is_current_stream_capturing()
        ):
            return None
        _compared.add(device)
        if not _trusted(device):
            return None
    return _triton()


#: The devices on which the kernels have been compared with torch.
_compared: set[torch.device] = set()


def in_use(device: torch.device | str = "cpu") -> str:
    """Say which implementation computes on a device.

    Args:
        device: The device.

    Returns:
        ``"cpu (avx512)"`` for the compiled kernels of the CPU with their instruction set, ``"triton"`` for those of
        CUDA devices, or ``"analytic"`` for plain torch, which computes the same on any device. The environment variable
        ``GEONORM_KERNELS`` chooses: ``auto`` (the default: what is there; on a CUDA device Triton, if it computes a
        small batch as torch does), ``cpu`` (an error if it was not built), ``triton`` (an error if it cannot be
        imported) or ``analytic``.
    """
    device = torch.device(device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return "analytic"
        device = torch.empty(0, device=device).device  # with its number
    use = kernels(device)
    if use is None:
        return "analytic"
    return f"cpu ({cpu.kernels().instructions})" if use is cpu else "triton"


@contextmanager
def using(name: str) -> Iterator[None]:
    """Compute with another implementation for a while, in all threads of this process.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"triton"`` or ``"analytic"``.

    Raises:
        ValueError: If there is no implementation of that name.
        RuntimeError: If it is ``"cpu"`` and the compiled kernels are not built, or ``"triton"`` and Triton is missing.
    """
    global _chosen
    before, _chosen = _chosen, _checked(name, "name")
    try:
        yield
    finally:
        _chosen = before
