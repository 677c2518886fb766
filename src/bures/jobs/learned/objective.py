"""A direction that is learned by gradient: an attack for the defence table alone, in no training and in no audit.

    r = argmin  CE(y_a | x; r ablated) + l_1 CE(y_r | x'; r added) + l_2 mean_t KL(pi || pi; r ablated),   |r| = 1

x is a harmful prompt and y_a the beginning of an answer to it, x' a harmless one and y_r the beginning of a refusal.
The KL runs over the tokens of the model's own answers to harmless prompts; its weights are frozen. The ablation stands
at three sites of every block; r is added behind one block, as long as the difference of means is there.

Refusal Direction Optimization (Wollschlaeger et al. 2025, arXiv 2502.17420; l_1 0.2, l_2 1, learning rate 0.01). A
defence that only hides the difference of means from the estimator falls to it. y_a are what the model itself answers
under an intervention, where that is no refusal, and an opener that says nothing where it is; they stay in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import FitError
from bures.jobs.examples import Example, losses
from bures.models.fitting import arditi_sites
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.transport import DiagonalAffine, LowRankAffine


@dataclass(frozen=True)
class Learning:
    """How a direction is learned.

    Attributes:
        steps: of the start that goes on; each of the two is tried for a quarter of them.
        rows: of each kind in a step.
        rate: learning rate of Adam, which falls to a tenth in a straight line.
        adding: weight of the refusals of harmless prompts with the direction added.
        keeping: weight of the KL on harmless answers.
        tokens: of answers and refusals.
        prompts: of each side, at most; a quarter, but no more than a step has rows, is held out and chooses.
        judge: says which of the model's own answers are refusals.
        every: steps after which the held-out rows are looked at.
        system: system prompt.
        seed: of the random start and the order of the rows.
    """

    steps: int = 40
    rows: int = 8
    rate: float = 1e-2
    adding: float = 0.2
    keeping: float = 1.0
    tokens: int = 16
    prompts: int = 64
    judge: str = "bures"
    every: int = 10
    system: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Taught:
    """What a direction is learned on; equally many rows of each kind.

    Attributes:
        answered: harmful prompts with the beginning of an answer.
        refused: harmless prompts with the beginning of a refusal.
        kept: harmless prompts with the model's own answer and its last hidden states.
    """

    answered: Sequence[Example]
    refused: Sequence[Example]
    kept: Sequence[Example]

    def part(self, rows: slice) -> Taught:
        """Some of the rows."""
        return Taught(self.answered[rows], self.refused[rows], self.kept[rows])

    def parted(self, most: int) -> tuple[Taught, Taught]:
        """What is learned on, and the last quarter, `most` at most, which is held out.

        Raises:
            FitError: there are fewer than two rows of a kind.
        """
        n = min(map(len, (self.answered, self.refused, self.kept)))
        if n < 2:
            raise FitError(f"{n} rows to learn a direction on; expected at least 2 prompts of each side")
        n_held = max(1, min(most, n // 4))
        return self.part(slice(0, n - n_held)), self.part(slice(n - n_held, n))


@dataclass(frozen=True)
class Objective:
    """The loss of a direction.

    Attributes:
        model: the model that is attacked.
        block: behind which the direction is added.
        length: how much of it is.
        options: the weights of the parts.
        entry: the first block that is computed where the direction is added; refused rows hold the stream. 0: all are.
    """

    model: ChatModel
    block: int
    length: float
    options: Learning = field(default_factory=Learning)
    entry: int = 0

    def __call__(self, direction: Float[Tensor, " d"], rows: Taught) -> Float[Tensor, ""]:
        """The loss of a unit vector on some rows, with its graph; each row, and each token of the KL, counts alike."""
        ones = torch.ones_like(direction)
        ablation = LowRankAffine(
            "ablation", 0 * ones, direction[:, None], -ones[:1, None], 0 * ones[:1], direction[:, None]
        )
        ablated = Intervention(arditi_sites(ablation, len(self.model.blocks)))
        added = Intervention({self.block: DiagonalAffine("addition", ones, self.length * direction)})
        answering, kl = losses(self.model, rows.answered, rows.kept, ablated)
        refusing, _ = losses(self.model, rows.refused, [], added, self.entry)
        tokens = max(1, sum(len(row.answer) for row in rows.kept))
        return (
            answering / len(rows.answered)
            + self.options.adding * refusing / len(rows.refused)
            + self.options.keeping * kl / tokens
        )

    @torch.no_grad()
    def of(self, direction: Float[Tensor, " d"], rows: Taught) -> float:
        """The same as a number, a few rows at a time."""
        size, n = self.options.rows, len(rows.answered)
        parts = [rows.part(slice(at, at + size)) for at in range(0, n, size)]
        return sum(float(self(direction, part)) * len(part.answered) for part in parts) / n
