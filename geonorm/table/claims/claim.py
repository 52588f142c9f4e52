"""A statement of the survey that can be checked, what became of it, and how a page shows it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from geonorm.table.render import sentence

#: What each verdict on a statement means.
JUDGEMENTS = {
    "confirmed": "it holds as stated, as far as we measured",
    "refined": "it holds for a part, under a condition, or with another number",
    "not confirmed": "our measurement says otherwise",
    "not testable here": "no measurement of this book can decide it",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the survey.

    Args:
        id: ``"C1"``, ``"C2"``, …
        section: Where the survey makes it: ``"2, Case 1"``.
        title: The statement in a few words.
        statement: The statement in our words; formulas between dollar signs.
        verdict: One of ``JUDGEMENTS``.
        finding: What was found, in one or two sentences; the numbers are on the page.
        shown: The labels of the places in the book that show it.

    Raises:
        ValueError: If the verdict is none of ``JUDGEMENTS``.
    """

    id: str
    section: str
    title: str
    statement: str
    verdict: str
    finding: str
    shown: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.verdict not in JUDGEMENTS:
            raise ValueError(f"the verdict on {self.id} is {self.verdict!r}, expected one of {', '.join(JUDGEMENTS)}")

    @property
    def anchor(self) -> str:
        """The name of the place on the page of claims where it is discussed: ``"claim-c4"``."""
        return f"claim-{self.id.lower()}"

    def _said(self) -> dict[str, str]:
        return {
            "The survey": f"Section {self.section}. {self.statement}",
            "Verdict": f"{self.verdict}: {JUDGEMENTS[self.verdict]}",
            "We find": self.finding,
        }

    def __repr__(self) -> str:
        return "\n".join([f"{self.id} {self.title}", *(f"{label}: {text}" for label, text in self._said().items())])

    def _repr_html_(self) -> str:
        items = "".join(
            f"<dt><strong>{label}</strong></dt><dd>{sentence(text)}</dd>" for label, text in self._said().items()
        )
        return f'<dl aria-label="{self.id}">{items}</dl>'


@dataclass(frozen=True, repr=False)
class Judgements:
    """All claims by verdict: how many there are, what the verdict means, and which claims they are, with links.

    Args:
        claims: The claims by their id.
    """

    claims: Mapping[str, Claim]

    @property
    def by_verdict(self) -> dict[str, list[Claim]]:
        """The claims of each verdict, in order; verdicts without a claim are left out."""
        found = {verdict: [each for each in self.claims.values() if each.verdict == verdict] for verdict in JUDGEMENTS}
        return {verdict: claims for verdict, claims in found.items() if claims}

    def __repr__(self) -> str:
        lines = []
        for verdict, claims in self.by_verdict.items():
            lines.append(f"{verdict}: {len(claims)} ({JUDGEMENTS[verdict]})")
            lines += [f"  {claim.id.ljust(3)}  {_plain(claim.title)}" for claim in claims]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = []
        for verdict, claims in self.by_verdict.items():
            items = "".join(
                f'<li><a href="#{claim.anchor}">{claim.id}</a> {sentence(claim.title)}</li>' for claim in claims
            )
            parts.append(
                f"<dt><strong>{verdict}: {len(claims)}</strong> ({html.escape(JUDGEMENTS[verdict])})</dt>"
                f"<dd><ul>{items}</ul></dd>"
            )
        return f"<dl>{''.join(parts)}</dl>"


def _plain(text: str) -> str:
    return re.sub(r"[$\\]", "", text)
