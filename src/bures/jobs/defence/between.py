"""What a model costs over another one, without any attack: both along the other one's own harmless answers.

KL(before || after) is of the two models' next-token probabilities at every token of an answer that the model before
gave; the perplexity is of that answer's tokens. Both models are in memory at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bures.data.conversations import Prompt
from bures.errors import ConfigError, NumericsError
from bures.jobs.metrics import token_kl
from bures.models.along import Along
from bures.models.batching import LOGIT_BUDGET, Batches
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.bootstrap import bootstrap_quantile, bootstrap_ratio_of_sums, exponential
from bures.results.defending import Cost

TAIL = 0.95
"""The percentile of the KL that is told besides its mean."""


def cost_between(
    before: ChatModel,
    after: ChatModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Sequence[int]],
    *,
    system: str | None,
    token_budget: int,
) -> Cost:
    """Perplexity and KL of one model over another.

    Args:
        before: the model that gave the answers.
        after: the model that is held against it.
        prompts: user turns.
        answers: token ids, one answer a prompt, none empty.
        system: system prompt.
        token_budget: padded tokens in one batch.

    Raises:
        ConfigError: the models do not read the prompts as the same tokens, or have other vocabularies.
        NumericsError: logits are NaN or infinite.
    """
    heads = before.encode(prompts, system=system)
    if after.encode(prompts, system=system) != heads or after.vocabulary != before.vocabulary:
        raise ConfigError(f"{after.name} reads prompts as other tokens than {before.name}: their KL means nothing")
    risen, kl = zip(*_along(before, after, heads, answers, token_budget), strict=True)
    if not all(np.isfinite([rise, *each]).all() for rise, each in zip(risen, kl, strict=True)):
        raise NumericsError(f"a token of an answer has probability 0 under {after.name}: its NLL or KL is infinite")
    counts = [float(len(answer)) for answer in answers]
    return Cost(
        perplexity_ratio=exponential(bootstrap_ratio_of_sums(risen, counts)),
        kl=bootstrap_ratio_of_sums([float(sum(each)) for each in kl], counts, skewed=True),
        kl_95=bootstrap_quantile(kl, TAIL),
    )


@torch.inference_mode()
def _along(
    before: ChatModel,
    after: ChatModel,
    heads: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    token_budget: int,
) -> list[tuple[float, list[float]]]:
    """Of every answer how much its NLL rises, and the KL at each of its tokens."""
    keep = max(map(len, answers)) + 1
    passes = [Along(model, heads, answers, streams=0, cached=0) for model in (before, after)]
    found: list[tuple[float, list[float]]] = [(0.0, [])] * len(heads)
    todo = Batches(
        passes[0].sequences,
        pad_id=before.pad_id,
        token_budget=token_budget,
        max_rows=max(1, LOGIT_BUDGET // (before.vocabulary * keep)),
        equal_length=before.parts.pads_matter or after.parts.pads_matter,
        room=after.room,
        work="costs",
    )
    for batch in todo:
        with todo.trying(batch):
            p, q = (each.log_probs(batch, keep, Intervention()) for each in passes)
            for row, i in enumerate(batch.index):
                found[i] = _of_answer(p[row].to(q.device), q[row], answers[i])
    return found


def _of_answer(p: torch.Tensor, q: torch.Tensor, answer: Sequence[int]) -> tuple[float, list[float]]:
    """How much an answer's NLL rises from log-probabilities p to q (positions, vocabulary), and KL(p || q)."""
    m = len(answer)
    p, q = p[-m - 1 : -1], q[-m - 1 : -1]
    target = torch.tensor(answer, device=q.device)[:, None]
    rise = float((p - q).gather(1, target).double().sum())
    return rise, np.maximum(token_kl(p, q).double().cpu().numpy(), 0.0).tolist()
