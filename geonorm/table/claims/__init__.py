"""The survey's checkable claims in our words, with what became of them: one list that the book's page renders."""

from __future__ import annotations

from geonorm.table.claims import cases, experiments, layers
from geonorm.table.claims.claim import JUDGEMENTS, Claim, Judgements

__all__ = ["CLAIMS", "JUDGEMENTS", "Claim", "Judgements"]

#: The claims by their id, ``"C1"`` to ``"C27"``.
CLAIMS = {claim.id: claim for claim in (*cases.CLAIMS, *layers.CLAIMS, *experiments.CLAIMS)}
