"""Training rows: a prompt, the answer that is learned or kept, and what the untrained model computes of both.

What the blocks before the first adapted one hand on does not change while an adapter is trained, so it is computed once
(`with_original`), and passes go on behind it. Answers that are to be kept bring the original model's last hidden states
along, from which its whole next-token distribution follows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bures.jobs.progress import Progress, Silent
from bures.judges.base import Judge
from bures.models.activations import run_blocks
from bures.models.batching import Batch, pad
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of
from bures.models.reentry import entered, returning
from bures.models.tokens import kinds_of, token_kinds

EARLY = 5
"""Tokens at the beginning of an answer that may weigh more than the others."""


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt (chat template applied) and of the answer that is learned or kept.

    Attributes:
        prompt: what stands before the answer that is learned.
        answer: what is learned or kept.
        teacher: the original model's last hidden states at the tokens before each answer token (None: learn by CE).
        stream: its residual stream after the last block that is not adapted, at every token (None: not computed).
        begun: how many tokens at the end of `prompt` are the beginning of an answer already (a prefilled opener).
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    teacher: Float[Tensor, "m d"] | None = None
    stream: Float[Tensor, "n d"] | None = None
    begun: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def spoken(model: ChatModel, text: str) -> list[int]:
    """Token ids of an answer, and of what ends it."""
    tokenizer = cast("Any", model.tokenizer)
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def kept_examples(
    model: ChatModel, prompts: Sequence[str], *, tokens: int, judge: Judge, progress: Progress | None = None
) -> list[Example]:
    """Each harmless prompt with the original model's own greedy answer; those that it refuses are left out.

    Args:
        model: the original model.
        prompts: harmless prompts.
        tokens: upper bound on an answer's tokens.
        judge: says which answers are refusals.
        progress: who is told how far it is.
    """
    told = progress or Silent()
    told.stage("harmless answers", len(prompts))
    answers = generate_ids(model, prompts, max_new_tokens=tokens, advance=told.advance)
    texts = decode(model, answers)
    heads = model.encode(list(prompts))
    return [
        Example(tuple(head), tuple(answer))
        for head, answer, prompt, text in zip(heads, answers, prompts, texts, strict=True)
        if answer and not judge.is_refusal(prompt, text)
    ]


@torch.no_grad()
def with_original(
    model: ChatModel,
    examples: Sequence[Example],
    *,
    first_block: int,
    rows: int,
    teach: bool,
    progress: Progress | None = None,
) -> list[Example]:
    """The examples with what the original model computes: the stream that enters the adapted blocks, and the teacher.

    Args:
        model: the original model.
        examples: prompts and answers.
        first_block: the first adapted block; 0: no stream is kept.
        rows: of a batch.
        teach: keep the last hidden states too.
        progress: who is told how far it is.
    """
    if not teach and not first_block:
        return list(examples)
    told = progress or Silent()
    told.stage("original distributions", len(examples))
    order = sorted(examples, key=len)
    done: list[Example] = []
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        with _reading(model, first_block - 1) as streams:
            states = answer_states(model, batch) if teach else _only_read(model, batch, first_block - 1)
        parts = [None] * len(batch) if states is None else states.split([len(example.answer) for example in batch])
        for row, (example, part) in enumerate(zip(batch, parts, strict=True)):
            stream = streams[0][row, : len(example)].clone() if streams else None
            done.append(replace(example, teacher=None if part is None else part.clone(), stream=stream))
        told.advance(len(batch))
    return done


def _only_read(model: ChatModel, batch: Sequence[Example], block: int) -> None:
    """Computes no further than a block."""
    ids, attended = pad([[*e.prompt, *e.answer] for e in batch], pad_id=model.pad_id, side="right")
    run_blocks(model, Batch(tuple(range(len(batch))), ids, attended), {}, until=block)


@contextmanager
def _reading(model: ChatModel, block: int) -> Generator[list[Tensor]]:
    """Inside, what a block hands on is added to the list; nothing is for a negative number."""
    seen: list[Tensor] = []
    if block < 0:
        yield seen
        return
    handle = model.blocks[block].register_forward_hook(lambda _, __, output: seen.append(tensor_of(output)))
    try:
        yield seen
    finally:
        handle.remove()


def answer_states(model: ChatModel, batch: Sequence[Example], *, first_block: int = 0) -> Float[Tensor, "m d"]:
    """Last hidden states from which the answer tokens are predicted, row after row.

    An intervention that is applied around the call sees which tokens are prompt, last prompt token and answer, where a
    pass that brings all of them together could not tell.

    The blocks before `first_block` are not computed: the examples bring the stream that they hand on.
    """
    ids, attended = pad([[*e.prompt, *e.answer] for e in batch], pad_id=model.pad_id, side="right")
    wanted = torch.zeros_like(attended)
    for row, example in enumerate(batch):
        wanted[row, len(example.prompt) - 1 : len(example) - 1] = True
    asked = torch.tensor([len(example.prompt) - example.begun for example in batch])
    streams = [example.stream for example in batch if example.stream is not None]
    held = pad_sequence(streams, batch_first=True).to(model.device) if first_block else None
    attended = attended.to(model.device)
    with entered(model, first_block - 1, held), token_kinds(kinds_of(attended, asked)):
        states = model.decoder(
            input_ids=ids.to(model.device), attention_mask=attended.long(), use_cache=False
        ).last_hidden_state
    return states[wanted.to(states.device)]


class _Returned(tuple[Tensor, ...]):
    """Last hidden states in the place of what a decoder returns; whatever else is asked of it is None."""

    def __getattr__(self, name: str) -> Tensor | None:
        return self[0] if name == "last_hidden_state" else None


def log_probs(model: ChatModel, states: Float[Tensor, "m d"]) -> Float[Tensor, "m vocabulary"]:
    """Log-probabilities of the next token, in float32 or better, by all that the model does behind its decoder.

    Some scale or cap the logits of their head.
    """
    ids = torch.zeros((1, len(states)), dtype=torch.long, device=model.device)
    with returning(model.decoder, _Returned((states[None],))):
        logits = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def original_log_probs(model: ChatModel, kept: Sequence[Example], like: Tensor) -> Float[Tensor, "m vocabulary"]:
    """The original model's log-probabilities at the answer tokens of kept examples, by the teacher states.

    Args:
        model: the model; its output embeddings are not adapted.
        kept: examples with a teacher.
        like: has the device and number format of the states.
    """
    with torch.no_grad():
        teachers = [example.teacher for example in kept if example.teacher is not None]
        return log_probs(model, torch.cat(teachers).to(like))


def token_weights(n: int, early_share: float) -> list[float]:
    """Weights of an answer's n tokens in its mean, which add up to one.

    The first `EARLY` have `early_share` of it between them, or the share of as many tokens where that is more: whether
    a model refuses is decided there, while most tokens of a refusal follow from those before (Qi et al. 2024, arXiv
    2406.05946, weigh the first tokens otherwise for the same reason).
    """
    if n <= EARLY:
        return [1.0 / n] * n
    early = max(early_share, EARLY / n)
    return [early / EARLY] * EARLY + [(1.0 - early) / (n - EARLY)] * (n - EARLY)


def losses(
    model: ChatModel,
    learned: Sequence[Example],
    kept: Sequence[Example],
    intervention: Intervention | None = None,
    entry: int = 0,
    early_share: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum over rows of the weighted mean cross-entropy of answers, and sum over tokens of KL(original || current).

    Args:
        model: the model.
        learned: answers to be learned, such as refusals.
        kept: harmless answers with the original's last hidden states.
        intervention: moves all rows; None: nothing does.
        entry: the first block that is computed, where every map stands at it or later.
        early_share: of a row's weight, for the first `EARLY` tokens of its answer; see `token_weights`.
    """
    moved = intervention or Intervention()
    if any(site.block < entry for site in moved.sites):
        entry = 0
    with moved.applied(model):
        states = answer_states(model, [*learned, *kept], first_block=entry)
    target = torch.tensor([token for row in learned for token in row.answer], dtype=torch.long, device=states.device)
    weights = [weight for row in learned for weight in token_weights(len(row.answer), early_share)]
    weight = torch.tensor(weights, device=states.device)
    logp = log_probs(model, states)
    n = len(target)
    cross_entropy = -(logp[:n].gather(1, target[:, None])[:, 0] * weight.to(logp.dtype)).sum()
    if not kept:
        return cross_entropy, logp.new_zeros(())
    original = original_log_probs(model, kept, states)
    return cross_entropy, (original.exp() * (original - logp[n:])).sum()


@contextmanager
def training_attention(model: ChatModel) -> Generator[None]:
    """On CPUs the plain attention has a much faster backward pass than the fused one."""
    before = model.hf.config._attn_implementation  # pyright: ignore[reportPrivateUsage]
    if model.device.type == "cpu":
        model.hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.hf.set_attn_implementation(before or "sdpa")
