"""Greedy answers that go on from a pass that was computed anyway.

An intervention's pass along the original model's answers (its costs) says what it would answer itself: the same up to
the first token where its argmax is another. Only what follows from there is generated. Bare prompts are drafts of no
token: their pass begins with what is held of the original model (`bures.models.along`), and all is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bures.models.along import Along, Passed
from bures.models.batching import TOKEN_BUDGET, Batches, positions
from bures.models.caches import reach, view
from bures.models.finite import require_finite
from bures.models.generation import Advance, continued, finished
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.tokens import TokenKind, token_kinds


@torch.inference_mode()
def answers_along(
    along: Along,
    intervention: Intervention,
    *,
    max_new_tokens: int,
    token_budget: int = TOKEN_BUDGET,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Greedy answers to prompts, of which the original model's pass is held, as `generate_ids` gives them.

    Args:
        along: the prompts, with nothing behind them.
        intervention: what is applied.
        max_new_tokens: upper bound on an answer's tokens; thinking has a bound of its own.
        token_budget: padded tokens in one batch, the answers included.
        advance: called with the number of prompts done after each batch.

    Raises:
        NumericsError: logits are NaN or infinite on the way.
    """
    model = along.model
    most = model.chat.limit(max_new_tokens)
    answers: list[list[int]] = [[] for _ in along.sequences]
    todo = Batches(
        along.sequences,
        pad_id=model.pad_id,
        token_budget=token_budget,
        extra=most,
        equal_length=model.parts.pads_matter,
        room=model.room,
        work="answers",
    )
    for batch in todo if along.goes_on else ():
        with todo.trying(batch):
            passed = along.passed(batch, 1, intervention, grow=True)
            found = answers_behind(model, passed, [()] * len(batch.index), max_new_tokens)
            along.goes_on = found is not None
            if found is None:
                break
            for i, answer in zip(batch.index, found, strict=True):
                answers[i] = answer
            if advance is not None:
                advance(len(batch.index))
    if along.goes_on:
        return answers
    with intervention.applied(model):
        return continued(
            model, along.sequences, max_new_tokens=max_new_tokens, token_budget=token_budget, advance=advance
        )


@torch.inference_mode()
def answers_behind(
    model: ChatModel, passed: Passed, drafts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[list[int]] | None:
    """Greedy answers to the prompts of a pass along drafts of them; None where a pass cannot go on from it.

    Args:
        model: the model, under nothing; the pass's intervention is applied here.
        passed: the pass; its keys and values are used up.
        drafts: whole answers by `generate_ids` with the same bound on tokens, or nothing; as long as the logits of the
            pass reach.
        max_new_tokens: upper bound on an answer's tokens.

    Raises:
        NumericsError: logits are NaN or infinite on the way.
    """
    most, width = model.chat.limit(max_new_tokens), passed.batch.ids.shape[1]
    if passed.cache is None or width + most > reach(model):
        return None
    best = passed.logits.argmax(dim=-1).tolist()
    said: list[list[int]] = []
    goes_on: list[int] = []
    attended = passed.batch.attended.clone()
    for row, draft in enumerate(drafts):
        first = best[row][-len(draft) - 1 :]
        agreed = next((i for i, token in enumerate(draft) if token != first[i]), len(draft))
        attended[row, width - len(draft) + agreed :] = False
        is_whole = draft and agreed == len(draft)
        said.append([*draft] if is_whole else [*draft[:agreed], first[agreed]])
        if not is_whole and said[-1][-1] not in model.eos_ids and len(said[-1]) < most:
            goes_on.append(row)
    if goes_on:
        with passed.intervention.applied(model):
            _go_on(model, passed.cache, attended, said, goes_on, most)
    return [finished(model, row, max_new_tokens) for row in said]


def _go_on(model: ChatModel, cache: Any, attended: Tensor, said: list[list[int]], rows: list[int], most: int) -> None:
    """Adds tokens to what the rows have said, until each has ended or has as many as it may.

    Args:
        model: the model under what is applied.
        cache: keys and values of all rows, but of the last token that each has said.
        attended: which of their places count.
        said: per row, its tokens.
        rows: those that go on.
        most: tokens of an answer.
    """
    places = torch.nonzero(attended[rows].any(dim=0)).max().item() + 1
    cache = view(cache, upto=int(places))
    cache.batch_select_indices(torch.tensor(rows, device=model.device))
    attended = attended[rows, : int(places)].to(model.device)
    while rows:
        tokens = torch.tensor([[said[row][-1]] for row in rows], device=model.device)
        attended = torch.cat([attended, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        with token_kinds(torch.full_like(tokens, TokenKind.GENERATED)):
            logits = model.hf(
                input_ids=tokens,
                attention_mask=attended.long(),
                position_ids=positions(attended)[:, -1:],
                **past_for(model.hf, cache),
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        require_finite(logits)
        for row, token in zip(rows, logits.float().argmax(dim=-1).tolist(), strict=True):
            said[row].append(token)
        left = [i for i, row in enumerate(rows) if said[row][-1] not in model.eos_ids and len(said[row]) < most]
        if len(left) < len(rows):
            kept = torch.tensor(left, dtype=torch.long, device=model.device)
            cache.batch_select_indices(kept)
            rows, attended = [rows[i] for i in left], attended[kept]
