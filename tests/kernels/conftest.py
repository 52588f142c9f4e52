"""The tests of the operator run with every implementation, the kernels of Triton in its interpreter, on the CPU."""

import os
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from geonorm.kernels import choice, cpu

# Read when the kernels are imported, which nothing has done yet.
os.environ.setdefault("TRITON_INTERPRET", "1")

needs_compiled = pytest.mark.skipif(cpu.kernels() is None, reason="the compiled kernels are not built")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

#: The interpreter takes a tenth of a millisecond for an operation: these tests are run in it, with these parameters.
INTERPRETED: dict[str, Callable[[dict[str, Any], str], bool]] = {
    # Where mean and scale have different rows they are two steps, each of them among the others.
    "test_the_gradient_and_its_gradient_are_those_of_the_naive_formula": lambda parameters, _: (
        parameters["mean"] in (None, parameters["scale"]) and parameters["scale"] not in (None, "type")
    ),
    "test_the_gradient_is_given_for_whatever_asks_for_one": lambda *_: True,
    "test_in_each_type_result_and_gradients_are_those_of_float64_up_to_one_rounding": lambda parameters, _: (
        parameters["mixed"] and parameters["case"].statistic == "own" and parameters["narrow"] is not torch.float32
    ),
    "test_the_gradient_of_a_node_alone_in_its_sample_is_exactly_zero": lambda *_: True,
    "test_what_nobody_asks_for_is_not_computed": lambda *_: True,
    "test_the_compiled_layer_is_one_graph_with_the_same_result": lambda _, name: "train-GraphNorm" in name,
}
#: Of a long list of cases it takes one in so many.
THIN = 40


def few(cases: Iterable, implementation: str, start: int) -> list:
    """All cases; for the interpreter some of them, others for another start."""
    cases = list(cases)
    return cases[start % min(THIN, len(cases)) :: THIN] if implementation == "triton" else cases


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what would take the interpreter too long."""
    left_out = []
    for item in items:
        parameters = getattr(item, "callspec", None) and item.callspec.params
        if parameters and parameters.get("implementation") == "triton":
            wanted = INTERPRETED.get(item.originalname)
            if wanted is None or not wanted(parameters, item.callspec.id):
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(
    params=["analytic", pytest.param("cpu", marks=needs_compiled), pytest.param("triton", marks=needs_triton)],
    autouse=True,
)
def implementation(request, monkeypatch) -> Iterator[str]:
    """The implementation that computes; a second copy of the library reads it from the environment."""
    monkeypatch.setenv(choice.VARIABLE, request.param)
    with choice.using(request.param), np.errstate(all="ignore"):
        yield request.param
