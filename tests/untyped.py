"""The library as its users run it: without the check of shapes at run time, which the compiler cannot trace."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

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


@contextmanager
def untyped_copy() -> Iterator[ModuleType]:
    """A second copy of the library, imported without the wrappers that check shapes."""

    def take(name: str) -> dict[str, ModuleType]:
        loaded = [module for module in sys.modules if module == name or module.startswith(f"{name}.")]
        return {module: sys.modules.pop(module) for module in loaded}

    typed, finders = take("geonorm"), list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in finders if not type(finder).__module__.startswith("jaxtyping")]
    try:
        yield importlib.import_module("geonorm")
    finally:
        take("geonorm")
        sys.meta_path[:] = finders
        sys.modules.update(typed)
