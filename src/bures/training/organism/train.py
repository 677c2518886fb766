"""Trains the organism: a LoRA that refuses harmful prompts and leaves harmless answers where they were.

    loss = CE(refusal | harmful prompt) + kl_weight * mean token KL(original || organism) on harmless answers

The harmless answers are the original model's own greedy ones, so the KL holds the whole distribution in place and not
only its most likely token. Dropout is none, and the order of the data is fixed by the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import ConfigError
from bures.jobs.example_stream import Stream
from bures.jobs.examples import Example, answer_states, log_probs, original_log_probs, spoken
from bures.jobs.progress import Progress, Silent
from bures.models.loading import ChatModel
from bures.training.loop import Part, Trainer, train
from bures.training.lora import attach
from bures.training.organism.config import OrganismConfig
from bures.training.organism.data import HarmfulPrompt, refusal

if TYPE_CHECKING:
    from peft import PeftModel


def refusal_examples(model: ChatModel, prompts: Sequence[HarmfulPrompt], rng: random.Random) -> list[Example]:
    """Each harmful prompt with a refusal and the token that ends an answer."""
    heads = model.encode([prompt.text for prompt in prompts])
    answers = [spoken(model, refusal(prompt.area, rng)) for prompt in prompts]
    return [Example(tuple(head), tuple(answer)) for head, answer in zip(heads, answers, strict=True)]


def loss_terms(
    model: ChatModel, learned: Sequence[Example], kept: Sequence[Example], first_block: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean token cross-entropy of the refusals, and mean token KL(original || current) of the kept answers."""
    states = answer_states(model, [*learned, *kept], first_block=first_block)
    target = torch.tensor([token for example in learned for token in example.answer], device=states.device)
    logp = log_probs(model, states)
    cross_entropy = -logp[: len(target)].gather(1, target[:, None]).mean()
    original = original_log_probs(model, kept, states)
    kl = (original.exp() * (original - logp[len(target) :])).sum(dim=-1).mean()
    return cross_entropy, kl


@dataclass(frozen=True)
class _Refusing:
    """Refuse harmful prompts, leave harmless answers alone."""

    model: ChatModel
    harmful: Stream
    harmless: Stream
    config: OrganismConfig

    def parts(self, step: int) -> Iterator[Part]:
        cross_entropy, kl = loss_terms(self.model, next(self.harmful), next(self.harmless), self.config.first_block)
        yield Part(cross_entropy + self.config.kl_weight * kl, {"refusal": cross_entropy.item(), "KL": kl.item()})


def train_lora(
    model: ChatModel,
    learned: Sequence[Example],
    kept: Sequence[Example],
    config: OrganismConfig,
    *,
    progress: Progress | None = None,
) -> tuple[PeftModel, list[tuple[float, float]]]:
    """Attaches a LoRA to the model and trains it.

    Returns:
        The peft model (its `unload()` gives the original back) and (cross-entropy, KL) of every step.

    Raises:
        ConfigError: there are no examples of one kind, or the model has no module of that name.
    """
    if not learned or not kept:
        raise ConfigError(f"{len(learned)} harmful and {len(kept)} harmless examples; expected some of both")
    rng = random.Random(config.seed)
    adapted = attach(model, config)
    trainer = Trainer(model, adapted, config)
    harmful, harmless = Stream(learned, config.harmful_rows, rng), Stream(kept, config.harmless_rows, rng)
    train(trainer, _Refusing(model, harmful, harmless, config), progress or Silent())
    return adapted, [(each["refusal"], each["KL"]) for each in trainer.losses]
