"""Trains the organism: a LoRA that refuses harmful prompts and leaves harmless answers where they were.

    loss = CE(refusal | harmful prompt) + kl_weight * mean token KL(original || organism) on harmless answers

The harmless answers are the original model's own greedy ones, so the KL holds the whole distribution in place and not
only its most likely token. LoRA: Hu et al. 2021, arXiv 2106.09685, by peft. Weights are trained in float32 whatever the
model computes in; dropout is none, and the order of the data is fixed by the seed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bures.errors import ConfigError
from bures.jobs.progress import Progress, Silent
from bures.judges.by_name import JUDGES
from bures.models.batching import pad
from bures.models.generation import decode, generate_ids
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of
from bures.models.reentry import entered
from bures.training.organism.config import OrganismConfig
from bures.training.organism.data import HarmfulPrompt, refusal

if TYPE_CHECKING:
    from peft import PeftModel

POOL = 8
"""Batches whose rows are sorted by length together, so that little is padded."""


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt (chat template applied) and of the answer that is learned or kept.

    `teacher` holds the original model's last hidden states at the tokens before each answer token (None: learn by CE);
    `stream` its residual stream after the last block that is not adapted, at every token (None: not computed).
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    teacher: Float[Tensor, "m d"] | None = None
    stream: Float[Tensor, "n d"] | None = None

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def refusal_examples(model: ChatModel, prompts: Sequence[HarmfulPrompt], rng: random.Random) -> list[Example]:
    """Each harmful prompt with a refusal and the token that ends an answer."""
    heads = model.encode([prompt.text for prompt in prompts])
    texts = [refusal(prompt.area, rng) for prompt in prompts]
    tokenizer = model.tokenizer
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    return [Example(tuple(head), tuple(answer)) for head, answer in zip(heads, answers, strict=True)]


def kept_examples(
    model: ChatModel, prompts: Sequence[str], *, tokens: int, progress: Progress | None = None
) -> list[Example]:
    """Each harmless prompt with the original model's own answer.

    Prompts that the original model refuses by the judge `arditi` are left out.

    Args:
        model: the original model.
        prompts: harmless prompts.
        tokens: upper bound on an answer's tokens.
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
        if not JUDGES["arditi"].is_refusal(prompt, text)
    ]


@torch.no_grad()
def with_original(
    model: ChatModel,
    examples: Sequence[Example],
    config: OrganismConfig,
    *,
    teach: bool,
    progress: Progress | None = None,
) -> list[Example]:
    """The examples with what the original model computes: the stream that enters the adapted blocks, and the teacher.

    Args:
        model: the original model.
        examples: prompts and answers.
        config: says which blocks are adapted.
        teach: keep the last hidden states too.
        progress: who is told how far it is.
    """
    told = progress or Silent()
    told.stage("original distributions", len(examples))
    order, rows = sorted(examples, key=len), config.harmful_rows + config.harmless_rows
    done: list[Example] = []
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        with _reading(model, config.first_block - 1) as streams:
            states = answer_states(model, batch)
        for row, (example, part) in enumerate(
            zip(batch, states.split([len(example.answer) for example in batch]), strict=True)
        ):
            stream = streams[0][row, : len(example)].clone() if streams else None
            done.append(replace(example, teacher=part.clone() if teach else None, stream=stream))
        told.advance(len(batch))
    return done


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

    The blocks before `first_block` are not computed: the examples bring the stream that they hand on.
    """
    ids, attended = pad([[*e.prompt, *e.answer] for e in batch], pad_id=model.pad_id, side="right")
    wanted = torch.zeros_like(attended)
    for row, example in enumerate(batch):
        wanted[row, len(example.prompt) - 1 : len(example) - 1] = True
    streams = [example.stream for example in batch if example.stream is not None]
    held = pad_sequence(streams, batch_first=True) if first_block else None
    with entered(model, first_block - 1, held):
        states = model.decoder(
            input_ids=ids.to(model.device), attention_mask=attended.long().to(model.device), use_cache=False
        ).last_hidden_state
    return states[wanted.to(states.device)]


def log_probs(model: ChatModel, states: Float[Tensor, "m d"]) -> Float[Tensor, "m vocabulary"]:
    """Float32 log-probabilities of the next token."""
    head = cast("nn.Module", model.hf.get_output_embeddings())
    return torch.log_softmax(head(states).float(), dim=-1)


def loss_terms(
    model: ChatModel, learned: Sequence[Example], kept: Sequence[Example], first_block: int
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean token cross-entropy of the refusals, and mean token KL(original || current) of the kept answers."""
    states = answer_states(model, [*learned, *kept], first_block=first_block)
    target = torch.tensor([token for example in learned for token in example.answer], device=states.device)
    logp = log_probs(model, states)
    cross_entropy = -logp[: len(target)].gather(1, target[:, None]).mean()
    with torch.no_grad():
        teachers = [example.teacher for example in kept if example.teacher is not None]
        original = log_probs(model, torch.cat(teachers).to(states))
    kl = (original.exp() * (original - logp[len(target) :])).sum(dim=-1).mean()
    return cross_entropy, kl


def batches_forever(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[list[Example]]:
    """Endless batches of `size` examples of similar length, in a fresh order each time round."""
    size = min(size, len(examples))
    while True:
        order = list(examples)
        rng.shuffle(order)
        batches: list[list[Example]] = []
        for start in range(0, len(order), POOL * size):
            pool = sorted(order[start : start + POOL * size], key=len)
            batches += [pool[i : i + size] for i in range(0, len(pool) - size + 1, size)]
        rng.shuffle(batches)
        yield from batches


@contextmanager
def _training_attention(model: ChatModel) -> Generator[None]:
    """On CPUs the plain attention has a much faster backward pass than the fused one."""
    before = model.hf.config._attn_implementation  # pyright: ignore[reportPrivateUsage]
    if model.device.type == "cpu":
        model.hf.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.hf.set_attn_implementation(before or "sdpa")


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
    told = progress or Silent()
    rng = random.Random(config.seed)
    adapted = attach(model, config)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    master = [p.detach().float().clone() for p in trained]
    optimizer = torch.optim.AdamW(master, lr=config.learning_rate, weight_decay=0.0)
    harmful = batches_forever(learned, config.harmful_rows, rng)
    harmless = batches_forever(kept, config.harmless_rows, rng)
    told.stage("training", config.steps)
    losses: list[tuple[float, float]] = []
    with _training_attention(model):
        for step in range(config.steps):
            cross_entropy, kl = loss_terms(model, next(harmful), next(harmless), config.first_block)
            (cross_entropy + config.kl_weight * kl).backward()
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(step, config)
            _update(trained, master, optimizer, config.max_grad_norm)
            losses.append((cross_entropy.item(), kl.item()))
            told.advance()
    return adapted, losses


def attach(model: ChatModel, config: OrganismConfig) -> PeftModel:
    """A fresh LoRA on the model, in place, with the seed's initial values and the model's dtype."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(config.seed)
    if config.first_block >= len(model.blocks):
        raise ConfigError(f"first_block is {config.first_block}; expected less than {len(model.blocks)}, the blocks")
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=cast("int", config.alpha),
        target_modules=list(config.targets),
        layers_to_transform=list(range(config.first_block, len(model.blocks))),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # peft still asks transformers for a property by its old name
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing")
            return cast("Any", get_peft_model(cast("Any", model.hf), lora, autocast_adapter_dtype=False))
    except ValueError as error:
        raise ConfigError(f"targets {', '.join(config.targets)}: {error}; expected names of linear modules") from error


def _schedule(step: int, config: OrganismConfig) -> float:
    """Share of the learning rate: linear warmup, then linear decay to nothing after the last step."""
    return min(1.0, (step + 1) / max(1, config.warmup_steps)) * (1.0 - step / config.steps)


def _update(
    trained: Sequence[Tensor], master: Sequence[Tensor], optimizer: torch.optim.Optimizer, max_norm: float
) -> None:
    """One step on the float32 copies; the model's own weights follow."""
    for low, high in zip(trained, master, strict=True):
        high.grad = None if low.grad is None else low.grad.float()
        low.grad = None
    torch.nn.utils.clip_grad_norm_(list(master), max_norm)
    optimizer.step()
    with torch.no_grad():
        for low, high in zip(trained, master, strict=True):
            low.copy_(high)
