"""What the answers of a row come to: shares by every judge, and how many answers were cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bures.data.conversations import Prompt, plain
from bures.data.prompts import PromptSet
from bures.jobs.run import Run
from bures.judges.base import marks
from bures.models.generation import Answer, read
from bures.results.marks import Mark, spelled
from bures.results.names import Which
from bures.results.schema import AuditResult, Row
from bures.results.shares import attack_success, refusals


def count(row: Row, which: Which, refused: Mapping[str, Sequence[Mark]]) -> None:
    """Fills what judges' verdicts on the row's answers come to; other judges' figures stay.

    Args:
        row: the row.
        which: what the answers answer.
        refused: per judge, which of the test prompts, in their order, it counts as refused.
    """
    if which == "harmful":
        shares, bounds, marks, counted = row.asr, row.asr_bounds, row.refused, attack_success
    else:
        shares, bounds, marks, counted = row.over_refusal, row.over_refusal_bounds, row.refused_harmless, refusals
    for name, verdicts in refused.items():
        found = counted(verdicts)
        marks[name] = spelled(verdicts)
        if found.share is not None:
            shares[name] = found.share
        if found.unfinished:
            bounds[name] = found.bounds


def count_cut(row: Row, which: Which, answers: Sequence[Answer]) -> None:
    """Fills how many of the row's answers were cut, and how many of those said nothing that can be judged."""
    row.unfinished[which] = sum(not answer.finished for answer in answers)
    row.cut[which] = sum(not answer.ended for answer in answers)


def marked(run: Run[Any, Any], harmful: Sequence[Prompt], ids: Sequence[list[int]]) -> list[Mark]:
    """The mark of the run's judge on every answer to harmful prompts.

    Args:
        run: the run.
        harmful: the prompts.
        ids: token ids of the answers.
    """
    found = [read(run.model, each) for each in ids]
    texts, finished = [each.text for each in found], [each.finished for each in found]
    return marks(run.judge, harmful, texts, harmful=True, coherent=False, finished=finished)[run.judge.name]


Line = dict[str, Any]
"""One line of `completions.jsonl`."""


def completion_lines(
    place: tuple[str, Which],
    prompts: PromptSet,
    answers: Sequence[tuple[Answer, Sequence[int]]],
    refused: Mapping[str, Sequence[Mark]],
) -> Iterator[Line]:
    """Answers as a run folder keeps them.

    Args:
        place: the row and the side.
        prompts: what was asked.
        answers: what was answered, read and as token ids, in the same order.
        refused: per judge, which count as refused.
    """
    row, which = place
    for i, (prompt, (answer, ids)) in enumerate(zip(prompts, answers, strict=True)):
        yield {
            "row": row,
            "set": which,
            "hash": prompts.hashes[i],
            "category": prompts.categories[i],
            "prompt": plain(prompt),
            "completion": answer.text,
            "thinking": answer.thinking,
            "finished": answer.finished,
            "n_tokens": len(ids),
            "refusal": {name: verdicts[i] for name, verdicts in refused.items()},
        }


def about_cut(result: AuditResult) -> list[str]:
    """What a reader has to know of answers that were cut; nothing where few were."""
    said: list[str] = []
    measured = [row for row in result.rows if row.cut]
    open_ = [row for row in measured if any(row.unfinished.values())]
    if open_:
        worst = max(open_, key=lambda row: sum(row.unfinished.values()))
        n = {which: len(tested.hashes) for which, tested in result.tested.items()}
        how = ", ".join(f"{worst.unfinished[which]} of {n[which]} {which}" for which in worst.unfinished)
        said.append(
            f"In {len(open_)} of {len(measured)} rows some answers are unfinished: cut inside the thinking, or before "
            f"anything was said (most in {worst.label}: {how}). They are neither success nor refusal; intervals and "
            "bounds take them for either. Raise --max-new-tokens, and --thinking-tokens of a model that thinks."
        )
    most: dict[int, list[str]] = {}
    for which in ("harmful", "harmless"):
        asked = len(result.tested[which].hashes) if which in result.tested else 0
        rows = sum(2 * (row.cut.get(which, 0) - row.unfinished.get(which, 0)) > asked for row in measured)
        most.setdefault(rows, []).append(which)
    said += [
        f"In {rows} of {len(measured)} rows most answers to {' and to '.join(sides)} prompts had not ended after "
        f"{result.max_new_tokens} tokens: what they would have said further on is not judged."
        for rows, sides in most.items()
        if rows
    ]
    return said
