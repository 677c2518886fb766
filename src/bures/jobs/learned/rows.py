"""The rows that a direction is learned on: nothing but what the model says itself, and openers that say nothing."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import Any, cast

from bures.data.conversations import PromptLike, as_prompt
from bures.errors import FitError
from bures.jobs.attacks import OPENERS
from bures.jobs.examples import Example, with_original
from bures.jobs.learned.objective import Learning, Taught
from bures.judges.base import marks
from bures.judges.by_name import judge_by_name
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel


def own_rows(model: ChatModel, harmful: Sequence[PromptLike], harmless: Sequence[PromptLike], how: Learning) -> Taught:
    """Rows with the model's own refusals and answers; openers stand for the answers to harmful prompts.

    Args:
        model: the model that is attacked.
        harmful: prompts to fit on.
        harmless: the same of the other side.
        how: lengths, judge and system prompt.

    Raises:
        FitError: it refuses none of the harmful prompts, or all of the harmless ones.
    """
    refused, spoken = _said(model, harmful, Intervention(), how)
    refusals = [ids for ids, is_refusal in zip(spoken, refused, strict=True) if is_refusal]
    if not refusals:
        raise FitError(f"{model.name} refuses none of {len(harmful)} harmful prompts, so there is nothing to take away")
    refused, spoken = _said(model, harmless, Intervention(), how)
    heads = model.encode(list(harmless), system=how.system)
    own = [Example(head, ids) for head, ids, no in zip(_tuples(heads), spoken, refused, strict=True) if not no]
    if not own:
        raise FitError(f"{model.name} refuses all of {len(harmless)} harmless prompts, so there is nothing to keep")
    kept = in_order(own, with_original(model, own, first_block=0, rows=how.rows, teach=True))
    each = itertools.cycle(refusals)
    asked = _tuples(model.encode(list(harmful), system=how.system))
    answered = [Example(head, opener) for head, opener in zip(asked, _openers(model, how), strict=False)]
    return Taught(answered, [Example(row.prompt, next(each)) for row in kept], kept)


def answers_under(model: ChatModel, harmful: Sequence[PromptLike], by: Intervention, how: Learning) -> list[Example]:
    """Harmful prompts with what is answered under an intervention; an opener stands where that is a refusal."""
    heads = _tuples(model.encode(list(harmful), system=how.system))
    own = zip(heads, *_said(model, harmful, by, how), _openers(model, how), strict=False)
    return [Example(head, opener if no else ids) for head, no, ids, opener in own]


def in_order(rows: Sequence[Example], done: Sequence[Example]) -> list[Example]:
    """`done` in the order of `rows`, whose prompts and answers they have."""
    found = {(row.prompt, row.answer): row for row in done}
    return [found[row.prompt, row.answer] for row in rows]


def _said(
    model: ChatModel, prompts: Sequence[PromptLike], under: Intervention, how: Learning
) -> tuple[list[bool], list[tuple[int, ...]]]:
    """Which prompts get a refusal or nothing under an intervention, and how the answers begin.

    The judge reads twice as much as is learned.
    """
    with under.applied(model):
        ids = generate_ids(model, prompts, max_new_tokens=2 * how.tokens, system=how.system)
    judge = judge_by_name(how.judge)
    given = [as_prompt(prompt, f"prompt {i}") for i, prompt in enumerate(prompts, start=1)]
    found = marks(judge, given, decode(model, ids), harmful=True, coherent=False)[judge.name]
    no = [mark is not False or not answer for mark, answer in zip(found, ids, strict=True)]
    return no, [tuple(answer[: how.tokens]) for answer in ids]


def _openers(model: ChatModel, how: Learning) -> Generator[tuple[int, ...]]:
    """Beginnings of answers that say nothing, in turn, without end."""
    for opener in itertools.cycle(OPENERS):
        ids = cast("Any", model.tokenizer)(opener, add_special_tokens=False)["input_ids"]
        yield tuple(ids[: how.tokens])


def _tuples(rows: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    return [tuple(row) for row in rows]
