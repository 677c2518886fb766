"""Names that options, results and methods share; nothing is imported for them, so that options are read at once."""

from __future__ import annotations

from typing import Literal, get_args

Scope = Literal["all", "prompt", "last", "generated"]
"""Which tokens an intervention moves."""

Which = Literal["harmful", "harmless"]
"""Which of two prompt sets."""

METHOD_NAMES = ("pca-ot", "rfa", "act", "mean-act", "rfa-mean", "act-interval")
"""The methods of bures itself, in the order of `bures.models.methods.METHODS`; installed packages add others."""

NONE, STRONGEST, WITHIN_BUDGET = "none", "strongest", "within-budget"
"""Names of rows: the model as it is, under the strongest intervention, and under every one within the budget."""

COHERENT = "+coherent"
"""What the name of a judge ends with where an incoherent answer is no success either."""

RATES = (0.01, 0.05)
"""False-positive rates for which thresholds of detectors are set."""

Position = Literal["last", "instruction"]
"""Where in a prompt a detector reads: at its last token, or at the last token of what the user says."""

DETECTOR_NAMES = ("difference-of-means", "lda", "gaussian", "one-class", "logistic")
"""The detectors of `bures.jobs.probe.detectors.KINDS`, in its order."""

AttackName = Literal["refitted", "iterated", "transferred", "prefilled", "learned", "search", "random"]
"""Kinds of attacks in a defence table; `bures.jobs.defence.planning` says how each is made."""

ATTACK_NAMES: tuple[AttackName, ...] = get_args(AttackName)
