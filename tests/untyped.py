"""The library as its users run it: without the check of shapes at run time, which the compiler cannot trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping


@contextmanager
def untyped() -> Iterator[None]:
    """Switch the check of shapes off for a while."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
