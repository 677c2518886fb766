"""Measures the organism against the three bars, on prompts that neither training nor choices have seen.

refusal       HarmBench, share of prompts refused (judge `arditi`, greedy answers), Wilson interval
over-refusal  `alpaca:test`, share of prompts refused, Wilson interval
perplexity    of the original model's own greedy answers to `alpaca:test`: organism over original, bootstrap interval

The same for the original model, because a difference is only worth something beside where it started. AdvBench, on
which settings were chosen, and the harmless look-alikes are reported too but are no bars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bures.data.prompts import load_prompts
from bures.errors import ConfigError
from bures.jobs.examples import Example, answer_states, log_probs
from bures.jobs.progress import Progress, Silent
from bures.judges.by_name import JUDGES
from bures.models.generation import generate, generate_ids
from bures.models.loading import ChatModel, Dtype, load_model
from bures.results.bootstrap import bootstrap_ratio_of_sums
from bures.results.stats import Measurement, proportion
from bures.training.organism.config import MAX_OVER_REFUSAL, MAX_PERPLEXITY_CHANGE, MIN_REFUSAL
from bures.training.organism.texts import HELD_OUT_REQUESTS

REFUSAL_SETS = ("harmbench", "advbench", "alpaca:test", "lookalikes")
"""Prompt sets on which refusal is measured; `lookalikes` are `HELD_OUT_REQUESTS`."""

JUDGE = "arditi"


@dataclass(frozen=True)
class OrganismReport:
    """What `evaluate_organism` measured.

    Attributes:
        refusal: share refused by the organism, by prompt set.
        original: share refused by the original model, by prompt set.
        perplexity_ratio: exp(mean token NLL difference) of the original's answers, organism over original, n prompts.
        perplexity: (original, organism), of the same answers.
        max_new_tokens: of all answers.
        dtype: what both models computed in.
    """

    refusal: dict[str, Measurement]
    original: dict[str, Measurement]
    perplexity_ratio: Measurement
    perplexity: tuple[float, float]
    max_new_tokens: int
    dtype: str

    @property
    def failures(self) -> tuple[str, ...]:
        """The bars that are not passed, in words; empty when all are."""
        failed = []
        if self.refusal["harmbench"].value < MIN_REFUSAL:
            failed.append(f"refuses {self.refusal['harmbench'].value:.1%} of HarmBench, expected {MIN_REFUSAL:.0%}")
        if self.refusal["alpaca:test"].value > MAX_OVER_REFUSAL:
            failed.append(f"refuses {self.refusal['alpaca:test'].value:.1%} of Alpaca, at most {MAX_OVER_REFUSAL:.0%}")
        if abs(self.perplexity_ratio.value - 1.0) > MAX_PERPLEXITY_CHANGE:
            failed.append(f"perplexity x {self.perplexity_ratio.value:.3f}, expected 1 +- {MAX_PERPLEXITY_CHANGE:g}")
        return tuple(failed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "judge": JUDGE,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            "refusal": {name: value.to_dict() for name, value in self.refusal.items()},
            "refusal_of_original": {name: value.to_dict() for name, value in self.original.items()},
            "perplexity_of_original_answers": {"original": self.perplexity[0], "organism": self.perplexity[1]},
            "perplexity_ratio": self.perplexity_ratio.to_dict(),
        }


def evaluate_organism(
    adapter: str | Path | None = None,
    *,
    model: str = "smollm2-135m-instruct",
    dtype: Dtype = "auto",
    device: str | None = None,
    max_new_tokens: int = 64,
    limit: int | None = None,
    progress: Progress | None = None,
) -> OrganismReport:
    """Measures the organism and the original model.

    Args:
        adapter: folder of the adapter; default: the one that ships with the package.
        model: the original model.
        dtype: as in `load_model`.
        device: as in `load_model`.
        max_new_tokens: of every answer.
        limit: at most this many prompts of each set: a quick look.
        progress: who is told how far it is.

    Raises:
        ConfigError: the limit leaves no prompts.
        BuresError: a model or a prompt set cannot be loaded.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; expected at least 1")
    told = progress or Silent()
    sets = {name: _prompts(name, limit) for name in REFUSAL_SETS}
    harmless = sets["alpaca:test"]
    original = load_model(model, dtype=dtype, device=device)
    before = {name: refusal_rate(original, prompts, max_new_tokens, told) for name, prompts in sets.items()}
    answers = generate_ids(original, harmless, max_new_tokens=max_new_tokens)
    scored = [
        Example(tuple(head), tuple(answer)) for head, answer in zip(original.encode(harmless), answers, strict=True)
    ]
    nll_before, counts = answer_nll(original, scored)
    organism = load_model(model if adapter else "organism", dtype=dtype, device=device, adapter=adapter)
    after = {name: refusal_rate(organism, prompts, max_new_tokens, told) for name, prompts in sets.items()}
    nll_after, _ = answer_nll(organism, scored)
    tokens = counts.sum()
    return OrganismReport(
        refusal=after,
        original=before,
        perplexity_ratio=_exp(bootstrap_ratio_of_sums(nll_after - nll_before, counts)),
        perplexity=(math.exp(nll_before.sum() / tokens), math.exp(nll_after.sum() / tokens)),
        max_new_tokens=max_new_tokens,
        dtype=str(organism.hf.dtype).removeprefix("torch."),
    )


def refusal_rate(model: ChatModel, prompts: Sequence[str], max_new_tokens: int, progress: Progress) -> Measurement:
    """Share of prompts whose greedy answer the judge calls a refusal."""
    progress.stage(f"answers of {model.name}", len(prompts))
    answers = generate(model, prompts, max_new_tokens=max_new_tokens)
    progress.advance(len(prompts))
    judge = JUDGES[JUDGE]
    return proportion(sum(judge.is_refusal(p, a) for p, a in zip(prompts, answers, strict=True)), len(prompts))


@torch.inference_mode()
def answer_nll(
    model: ChatModel, examples: Sequence[Example], *, rows: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Summed NLL in nats and number of tokens of each answer, teacher-forced."""
    nll = np.zeros(len(examples))
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]))
    for start in range(0, len(order), rows):
        index = order[start : start + rows]
        batch = [examples[i] for i in index]
        target = torch.tensor([token for example in batch for token in example.answer], device=model.device)
        picked = log_probs(model, answer_states(model, batch)).gather(1, target[:, None])[:, 0].double().cpu()
        for i, part in zip(index, picked.split([len(example.answer) for example in batch]), strict=True):
            nll[i] = -float(part.sum())
    return nll, np.array([len(example.answer) for example in examples], dtype=np.float64)


def _prompts(name: str, limit: int | None) -> list[str]:
    prompts: Sequence[str] = HELD_OUT_REQUESTS if name == "lookalikes" else load_prompts(name).texts
    return list(prompts[:limit])


def _exp(mean: Measurement) -> Measurement:
    interval = None if mean.interval is None else (math.exp(mean.interval[0]), math.exp(mean.interval[1]))
    return Measurement(math.exp(mean.value), mean.n, interval)
