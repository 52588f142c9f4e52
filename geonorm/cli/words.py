"""What people type and what they get back: values in words, and mistakes in one line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


def literal(text: str) -> Any:
    """Return what a Python literal means, or the text itself.

    Args:
        text: As typed: ``64``, ``False``, ``fitted``.

    Returns:
        The value.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def pair(option: str) -> tuple[str, Any]:
    """Return the name and the value of a keyword argument.

    Args:
        option: As typed: ``affine=False``.

    Returns:
        The name, and the value as a Python literal or text.

    Raises:
        ValueError: If there is no equals sign.
    """
    name, equals, value = option.partition("=")
    if not equals:
        raise ValueError(f"option is {option!r}, expected name=value")
    return name, literal(value)


@contextmanager
def messages() -> Iterator[None]:
    """Turn an error that is the user's to mend into one line instead of a traceback.

    Raises:
        click.ClickException: For a ValueError (wrong value, missing data) or an ImportError (a missing extra).
    """
    try:
        yield
    except (ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
