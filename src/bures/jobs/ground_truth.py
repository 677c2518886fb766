"""How much of a model before its refusal training comes back under an intervention: token KL(before || intervened).

    KL_T = mean_t KL(pi_before(. | x, y_<t) || pi_T(. | x, y_<t)),   share taken back = 1 - KL_T / KL_none

x are harmful prompts, y the greedy answers of the model before; the model after is read along them, under an
intervention T and under none. A model organism allows this: what it did before it was taught to refuse is known, so it
can be told whether an intervention brings that behaviour back, or merely something that is no refusal. The share is 1
where all of it is back, 0 where nothing is, and below 0 where the intervention leads farther away.

Tokens of one answer depend on each other, so intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import ConfigError, NumericsError
from bures.jobs.progress import Progress, Silent
from bures.models.along import Along
from bures.models.batching import LOGIT_BUDGET, TOKEN_BUDGET, Batch, Batches
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.bootstrap import bootstrap_ratio_of_sums
from bures.results.names import NONE
from bures.results.stats import Measurement


@dataclass(frozen=True)
class Before:
    """What the model before says to harmful prompts. Token ids; they stay in memory.

    Attributes:
        model: the model before.
        heads: the prompts, chat template applied.
        answers: its greedy answers, none empty.
    """

    model: ChatModel
    heads: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]

    @staticmethod
    def of(
        model: ChatModel, prompts: Sequence[PromptLike], *, max_new_tokens: int = 32, system: str | None = None
    ) -> Before:
        """Asks it; prompts that it answers with nothing at all are left out.

        Raises:
            ConfigError: no prompts, or nothing is answered.
        """
        heads = model.encode(prompts, system=system)
        answers = generate_ids(model, prompts, max_new_tokens=max_new_tokens, system=system)
        said = [(head, answer) for head, answer in zip(heads, answers, strict=True) if answer]
        if not said:
            raise ConfigError(f"{model.name} answers none of {len(heads)} prompts; expected the model before training")
        return Before(model, [head for head, _ in said], [answer for _, answer in said])


@dataclass(frozen=True)
class TakenBack:
    """How far an intervention is from the model before.

    Attributes:
        name: of the intervention; `none`: the model after, as it is.
        kl: mean token KL(before || intervened) in nats, with an interval over prompts.
        kl_95: its 95th percentile over tokens.
        first: its mean at the answers' first tokens, with an interval.
        share: of KL(none), how much is taken back; None for `none` itself, and where that is 0.
        tokens: how many were read.
    """

    name: str
    kl: Measurement
    kl_95: float
    first: Measurement
    share: Measurement | None
    tokens: int


def taken_back(
    before: Before,
    model: ChatModel,
    interventions: Mapping[str, Intervention],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[TakenBack]:
    """Reads the model after along the answers of the model before, under each intervention and under none.

    Args:
        before: prompts and answers of the model before.
        model: the model after.
        interventions: name -> intervention; `none` is added.
        seed: of the bootstrap.
        progress: who is told how far it is.

    Returns:
        `none` first, then the others in their order.

    Raises:
        ConfigError: the two models have other vocabularies.
        NumericsError: logits or a KL are NaN or infinite.
    """
    if model.vocabulary != before.model.vocabulary:
        raise ConfigError(
            f"{model.name} has {model.vocabulary} tokens and {before.model.name} {before.model.vocabulary}; expected "
            "one model before and after a training"
        )
    named = {NONE: Intervention(), **{name: each for name, each in interventions.items() if name != NONE}}
    told = progress or Silent()
    told.stage("ground truth", len(before.heads))
    found: dict[str, list[NDArray[np.float64]]] = {name: [np.empty(0)] * len(before.heads) for name in named}
    original, moved = (Along(each, before.heads, before.answers) for each in (before.model, model))
    rows = max(1, LOGIT_BUDGET // (model.vocabulary * (max(map(len, before.answers)) + 1)))
    todo = Batches(
        original.sequences,
        pad_id=model.pad_id,
        token_budget=TOKEN_BUDGET,
        max_rows=rows,
        equal_length=model.parts.pads_matter,
        room=model.room,
        work="ground truth",
    )
    for batch in todo:
        with todo.trying(batch):
            for name, each in named.items():
                for row, kls in zip(batch.index, _kls(before, original, moved, batch, each), strict=True):
                    found[name][row] = kls
            told.advance(len(batch.index))
    return [_summary(name, each, found[NONE], seed) for name, each in found.items()]


def _kls(
    before: Before, original: Along, moved: Along, batch: Batch, intervention: Intervention
) -> list[NDArray[np.float64]]:
    """KL at every token of every answer of a batch."""
    answers = [before.answers[row] for row in batch.index]
    keep = max(map(len, answers)) + 1
    p = original.log_probs(batch, keep, Intervention())
    q = moved.log_probs(batch, keep, intervention).to(p.device)
    return [
        _kl(p[row, -len(answer) - 1 : -1], q[row, -len(answer) - 1 : -1]).cpu().numpy()
        for row, answer in enumerate(answers)
    ]


def _kl(p: Float[Tensor, "m v"], q: Float[Tensor, "m v"]) -> Float[Tensor, " m"]:
    """KL of each row, in float64, at least 0."""
    p, q = (torch.log_softmax(each.double(), dim=-1) for each in (p, q))
    return torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(dim=-1).clamp(min=0.0)


def _summary(
    name: str, kls: Sequence[NDArray[np.float64]], none: Sequence[NDArray[np.float64]], seed: int
) -> TakenBack:
    every = np.concatenate(kls)
    if not np.isfinite(every).all():
        raise NumericsError(f"{name}: a token that the model before allows has probability 0: the KL is infinite")
    counts = np.array([len(each) for each in kls], dtype=np.float64)
    sums, reference = (np.array([float(each.sum()) for each in side]) for side in (kls, none))
    first = np.array([float(each[0]) for each in kls])
    share = None
    if name != NONE and (reference > 0).all():
        left = bootstrap_ratio_of_sums(sums, reference, seed=seed)
        low, high = left.interval or (left.value, left.value)
        share = Measurement(1.0 - left.value, left.n, (1.0 - high, 1.0 - low))
    return TakenBack(
        name=name,
        kl=bootstrap_ratio_of_sums(sums, counts, seed=seed, skewed=True),
        kl_95=float(np.quantile(every, 0.95)),
        first=bootstrap_ratio_of_sums(first, np.ones(len(first)), seed=seed, skewed=True),
        share=share,
        tokens=len(every),
    )
