"""Which implementation computes: the compiled one where it is built, else plain torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from geonorm.kernels import cpu

#: The environment variable that chooses.
VARIABLE = "GEONORM_KERNELS"
CHOICES = ("auto", "cpu", "analytic")


def _checked(name: str, where: str) -> str:
    if name not in CHOICES:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(map(repr, CHOICES))}")
    if name == "cpu" and cpu.kernels() is None:
        raise RuntimeError(
            f"{where} is 'cpu' but the compiled kernels are not there: install geonorm where there is a C++ compiler "
            f"(pip install --no-build-isolation -v -e .), or leave {where} out, which computes the same with torch"
        )
    return name


_chosen: str | None = None


def compiled() -> bool:
    """Whether tensors on the CPU go through the compiled kernels."""
    global _chosen
    if _chosen is None:
        _chosen = _checked(os.environ.get(VARIABLE, "auto"), VARIABLE)
    return _chosen != "analytic" and cpu.kernels() is not None


def in_use() -> str:
    """Say which implementation computes on the CPU.

    Returns:
        ``"cpu (avx512)"`` for the compiled kernels with their instruction set, or ``"analytic"`` for plain torch, which
        computes the same on any device. The environment variable ``GEONORM_KERNELS`` chooses: ``auto`` (the default),
        ``cpu`` (an error if it was not built) or ``analytic``.
    """
    return f"cpu ({cpu.kernels().instructions})" if compiled() else "analytic"


@contextmanager
def using(name: str) -> Iterator[None]:
    """Compute with another implementation for a while, in all threads of this process.

    Args:
        name: ``"auto"``, ``"cpu"`` or ``"analytic"``.

    Raises:
        ValueError: If there is no implementation of that name.
        RuntimeError: If it is ``"cpu"`` and the compiled kernels are not built.
    """
    global _chosen
    before, _chosen = _chosen, _checked(name, "name")
    try:
        yield
    finally:
        _chosen = before
