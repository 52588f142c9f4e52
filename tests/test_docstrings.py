"""The site's reading of docstrings: formulas, sentences with colons, short names."""

import importlib.util
from pathlib import Path

import pytest

import geonorm.match.invariance as invariance

pytest.importorskip("sphinx", reason="the site's extension needs Sphinx (extra: book)")
PATH = Path(__file__).parents[1] / "book" / "_ext" / "docstrings.py"
spec = importlib.util.spec_from_file_location("docstrings", PATH)
docstrings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docstrings)


def test_formulas_become_roles_and_directives() -> None:
    assert docstrings.formulas(r"the mean $\mu_S$.") == r"the mean \ :math:`\mu_S`\ ."
    block = docstrings.formulas("Text.\n\n$$ y = x,\n   z = 1 $$\n\nMore.")
    assert block == "Text.\n\n\n.. math::\n\n   y = x,\n   z = 1\n\n\n\nMore."


@pytest.mark.parametrize("text", ["costs 5$ or 6$", "``$HOME``", "no formula"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert docstrings.formulas(text) == text


def test_a_colon_in_a_sentence_is_no_type() -> None:
    returns = "One line.\n\nReturns:\n    The figure: one cube.\n"
    assert docstrings.sentences(returns, "function") == "One line.\n\nReturns:\n    : The figure: one cube.\n"
    assert docstrings.sentences("Which rows: all.", "property") == ": Which rows: all."
    assert docstrings.sentences("Which rows: all.", "function") == "Which rows: all."


def test_short_names_lead_to_where_the_name_is_public() -> None:
    text = docstrings.names("See :func:`null_space`, :class:`Explanation`, :func:`nothing_here`.", invariance)
    assert ":func:`~geonorm.match.null_space`" in text
    assert ":class:`~geonorm.match.Explanation`" in text
    assert ":func:`nothing_here`" in text
