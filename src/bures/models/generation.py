"""Greedy completions: deterministic, in length-sorted padded batches, under whatever intervention is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from bures.errors import ConfigError
from bures.models.batching import TOKEN_BUDGET, batches
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel

Advance = Callable[[int], object]
"""Called with the number of prompts that were answered."""


@runtime_checkable
class Engine(Protocol):
    """Whoever generates an audit's answers."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the results has to know."""
        ...

    def answers(
        self, prompts: Sequence[str], intervention: Intervention, advance: Advance | None = None
    ) -> list[list[int]]:
        """Token ids of the greedy answers under an intervention, as `generate_ids` gives them."""
        ...


@dataclass(frozen=True)
class HereEngine:
    """The transformers model in this process."""

    model: ChatModel
    max_new_tokens: int
    system: str | None = None
    token_budget: int = TOKEN_BUDGET
    notes: Sequence[str] = ()

    def answers(
        self, prompts: Sequence[str], intervention: Intervention, advance: Advance | None = None
    ) -> list[list[int]]:
        """Token ids of the greedy answers under an intervention."""
        with intervention.applied(self.model):
            return generate_ids(
                self.model,
                prompts,
                max_new_tokens=self.max_new_tokens,
                system=self.system,
                token_budget=self.token_budget,
                advance=advance,
            )


def generate_ids(
    model: ChatModel,
    prompts: Iterable[str],
    *,
    max_new_tokens: int = 64,
    system: str | None = None,
    token_budget: int = TOKEN_BUDGET,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Token ids of the greedy answers, in the prompts' order, the ending token included where the model ended.

    Args:
        model: the model.
        prompts: user turns; the chat template is applied.
        max_new_tokens: upper bound on an answer's tokens.
        system: optional system prompt.
        token_budget: padded tokens in one batch, the answers included.
        advance: called with the number of prompts done after each batch.

    Raises:
        ConfigError: no prompts or no tokens asked for.
    """
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    sequences = model.encode(list(prompts), system=system)
    if not sequences:
        raise ConfigError("nothing to generate: expected at least one prompt")
    answers: list[list[int]] = [[] for _ in sequences]
    for batch in batches(
        sequences,
        pad_id=model.pad_id,
        token_budget=token_budget,
        extra=max_new_tokens,
        equal_length=model.parts.pads_matter,
    ):
        new = _greedy(model, batch.ids, batch.attended, max_new_tokens)
        for i, row in zip(batch.index, new.tolist(), strict=True):
            answers[i] = until_end(row, model.eos_ids)
        if advance is not None:
            advance(len(batch.index))
    return answers


def generate(
    model: ChatModel, prompts: Iterable[str], *, max_new_tokens: int = 64, system: str | None = None
) -> list[str]:
    """Greedy answers as text, special tokens left out. Untrusted text: escape it wherever it is shown."""
    return decode(model, generate_ids(model, prompts, max_new_tokens=max_new_tokens, system=system))


def decode(model: ChatModel, answers: Iterable[list[int]]) -> list[str]:
    """Text of answers, special tokens left out."""
    return [str(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]


@torch.inference_mode()
def _greedy(model: ChatModel, ids: Tensor, attended: Tensor, max_new_tokens: int) -> Int[Tensor, "b new"]:
    from transformers import GenerationConfig

    # Everything that a checkpoint's own generation_config could add to plain argmax is set back to neutral.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=list(model.eos_ids) or None,
        pad_token_id=model.pad_id,
        use_cache=True,
    )
    own = model.hf.generation_config
    try:
        # transformers fills what `config` leaves open from the checkpoint's own configuration: give it an empty one.
        model.hf.generation_config = GenerationConfig()
        output = model.hf.generate(  # pyright: ignore[reportCallIssue]
            ids.to(model.device), attention_mask=attended.long().to(model.device), generation_config=config
        )
    finally:
        model.hf.generation_config = own
    return output[:, ids.shape[1] :]


def until_end(row: list[int], eos_ids: tuple[int, ...]) -> list[int]:
    """The answer up to and with its first ending token."""
    for place, token in enumerate(row):
        if token in eos_ids:
            return row[: place + 1]
    return row
