"""Sphinx extension: read the docstrings of geonorm as their authors mean them.

Formulas stand between dollar signs, Returns and properties are plain sentences that may contain a colon, and a short
name in a role means the module in which the docstring stands. reStructuredText and napoleon want it spelled out.
"""

from __future__ import annotations

import inspect
import re
import sys
from itertools import accumulate
from types import ModuleType

from sphinx.application import Sphinx

_DISPLAY = re.compile(r"^(?P<indent> *)\$\$(?P<formula>.+?)\$\$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<![\\$`\w])\$(?P<formula>[^$`]+?)\$(?![$\w])")
_RETURNS = re.compile(r"^(?P<head> *Returns:\n +)(?P<sentence>\S.*:)", re.MULTILINE)
_ROLE = re.compile(r":(?P<role>class|func|data|meth|exc):`(?P<name>\w+)`")


def formulas(text: str) -> str:
    r"""Turn ``$$…$$`` into a math directive and ``$…$`` into a math role.

    Args:
        text: A docstring.

    Returns:
        The same with formulas in reStructuredText.
    """

    def display(match: re.Match[str]) -> str:
        indent = match["indent"]
        body = "\n".join(f"{indent}   {line.strip()}" for line in match["formula"].strip().splitlines())
        return f"\n{indent}.. math::\n\n{body}\n\n"

    def inline(match: re.Match[str]) -> str:
        # A role must stand apart from the letters and brackets around it.
        return rf"\ :math:`{' '.join(match['formula'].split())}`\ "

    return _INLINE.sub(inline, _DISPLAY.sub(display, text))


def sentences(text: str, what: str) -> str:
    """Keep napoleon from reading the words before a colon as a type.

    Args:
        text: A docstring.
        what: What autodoc documents: ``"property"``, ``"function"``, …

    Returns:
        The same with an empty type before such sentences.
    """
    text = _RETURNS.sub(r"\g<head>: \g<sentence>", text)
    first = text.split("\n", 1)[0]
    return f": {text}" if what in ("attribute", "property", "data") and ":" in first else text


def names(text: str, module: ModuleType | None) -> str:
    """Complete the short names in roles.

    Args:
        text: A docstring.
        module: The module in which it stands.

    Returns:
        The same with ``:func:`name``` as ``:func:`~module.name``` where the module has the name.
    """

    def complete(match: re.Match[str]) -> str:
        if module is None or not hasattr(module, match["name"]):
            return match[0]
        owner = getattr(getattr(module, match["name"]), "__module__", None) or module.__name__
        # The page documents a name where it is public, which may be a package above its module.
        for place in accumulate(owner.split("."), "{}.{}".format):
            if match["name"] in getattr(sys.modules.get(place), "__all__", ()):
                owner = place
                break
        return f":{match['role']}:`~{owner}.{match['name']}`"

    return _ROLE.sub(complete, text)


def process(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place, before napoleon reads its sections."""
    module = inspect.getmodule(obj.fget if isinstance(obj, property) else obj)
    if module is None or not module.__name__.startswith("geonorm"):
        module = None
    lines[:] = names(sentences(formulas("\n".join(lines)), what), module).splitlines()


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
