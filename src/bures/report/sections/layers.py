"""Where refusal is decided: what maps at a block do (causal), and how the classes lie there (observational)."""

from __future__ import annotations

from bures.report.kit.page import Block, Section
from bures.report.kit.text import named
from bures.report.sections.apart import geometry_figure
from bures.report.sections.causal import effects_figure, joint_table
from bures.report.sections.scores import scores_figure
from bures.results.formatting import percent
from bures.results.records import Localisation
from bures.results.schema import RunResult


def layer_section(result: RunResult, *, said: bool = False) -> Section | None:
    """The layer profile; None where nothing was scanned. `said`: whether the page's finding is its sentence."""
    found = result.localisation
    blocks: list[Block | None] = []
    if found is not None:
        blocks += [None if said else found.sentence, _shuffled(found), _rules(found)]
        blocks += [effects_figure(found)] if found.effects else []
        blocks += [joint_table(found)] if found.joint else []
    blocks.append(scores_figure(result))
    if found is not None and found.geometry:
        blocks.append(geometry_figure(found))
    there = tuple(block for block in blocks if block is not None)
    return Section("layers", "Where in the network", there) if there else None


def _shuffled(found: Localisation) -> str | None:
    if found.shuffled is None:
        return None
    held, shuffled = found.control, found.shuffled
    true = (
        "" if held is None else f"{named(held.candidate or '-', 60)} removes {percent(held.removed.value, 0)} of it, "
    )
    how = "fitted anew on prompts that had no part in choosing it, " if found.rules > 1 else ""
    return (
        f"A check against chance at the strongest block: {how}{true}the best of {shuffled.fits} fits on shuffled "
        f"labels {percent(shuffled.largest, 0)}. A map that removes no more than that says nothing about refusal."
    )


def _rules(found: Localisation) -> str | None:
    """What older results say that would not be said now."""
    if found.rules > 1:
        return None
    return (
        "These results were concluded by the rules of bures 0.1: the strongest block was measured on the prompts that "
        "chose it, maps at several blocks had no KL limit, the check against chance shuffled only the fits of the map "
        "that was chosen by them, and two blocks counted as needed where one was not shown to suffice. Scan again for "
        "statements that hold after these choices."
    )
