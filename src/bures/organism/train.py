"""Trains the organism: a LoRA that refuses harmful prompts and leaves harmless answers where they were.

    loss = CE(refusal | harmful prompt) + kl_weight * mean token KL(original || organism) on harmless answers

The harmless answers are the original model's own greedy ones, so the KL holds the whole distribution in place and not
only its most likely token. LoRA: Hu et al. 2021, arXiv 2106.09685, by peft. Weights are trained in float32 whatever the
model computes in; dropout is none, and the order of the data is fixed by the seed.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bures.batching import pad
from bures.errors import ConfigError
from bures.generation import decode, generate_ids
from bures.judges import JUDGES
from bures.models import ChatModel
from bures.organism.config import OrganismConfig
from bures.organism.data import HarmfulPrompt, refusal
from bures.progress import Progress, Silent

if TYPE_CHECKING:
    from peft import PeftModel

POOL = 8
"""Batches whose rows are sorted by length together, so that little is padded."""


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt (chat template applied) and of the answer that is learned or kept.

    `teacher` holds the original model's last hidden states at the tokens before each answer token (None: learn by CE).
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    teacher: Float[Tensor, "m d"] | None = None

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
    model: ChatModel, prompts: Sequence[str], *, tokens: int, rows: int, progress: Progress | None = None
) -> list[Example]:
    """Each harmless prompt with the original model's own answer and hidden states.

    Prompts that the original model refuses by the judge `arditi` are left out.

    Args:
        model: the original model.
        prompts: harmless prompts.
        tokens: upper bound on an answer's tokens.
        rows: prompts in one pass for the hidden states.
        progress: who is told how far it is.
    """
    told = progress or Silent()
    told.stage("harmless answers", len(prompts))
    answers = generate_ids(model, prompts, max_new_tokens=tokens, advance=told.advance)
    texts = decode(model, answers)
    heads = model.encode(list(prompts))
    plain = [
        Example(tuple(head), tuple(answer))
        for head, answer, prompt, text in zip(heads, answers, prompts, texts, strict=True)
        if not JUDGES["arditi"].is_refusal(prompt, text)
    ]
    order = sorted(plain, key=len)
    told.stage("original distributions", len(order))
    examples = []
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        with torch.no_grad():
            states = answer_states(model, batch)
        parts = states.split([len(example.answer) for example in batch])
        examples += [Example(e.prompt, e.answer, part.clone()) for e, part in zip(batch, parts, strict=True)]
        told.advance(len(batch))
    return examples


def answer_states(model: ChatModel, batch: Sequence[Example]) -> Float[Tensor, "m d"]:
    """Last hidden states from which the answer tokens are predicted, row after row."""
    ids, attended = pad([[*e.prompt, *e.answer] for e in batch], pad_id=model.pad_id, side="right")
    wanted = torch.zeros_like(attended)
    for row, example in enumerate(batch):
        wanted[row, len(example.prompt) - 1 : len(example) - 1] = True
    states = model.decoder(
        input_ids=ids.to(model.device), attention_mask=attended.long().to(model.device), use_cache=False
    ).last_hidden_state
    return states[wanted.to(states.device)]


def log_probs(model: ChatModel, states: Float[Tensor, "m d"]) -> Float[Tensor, "m vocabulary"]:
    """Float32 log-probabilities of the next token."""
    head = cast("nn.Module", model.hf.get_output_embeddings())
    return torch.log_softmax(head(states).float(), dim=-1)


def loss_terms(
    model: ChatModel, learned: Sequence[Example], kept: Sequence[Example]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean token cross-entropy of the refusals, and mean token KL(original || current) of the kept answers."""
    states = answer_states(model, [*learned, *kept])
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
def _training_attention(model: ChatModel) -> Iterator[None]:
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
            cross_entropy, kl = loss_terms(model, next(harmful), next(harmless))
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
    lora = LoraConfig(
        r=config.rank, lora_alpha=cast("int", config.alpha), target_modules=list(config.targets), task_type="CAUSAL_LM"
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
