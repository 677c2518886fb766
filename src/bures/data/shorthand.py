"""`--harmful NAME` and `--harmless NAME`: one source for the fit, the selection and the test split of a side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bures.data.pinned_sets import PARTS, SPLIT
from bures.errors import ConfigError

SIDES = ("harmful", "harmless")

_FIT_ON: Mapping[str, str] = {"harmbench": "advbench"}
"""Sets that are measured on whole and therefore fitted on another."""


def expanded(options: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Options in which `harmful` and `harmless` became `harmful_fit`, `harmful_select` and so on.

    Args:
        options: what was given; an option of one split, such as `harmful_test`, stays as it is.
        fields: the options that the job has; a job without a test split gets none.

    Raises:
        ConfigError: a shorthand is not the name of a whole source.
    """
    found = dict(options)
    for side in SIDES:
        source = found.pop(side, None)
        if source is None:
            continue
        for split, each in _sources(side, source).items():
            if f"{side}_{split}" in fields:
                found.setdefault(f"{side}_{split}", each)
    return found


def _sources(side: str, source: object) -> dict[str, str]:
    """The source of each split: the set's own parts where it has them, otherwise shares of it by hash."""
    if not isinstance(source, str) or not source:
        raise ConfigError(f"{side}: {source!r}; expected the name of a prompt set, a file or a hub id")
    base, _, part = source.partition(":")
    share = source.rpartition("#")[2]
    if (part and base in PARTS) or ("#" in source and share in SPLIT):
        raise ConfigError(
            f"{side}: {source[:60]!r} is a part; expected a whole set, such as {base.partition('#')[0][:60]!r}, "
            f"or one option for each split: --{side}-fit, --{side}-select, --{side}-test"
        )
    own = PARTS.get(source, {})
    mark = ":" if {"select", "test"} <= own.keys() else "#"
    return {split: f"{source}{mark}{split}" for split in SPLIT} | (
        {"fit": _FIT_ON[source]} if source in _FIT_ON else {}
    )
