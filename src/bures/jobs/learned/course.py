"""The course of the learning: which difference of means to begin with, two starts, the better of which goes on."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import FitError
from bures.jobs.example_stream import Stream
from bures.jobs.examples import training_attention, with_original
from bures.jobs.learned.objective import Learning, Objective, Taught
from bures.jobs.learned.rows import answers_under, in_order, own_rows
from bures.jobs.progress import Progress, Silent
from bures.models.activations import gather
from bures.models.finite import overflowing
from bures.models.fitting import arditi_sites
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.transport import ablate_direction

STAGE = "learning a direction"


@dataclass(frozen=True, eq=False)
class Learned:
    """A direction, and what was reached with it.

    Attributes:
        direction: unit vector.
        started: from what: `means` or `random`.
        block: where the difference of means was taken, and behind which the direction is added.
        loss: on the held-out rows.
        at_means: the same of the difference of means, before anything was learned.
        n_blocks: of the model.
    """

    direction: Float[Tensor, " d"]
    started: str
    block: int
    loss: float
    at_means: float
    n_blocks: int

    @property
    def intervention(self) -> Intervention:
        """The model without it: its ablation at three sites of every block, at every token."""
        return Intervention(arditi_sites(ablate_direction(self.direction), self.n_blocks))


def learned_direction(
    model: ChatModel,
    harmful: Sequence[PromptLike],
    harmless: Sequence[PromptLike],
    *,
    strongest: Intervention | None = None,
    options: Learning | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Learns a direction whose ablation makes a model answer.

    On a CPU the same arguments give the same direction, bit for bit.

    Args:
        model: the model that is attacked; its weights stay as they are.
        harmful: prompts to fit on.
        harmless: the same of the other side.
        strongest: the intervention under which it answers most; what it then says is what is learned. None: the
            ablation of the best difference of means.
        options: how it is learned.
        progress: who is told how far it is.

    Raises:
        FitError: the model refuses none of the harmful prompts or all of the harmless ones, its activations overflow,
            or there are too few prompts.
        ConfigError: it is not known where the model's blocks write, or there is no such judge.
    """
    how = options or Learning()
    harmful, harmless = list(harmful)[: how.prompts], list(harmless)[: how.prompts]
    with frozen(model), training_attention(model):
        rows = own_rows(model, harmful, harmless, how)
        objective, means = _start(model, harmful, harmless, rows.parted(how.rows)[1], how)
        by = strongest or Intervention(arditi_sites(ablate_direction(means), len(model.blocks)))
        rows = replace(rows, answered=answers_under(model, harmful, by, how))
        return learn(objective, rows, means, progress or Silent())


def learn(objective: Objective, rows: Taught, means: Float[Tensor, " d"], told: Progress) -> Learned:
    """Learns from two starts, the difference of means and a random one, and goes on with what is better.

    Args:
        objective: the loss.
        rows: what to learn on.
        means: the difference of means, a unit vector.
        told: who is told how far it is.
    """
    model, how = objective.model, objective.options
    begun = with_original(model, rows.refused, first_block=objective.block, rows=how.rows, teach=False)
    objective, rows = replace(objective, entry=objective.block), replace(rows, refused=in_order(rows.refused, begun))
    fit, held = rows.parted(how.rows)
    noise = torch.randn(len(means), generator=torch.Generator().manual_seed(how.seed))
    starts = {"means": means.float().to(model.device), "random": (noise / noise.norm()).to(model.device)}
    tried = max(1, how.steps // 4)
    told.stage(STAGE, how.steps + tried)
    courses = {name: _Course(objective, fit, held, start) for name, start in starts.items()}
    at_means = courses["means"].loss
    for course in courses.values():
        course.go(tried, told)
    name = min(courses, key=lambda each: courses[each].loss)
    courses[name].go(how.steps - tried, told)
    best = courses[name]
    return Learned(best.best.double().cpu(), name, objective.block, best.loss, at_means, len(model.blocks))


class _Course:
    """One start, and where it has come to.

    Attributes:
        best: the direction that was best on the held-out rows.
        loss: its loss there.
    """

    def __init__(self, objective: Objective, fit: Taught, held: Taught, start: Float[Tensor, " d"]) -> None:
        how = objective.options
        self.objective, self.held = objective, held
        self.at = start.clone().requires_grad_(True)
        self.adam = torch.optim.Adam([self.at], lr=how.rate)
        rng = random.Random(f"{how.seed} learned")
        self.streams = [Stream(kind, how.rows, rng) for kind in (fit.answered, fit.refused, fit.kept)]
        self.step = 0
        self.best, self.loss = start.clone(), objective.of(start, held)

    def go(self, steps: int, told: Progress) -> None:
        """Some steps more; what is held out is looked at every few of them, and behind the last."""
        how = self.objective.options
        for number in range(1, steps + 1):
            for group in self.adam.param_groups:
                group["lr"] = how.rate * (1.0 - 0.9 * self.step / how.steps)
            self.adam.zero_grad()
            loss = self.objective(self.at / self.at.norm(), Taught(*map(next, self.streams)))
            loss.backward()
            self.adam.step()
            with torch.no_grad():
                self.at /= self.at.norm()
            self.step += 1
            if number == steps or self.step % how.every == 0:
                self._look()
            told.advance()

    def _look(self) -> None:
        now = self.at.detach().clone()
        loss = self.objective.of(now, self.held)
        if loss < self.loss:
            self.best, self.loss = now, loss


def _start(
    model: ChatModel, harmful: Sequence[PromptLike], harmless: Sequence[PromptLike], held: Taught, how: Learning
) -> tuple[Objective, Float[Tensor, " d"]]:
    """Of the differences of means at some blocks that with the lowest loss, and the loss for its block."""
    n = len(model.blocks)
    blocks = sorted({round(share * (n - 1)) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)})
    sides = [gather(model, side, blocks=blocks, system=how.system) for side in (harmful, harmless)]
    bad = set(overflowing(sides[0])) | set(overflowing(sides[1]))
    found: list[tuple[float, int, Tensor, float]] = []
    for block in (each for each in blocks if each not in bad):
        gap = sides[0][block].double().mean(dim=0) - sides[1][block].double().mean(dim=0)
        length = float(gap.norm())
        if length > 0:
            unit = (gap / length).float().to(model.device)
            found.append((Objective(model, block, length, how).of(unit, held), block, unit, length))
    if not found:
        raise FitError(f"no difference of means at blocks {', '.join(map(str, blocks))} to begin with")
    _, block, unit, length = min(found, key=lambda each: each[:2])
    return Objective(model, block, length, how), unit


@contextmanager
def frozen(model: ChatModel) -> Generator[None]:
    """Inside, no weight asks for a gradient."""
    asking = [parameter for parameter in model.hf.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
