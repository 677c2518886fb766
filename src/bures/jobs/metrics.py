"""What an intervention does to a model: refusal left, and what it cost.

attack_success_rate   share of harmful prompts answered without refusal, per judge, with a Wilson interval
over_refusal          share of harmless prompts refused, per judge, with a Wilson interval
answer_costs          perplexity of the original model's own harmless answers, and token KL(original || intervened)
corpus_perplexity     exp(mean token NLL) of plain text

All of them raise on an empty sample. Intervals of token-weighted means resample prompts (or windows), not tokens,
because tokens of one answer are not independent. lm-eval's perplexities are per word or byte; these are per token, so
they compare interventions on one model, not models with different tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import ConfigError, NumericsError
from bures.models.along import Along
from bures.models.answering import answers_behind
from bures.models.batching import LOGIT_BUDGET, TOKEN_BUDGET, Batch, Batches
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.bootstrap import bootstrap_ratio_of_sums
from bures.results.stats import Measurement


@dataclass(frozen=True)
class AnswerCosts:
    """Cost of an intervention along fixed answers.

    Attributes:
        perplexity: exp(mean token NLL) of the answers under the intervened model, n prompts.
        kl: mean token KL(original || intervened) in nats, n prompts.
        counts: tokens of every answer.
        nll_each: mean token NLL of every answer, in nats.
        kl_each: mean token KL along every answer, in nats.
        answers: token ids of what is answered under the intervention; None where that was not asked for, or a pass
            along the answers cannot go on.
    """

    perplexity: Measurement
    kl: Measurement
    counts: tuple[int, ...]
    nll_each: tuple[float, ...]
    kl_each: tuple[float, ...]
    answers: list[list[int]] | None = None

    @property
    def tokens(self) -> int:
        """Answer tokens scored."""
        return sum(self.counts)


@torch.inference_mode()
def answer_costs(
    model: ChatModel,
    prompts: Iterable[PromptLike],
    answers: Sequence[Sequence[int]],
    intervention: Intervention,
    *,
    system: str | None = None,
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    advance: Callable[[int], object] | None = None,
    along: Along | None = None,
    max_new_tokens: int | None = None,
) -> AnswerCosts:
    """Scores given answers (token ids) with and without the intervention, teacher-forced, in one sweep.

    Args:
        model: the model.
        prompts: user turns.
        answers: token ids of the original model's own greedy answers, one per prompt, none empty.
        intervention: what is applied; the token scope sees the answer as generated.
        system: optional system prompt.
        seed: of the bootstrap.
        token_budget: padded tokens in one batch.
        advance: called with the number of prompts done after each batch.
        along: what is held of the original model along these prompts and answers, from call to call (see `along`).
        max_new_tokens: find out what is answered under the intervention too; the bound with which the answers were
            generated.

    Raises:
        ConfigError: no answers, an empty answer, or as many answers as prompts are not there.
        NumericsError: logits, a KL or an NLL are NaN or infinite.
    """
    heads = model.encode(prompts, system=system)
    if not heads or len(heads) != len(answers) or not all(map(len, answers)):
        raise ConfigError(f"{len(heads)} prompts and {len(answers)} answers; expected one non-empty answer per prompt")
    longest = max(map(len, answers))
    nll, kl = np.zeros(len(heads)), np.zeros(len(heads))
    along, answered = _held(along, Along(model, heads, answers, streams=0, cached=0)), dict[int, list[int]]()
    rows = max(1, LOGIT_BUDGET // (model.vocabulary * (longest + 1)))
    todo = _batches(model, along.sequences, token_budget, rows, "costs", equal_length=model.parts.pads_matter)
    for batch in todo:
        with todo.trying(batch):
            tails = [answers[i] for i in batch.index]
            found = _answer_costs(along, batch, tails, intervention, max_new_tokens)
            nll[list(batch.index)], kl[list(batch.index)], said = found
            answered |= dict(zip(batch.index, said or (), strict=said is not None))
            if advance is not None:
                advance(len(batch.index))
    if not (np.isfinite(nll).all() and np.isfinite(kl).all()):
        raise NumericsError("a token of an answer has probability 0: its NLL or KL is infinite")
    counts = np.array([len(a) for a in answers], dtype=np.float64)
    kl = np.maximum(kl, 0.0)
    return AnswerCosts(
        perplexity=_exp(_ratio(nll, counts, seed)),
        kl=_ratio(kl, counts, seed),
        counts=tuple(map(len, answers)),
        nll_each=tuple((nll / counts).tolist()),
        kl_each=tuple((kl / counts).tolist()),
        answers=[answered[i] for i in range(len(heads))] if len(answered) == len(heads) else None,
    )


def along_answers(
    model: ChatModel, prompts: Iterable[PromptLike], answers: Sequence[Sequence[int]], *, system: str | None = None
) -> Along:
    """What several calls of `answer_costs` with the same prompts and answers share, so that less is computed twice."""
    heads = model.encode(prompts, system=system)
    return Along(model, heads, answers)


def along_text(model: ChatModel, text: str, *, max_tokens: int = 8192, window: int = 256) -> Along:
    """What several calls of `corpus_perplexity` with the same text share."""
    return Along(model, corpus_windows(model, text, max_tokens=max_tokens, window=window))


def _held(given: Along | None, anew: Along) -> Along:
    """What is held of these sequences; nothing yet, where nothing is given.

    Raises:
        ConfigError: it is of others, or of another model.
    """
    if given is None:
        return anew
    if given.model.hf is not anew.model.hf or given.sequences != anew.sequences:
        raise ConfigError("what is held along a text or answers is of others: make it anew from these")
    return given


def _answer_costs(
    along: Along, batch: Batch, answers: Sequence[Sequence[int]], intervention: Intervention, most: int | None
) -> tuple[list[float], list[float], list[list[int]] | None]:
    """NLL and KL of every answer of one batch, and what is answered instead, if that is asked for by a bound on tokens.

    In a function, so that no batch's logits outlive it.
    """
    keep = max(map(len, answers)) + 1
    passed = along.passed(batch, keep, intervention, grow=most is not None)
    said = None if most is None else answers_behind(along.model, passed, answers, most)
    moved = passed.log_probs
    original = along.log_probs(batch, keep, Intervention()) if intervention.maps else moved
    nll, kl = list[float](), list[float]()
    for row, answer in enumerate(answers):
        m = len(answer)
        target = torch.tensor(answer, device=moved.device)[:, None]
        p, q = original[row, -m - 1 : -1], moved[row, -m - 1 : -1]
        nll.append(float(-q.gather(1, target).double().sum()))
        kl.append(float(token_kl(p, q).double().sum()))
    return nll, kl, said


def corpus_windows(model: ChatModel, text: str, *, max_tokens: int, window: int = 256) -> list[list[int]]:
    """Token ids of plain text in windows that do not overlap, each behind the token that begins a text, if any.

    Raises:
        ConfigError: the text is shorter than one window.
    """
    ids = model.tokenizer(text[: max_tokens * 16], add_special_tokens=False)["input_ids"][:max_tokens]
    start = [model.tokenizer.bos_token_id] if isinstance(model.tokenizer.bos_token_id, int) else []
    windows = [[*start, *ids[i : i + window]] for i in range(0, len(ids) - window + 1, window)]
    if not windows:
        raise ConfigError(
            f"the corpus has {len(ids)} tokens; expected at least {window} for one perplexity window: give a "
            "longer text, or none"
        )
    return windows


@torch.inference_mode()
def corpus_perplexity(
    model: ChatModel,
    text: str,
    intervention: Intervention,
    *,
    max_tokens: int = 8192,
    window: int = 256,
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    along: Along | None = None,
) -> Measurement:
    """exp(mean token NLL) of plain text in windows that do not overlap; n is the number of windows.

    The text has no chat template. For the token scope it counts as prompt, none of it as the last prompt token and none
    as generated, so a map at `last` or `generated` leaves it alone by definition.

    Args:
        model: the model.
        text: plain text.
        intervention: what is applied.
        max_tokens: of the text, from its beginning.
        window: tokens of a window.
        seed: of the bootstrap.
        token_budget: padded tokens in one batch.
        along: what is held of the original model along this text, from call to call.

    Raises:
        ConfigError: the text is shorter than one window.
        NumericsError: logits or an NLL are NaN or infinite.
    """
    windows = corpus_windows(model, text, max_tokens=max_tokens, window=window)
    rows = max(1, LOGIT_BUDGET // (model.vocabulary * (window + 1)))
    nll = np.zeros(len(windows))
    along = _held(along, Along(model, windows, streams=0))
    todo = _batches(model, windows, token_budget, rows, "perplexity")
    for batch in todo:
        with todo.trying(batch):
            nll[list(batch.index)] = _window_nll(along, batch, intervention)
    if not np.isfinite(nll).all():
        raise NumericsError("a token of the text has probability 0: its NLL is infinite")
    return _exp(_ratio(nll, np.full(len(windows), float(len(windows[0]) - 1)), seed))


def _window_nll(along: Along, batch: Batch, intervention: Intervention) -> NDArray[np.float64]:
    """NLL of every window of one batch."""
    logp = along.log_probs(batch, batch.ids.shape[1], intervention)[:, :-1]
    target = batch.ids[:, 1:, None].to(logp.device)
    return -logp.gather(2, target)[..., 0].double().sum(dim=1).cpu().numpy()


def _batches(
    model: ChatModel,
    sequences: Sequence[Sequence[int]],
    budget: int,
    rows: int,
    work: str,
    *,
    equal_length: bool = False,
) -> Batches:
    return Batches(
        sequences,
        pad_id=model.pad_id,
        token_budget=budget,
        max_rows=rows,
        equal_length=equal_length,
        room=model.room,
        work=work,
    )


def token_kl(p: Float[Tensor, "*n v"], q: Float[Tensor, "*n v"]) -> Float[Tensor, "*n"]:
    """KL between rows of log-probabilities."""
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(dim=-1)


def _ratio(numerators: NDArray[np.float64], counts: NDArray[np.float64], seed: int) -> Measurement:
    return bootstrap_ratio_of_sums(numerators, counts, seed=seed, skewed=True)


def _exp(mean: Measurement) -> Measurement:
    """exp of a mean NLL and of its interval; infinite where it overflows."""
    interval = None if mean.interval is None else (_safe_exp(mean.interval[0]), _safe_exp(mean.interval[1]))
    return Measurement(_safe_exp(mean.value), mean.n, interval)


def _safe_exp(x: float) -> float:
    return math.exp(min(x, 700.0))
