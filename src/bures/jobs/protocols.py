"""Protocols of an audit: one word that stands for the defaults of many options.

A protocol is a layer of defaults and nothing else: what is given beside it wins, and is said. `bures` is the fields'
own defaults (`docs/protocol.md`); `paper` is what Nanfack, Belilovsky and Dohmatob do (arXiv 2603.04355), as far as it
is stated; where it is not, what stands here is our reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Protocol = Literal["bures", "paper"]

NO_BUDGET = 1000.0
"""Perplexity ratio that a model which still speaks does not reach."""

PAPER: Mapping[str, Any] = {
    "harmful_fit": "advbench",
    "harmful_select": "harmbench:select",
    "harmful_test": "harmbench:test",
    "harmless_fit": "alpaca:fit",
    "harmless_select": "alpaca:select",
    "harmless_test": "alpaca:test",
    "corpus": "wikipedia",
    "n_fit": 128,
    "n_select": 32,
    "n_again": 0,
    "n_test": None,
    "limit": None,
    "methods": ("rfa", "act", "pca-ot"),
    "ranks": (1, 2),
    "scopes": ("all",),
    "depth": (0.4, 0.6),
    "blocks": None,
    "all_blocks": True,
    "strength": 1.0,
    "shrinkage": None,
    "system": None,
    "max_perplexity_ratio": NO_BUDGET,
    "max_new_tokens": 256,
}
"""Of the paper. A value that is the field's own default stands here too, so that another one is said."""

PROTOCOLS: Mapping[str, Mapping[str, Any]] = {"bures": {}, "paper": PAPER}
"""Defaults of other options, by the protocol that sets them."""

_PAPER_SAYS = (
    "By the paper's protocol (arXiv 2603.04355): RFA, Linear-AcT and PCA-OT with K of 1 and 2 at every token, on one "
    "block and on two of 40-60% depth against all, 128 prompts a side to fit and 32 to choose, the test part of "
    "HarmBench; chosen by ASR alone"
)


def about_protocol(options: Mapping[str, Any]) -> list[str]:
    """What a reader has to know of a protocol that is not bures' own, with the options given beside it.

    Args:
        options: of a run, as plain JSON types.
    """
    if options.get("protocol") != "paper":
        return []
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in PAPER.items()}
    beside = [f"{name.replace('_', '-')} {_shown(options[name])}" for name in PAPER if options[name] != plain[name]]
    return [f"{_PAPER_SAYS}; given beside it: {', '.join(beside)}." if beside else f"{_PAPER_SAYS}."]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_shown, value))  # pyright: ignore[reportUnknownArgumentType]
    return "none" if value is None else str(value)
