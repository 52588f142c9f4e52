"""What all kernels of Triton are declared with."""

import inspect
from collections.abc import Callable

import triton


def kernel(function: Callable):
    """A function of Triton, as it is written: a wrapper that checks types is none of its business.

    Numbers that change from batch to batch are no reason to compile again.
    """
    return triton.jit(inspect.unwrap(function), do_not_specialize=["nodes", "pools", "each_program"])
