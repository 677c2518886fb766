"""Greedy completions: deterministic, in length-sorted padded batches, under whatever intervention is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from bures.data.conversations import Prompt, PromptLike
from bures.errors import ConfigError
from bures.models.batching import TOKEN_BUDGET, Batch, Batches
from bures.models.finite import watch
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.past import past_for
from bures.models.shared_prefix import Prefix, prefix_of
from bures.models.tokens import prompt_lengths_are

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
        self, prompts: Sequence[Prompt], intervention: Intervention, advance: Advance | None = None
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
        self, prompts: Sequence[Prompt], intervention: Intervention, advance: Advance | None = None
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
    prompts: Iterable[PromptLike],
    *,
    max_new_tokens: int = 64,
    system: str | None = None,
    token_budget: int = TOKEN_BUDGET,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Token ids of the greedy answers, in the prompts' order, the ending token included where the model ended.

    Args:
        model: the model.
        prompts: user turns, or conversations that end with one; the chat template is applied.
        max_new_tokens: upper bound on an answer's tokens; thinking has a bound of its own.
        system: optional system prompt.
        token_budget: padded tokens in one batch, the answers included.
        advance: called with the number of prompts done after each batch.

    Raises:
        ConfigError: no prompts or no tokens asked for.
        NumericsError: logits are NaN or infinite on the way.
    """
    if max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {max_new_tokens}; expected at least 1")
    sequences = model.encode(prompts, system=system)
    if not sequences:
        raise ConfigError("nothing to generate: expected at least one prompt")
    return continued(model, sequences, max_new_tokens=max_new_tokens, token_budget=token_budget, advance=advance)


def continued(
    model: ChatModel,
    sequences: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    begun: Sequence[int] | None = None,
    token_budget: int = TOKEN_BUDGET,
    advance: Advance | None = None,
) -> list[list[int]]:
    """Greedy answers to prompts that are tokens already; see `generate_ids`.

    Args:
        model: the model.
        sequences: token ids.
        max_new_tokens: upper bound on an answer's further tokens.
        begun: how many tokens at the end of every sequence are the beginning of its answer; None: none. Interventions
            then take them for answer, and the one before them for the last of the prompt.
        token_budget: padded tokens in one batch.
        advance: called with the number of prompts done after each batch.
    """
    answers: list[list[int]] = [[] for _ in sequences]
    most = model.chat.limit(max_new_tokens)
    todo = Batches(
        sequences,
        pad_id=model.pad_id,
        token_budget=token_budget,
        extra=most,
        equal_length=model.parts.pads_matter,
        room=model.room,
        work="answers",
    )
    prefix = prefix_of(model, sequences, most)
    for batch in todo:
        with todo.trying(batch):
            own = None if begun is None else torch.tensor([begun[i] for i in batch.index])
            new = _behind(model, prefix, batch, sequences, most, own)
            for i, row in zip(batch.index, new.tolist(), strict=True):
                answers[i] = finished(model, row, max_new_tokens)
            if advance is not None:
                advance(len(batch.index))
    return answers


def _behind(
    model: ChatModel,
    prefix: Prefix | None,
    batch: Batch,
    sequences: Sequence[Sequence[int]],
    most: int,
    begun: Int[Tensor, " b"] | None,
) -> Int[Tensor, "b new"]:
    """Answers to the prompts of a batch, behind what all prompts begin with, if that was computed."""
    laid = batch if prefix is None else prefix.batch(batch.index, sequences, model.pad_id)
    cache = None if prefix is None else prefix.copies(len(batch.index))
    if prefix is None and begun is None:
        return _greedy(model, laid.ids, laid.attended, most)
    lengths = laid.attended.sum(dim=1) - (0 if begun is None else begun)
    with prompt_lengths_are(lengths.to(model.device)):
        return _greedy(model, laid.ids, laid.attended, most, cache)


def finished(model: ChatModel, row: list[int], max_new_tokens: int) -> list[int]:
    """The answer in a row of new tokens: up to what ends it, and no longer than allowed."""
    answer, _ = model.chat.until_end(row, model.eos_ids)
    return model.chat.within(answer, max_new_tokens)


@dataclass(frozen=True)
class Answer:
    """An answer as it is read. Untrusted text: escape it wherever it is shown.

    Attributes:
        text: what was said, without thinking, special tokens and what stands behind the turn's end.
        thinking: what was thought before; None where nothing was.
        ended: whether the model ended its turn.
        finished: False where the tokens ran out inside the thinking or before anything was said, or where the turn
            ended inside the thinking.
    """

    text: str
    thinking: str | None
    ended: bool
    finished: bool


def read(model: ChatModel, ids: list[int]) -> Answer:
    """Reads one answer."""
    chat = model.chat
    ended = bool(ids) and ids[-1] in model.eos_ids
    body = ids[:-1] if ended else ids
    spelled = chat.spelled(body)
    span = chat.ends.place(spelled)
    thought = chat.split(spelled if span is None else spelled[: span[0]])
    if thought.said == spelled:
        said = str(model.tokenizer.decode(body, skip_special_tokens=True))
    else:
        said = _without(thought.said, map(str, model.tokenizer.all_special_tokens)).strip()
    ended = ended or span is not None
    return Answer(said, thought.thinking, ended, thought.finished and (ended or bool(said.strip())))


def _without(text: str, tokens: Iterable[str]) -> str:
    for token in tokens:
        text = text.replace(token, "")
    return text


def generate(
    model: ChatModel, prompts: Iterable[PromptLike], *, max_new_tokens: int = 64, system: str | None = None
) -> list[str]:
    """Greedy answers as text, special tokens left out. Untrusted text: escape it wherever it is shown."""
    return decode(model, generate_ids(model, prompts, max_new_tokens=max_new_tokens, system=system))


def decode(model: ChatModel, answers: Iterable[list[int]]) -> list[str]:
    """What answers say as text; see `Answer`."""
    return [read(model, ids).text for ids in answers]


@torch.inference_mode()
def _greedy(
    model: ChatModel, ids: Tensor, attended: Tensor, max_new_tokens: int, cache: Any = None
) -> Int[Tensor, "b new"]:
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
            ids.to(model.device),
            attention_mask=attended.long().to(model.device),
            generation_config=config,
            logits_processor=[watch()],
            **({} if cache is None else past_for(model.hf, cache)),
        )
    finally:
        model.hf.generation_config = own
    return output[:, ids.shape[1] :]
