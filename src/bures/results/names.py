"""Names that options, results and methods share; nothing is imported for them, so that options are read at once."""

from __future__ import annotations

from typing import Literal

Scope = Literal["all", "prompt", "last", "generated"]
"""Which tokens an intervention moves."""

Which = Literal["harmful", "harmless"]
"""Which of two prompt sets."""

METHOD_NAMES = ("pca-ot", "rfa", "act", "mean-act", "rfa-mean", "act-interval")
"""The methods of bures itself, in the order of `bures.models.methods.METHODS`; installed packages add others."""

NONE, STRONGEST, WITHIN_BUDGET = "none", "strongest", "within-budget"
"""Names of rows: the model as it is, under the strongest intervention, and under every one within the budget."""
