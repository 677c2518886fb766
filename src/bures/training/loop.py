"""The training loop that the organism and `harden` share: AdamW on float32 copies of a LoRA's weights.

Weights are trained in float32 whatever the model computes in (a step of 1e-5 is below bfloat16's spacing for most
weights). A step's loss comes in parts, each of which goes backwards before the next is computed, so that a batch may be
larger than what memory holds at once; the parts add up to the loss of the whole batch, and so do those of several
processes (`bures.training.workers`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bures.jobs.examples import training_attention
from bures.jobs.progress import Progress
from bures.models.loading import ChatModel
from bures.training.workers import Workers

if TYPE_CHECKING:
    from peft import PeftModel

REPORTS = 20
"""How often a training says where it stands."""

Figures = Mapping[str, float]


@runtime_checkable
class Schedule(Protocol):
    """How long and how fast a LoRA is trained."""

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        ...

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        ...

    @property
    def warmup_steps(self) -> int:
        """Steps over which it rises; after the last step it has fallen to nothing."""
        ...

    @property
    def max_grad_norm(self) -> float:
        """Gradients are clipped at this norm."""
        ...


@dataclass(frozen=True)
class Part:
    """A part of a step's loss.

    Attributes:
        loss: a scalar with a graph; the parts of all processes add up to the loss of the step.
        figures: what is told of it; they add up too.
    """

    loss: Tensor
    figures: Figures


@runtime_checkable
class Objective(Protocol):
    """What is minimised."""

    def parts(self, step: int) -> Iterable[Part]:
        """The parts of the loss of a step, one at a time."""
        ...


@dataclass
class Trainer:
    """The weights that are trained, and where the training stands.

    Attributes:
        model: the model, with the LoRA attached.
        adapted: the same as peft sees it.
        schedule: how long and how fast.
        workers: the processes that share the work.
        step: how many steps are done.
        losses: the figures of each of them.
    """

    model: ChatModel
    adapted: PeftModel
    schedule: Schedule
    workers: Workers = field(default_factory=Workers)
    step: int = 0
    losses: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def __post_init__(self) -> None:
        named = [(name, p) for name, p in self.adapted.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.trained = [p for _, p in named]
        self.master = [p.detach().to(torch.promote_types(p.dtype, torch.float32)).clone() for p in self.trained]
        self.optimizer = torch.optim.AdamW(self.master, lr=self.schedule.learning_rate, weight_decay=0.0)

    def advance(self, parts: Iterable[Part]) -> None:
        """One step on the float32 copies; the model's own weights follow."""
        figures: Counter[str] = Counter()
        for part in parts:
            if part.loss.requires_grad:
                part.loss.backward()
            figures.update(part.figures)
        for low, high in zip(self.trained, self.master, strict=True):
            high.grad = None if low.grad is None else low.grad.to(high.dtype)
            low.grad = None
        self.workers.add_up([high.grad for high in self.master if high.grad is not None])
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * share_of_rate(self.step, self.schedule)
        torch.nn.utils.clip_grad_norm_(self.master, self.schedule.max_grad_norm)
        self.optimizer.step()
        self._write_back()
        self.losses.append(self.workers.sums({name: float(value) for name, value in figures.items()}))
        self.step += 1

    def _write_back(self) -> None:
        with torch.no_grad():
            for low, high in zip(self.trained, self.master, strict=True):
                low.copy_(high)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, the optimiser's averages and torch's random state; what `restore` takes."""
        found = {"random": torch.get_rng_state()}
        for name, high in zip(self.names, self.master, strict=True):
            found[f"weight/{name}"] = high.detach()
            for key, value in self.optimizer.state.get(high, {}).items():
                found[f"optimizer/{key}/{name}"] = value
        return found

    def restore(self, tensors: Mapping[str, Tensor], step: int, losses: Sequence[Mapping[str, float]]) -> None:
        """Goes on after a step, with the tensors that it left, bit for bit.

        Raises:
            KeyError: tensors are missing.
        """
        self.step, self.losses = step, [dict(each) for each in losses]
        torch.set_rng_state(tensors["random"])
        for name, high in zip(self.names, self.master, strict=True):
            high.data.copy_(tensors[f"weight/{name}"])
            held: dict[str, Any] = self.optimizer.state[high]
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors[f"optimizer/{key}/{name}"]
                held[key] = value.clone() if key == "step" else value.to(high.device, copy=True)
        self._write_back()


def share_of_rate(step: int, schedule: Schedule) -> float:
    """Share of the learning rate: linear warm-up, then linear decay to nothing after the last step."""
    return min(1.0, (step + 1) / max(1, schedule.warmup_steps)) * (1.0 - step / schedule.steps)


def train(
    trainer: Trainer, objective: Objective, progress: Progress, after: Callable[[Trainer], object] | None = None
) -> None:
    """Trains to the last step.

    Args:
        trainer: the weights; it may have done some steps already.
        objective: what is minimised.
        progress: who is told how far it is.
        after: called after every step.
    """
    steps, begun, since = trainer.schedule.steps, trainer.step, time.monotonic()
    progress.stage("training", steps)
    progress.advance(begun)
    every = max(1, steps // REPORTS)
    with training_attention(trainer.model):
        while trainer.step < steps:
            trainer.advance(objective.parts(trainer.step))
            if after is not None:
                after(trainer)
            progress.advance()
            if trainer.step % every == 0 or trainer.step == steps:
                progress.say(_standing(trainer, every, (time.monotonic() - since) / (trainer.step - begun)))


def _standing(trainer: Trainer, window: int, seconds: float) -> str:
    """Where a training stands: the mean figures of the last steps, its speed, and the time left."""
    recent, steps = trainer.losses[-window:], trainer.schedule.steps
    names = dict.fromkeys(name for each in recent for name in each)
    held = {name: [each[name] for each in recent if name in each] for name in names}
    told = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in held.items())
    left = seconds * (steps - trainer.step)
    return f"step {trainer.step} of {steps}: {told}; {seconds:.1f} s a step, {left / 60:.0f} min left"
