"""The tests of the operator run with every implementation."""

from collections.abc import Iterator

import pytest

from geonorm.kernels import choice, cpu

needs_compiled = pytest.mark.skipif(cpu.kernels() is None, reason="the compiled kernels are not built")


@pytest.fixture(params=["analytic", pytest.param("cpu", marks=needs_compiled)], autouse=True)
def implementation(request, monkeypatch) -> Iterator[str]:
    """The implementation that computes; a second copy of the library reads it from the environment."""
    monkeypatch.setenv(choice.VARIABLE, request.param)
    with choice.using(request.param):
        yield request.param
