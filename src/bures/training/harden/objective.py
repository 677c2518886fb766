"""Objective O1, moving maps.

    L = (1 - p) CE(y_r | x) + p E_T CE(y_r | x; T) + beta mean_t KL(pi_0 || pi_theta)

T is an intervention of the pool, y_r a refusal of the harmful prompt x, pi_0 the original model. The KL runs over the
tokens of the original's own harmless answers, and of running text where some is given; nothing intervenes there. In a
step a share p of the harmful prompts is under drawn T, each under one, and the others are not, so the expectation is
the sum above at the price of one batch. Each prompt counts alike, however long its refusal is; within it the first
tokens, which decide, may weigh more. T is drawn among those that attack best (`bures.training.harden.pool`), which
leans the mean towards the worst case.

T has to be where the loss can see it: it moves prompt and answer tokens by their places in the whole row (a pass alone
could not tell them), and the gradient goes through it into the weights before it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bures.jobs.example_stream import Stream
from bures.jobs.examples import Example, losses
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.run_folder import RunFolder
from bures.training.harden.plan import Plan
from bures.training.harden.pool import Pool, random_state, set_random_state
from bures.training.harden.rows import Rows
from bures.training.loop import Part
from bures.training.workers import Workers


@dataclass(frozen=True)
class Streams:
    """Where the rows of a step come from; all orders are drawn by one generator."""

    harmful: Stream
    ordinary: Stream
    lookalikes: Stream
    text: Stream | None
    rng: random.Random

    @staticmethod
    def of(rows: Rows, plan: Plan) -> Streams:
        """Rows of a step by the plan; half of the harmless ones are look-alikes."""
        rng = random.Random(f"{plan.seed} order")
        half = plan.harmless_rows // 2
        return Streams(
            Stream(rows.harmful, plan.harmful_rows, rng),
            Stream(rows.ordinary, max(1, plan.harmless_rows - half), rng),
            Stream(rows.lookalikes, max(1, half), rng),
            Stream(rows.text, plan.text_rows, rng) if rows.text else None,
            rng,
        )

    def kept(self) -> list[Example]:
        """The rows of a step that are to stay."""
        return [*next(self.ordinary), *next(self.lookalikes), *(next(self.text) if self.text else ())]

    def state(self) -> dict[str, Any]:
        """The place in the data."""
        each = {name: stream.state() for name, stream in self._named()}
        return {**each, "random": random_state(self.rng)}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was."""
        for name, stream in self._named():
            stream.restore(state[name])
        set_random_state(self.rng, state["random"])

    def _named(self) -> list[tuple[str, Stream]]:
        held = {"harmful": self.harmful, "ordinary": self.ordinary, "lookalikes": self.lookalikes, "text": self.text}
        return [(name, stream) for name, stream in held.items() if stream is not None]


@dataclass(frozen=True)
class MovingMaps:
    """The objective on a model.

    Attributes:
        model: the model, with the LoRA attached.
        streams: the rows.
        plan: how many, and what attacks.
        pool: what attacks.
        entry: passes begin at this block where no map stands before it; the rows hold the stream. 0: at the beginning.
        workers: the processes that share the rows of a step.
    """

    model: ChatModel
    streams: Streams
    plan: Plan
    pool: Pool
    entry: int = 0
    workers: Workers = field(default_factory=Workers)

    def parts(self, step: int) -> Iterator[Part]:
        """The parts of the loss of a step."""
        attacks = self.plan.attacks
        if attacks.refits_at(step):
            self.pool.refit(step)
        learned = next(self.streams.harmful)
        kept = self.streams.kept()
        drawn = self._attacked(len(learned), attacks.share_at(step))
        found = [self.pool.draw() for _ in range(min(attacks.draws, len(drawn)))]
        against = [each for each in found if each is not None]
        hit = [row for place, row in enumerate(learned) if against and place in drawn]
        clean = [row for place, row in enumerate(learned) if not against or place not in drawn]
        weigh = _Weights(rows=len(learned), clean=len(clean), hit=len(hit), tokens=sum(len(row.answer) for row in kept))
        for rows, others in self._shared(clean, kept):
            yield self._part(rows, others, weigh, None)
        for number, (name, intervention) in enumerate(against):
            mine = hit[number :: len(against)]
            loss = 0.0
            for rows, _ in self._shared(mine, []):
                part = self._part(rows, [], weigh, intervention)
                loss += part.figures["attacked"] * weigh.hit / len(mine)
                yield part
            self.pool.was_met(name, self.workers.sums({"attacked": loss})["attacked"])

    def _attacked(self, n: int, share: float) -> frozenset[int]:
        """Which of n rows are attacked: share x n of them, rounded up or down so that the mean is right."""
        rng = self.pool.rng
        wanted = share * n
        count = math.floor(wanted) + (rng.random() < wanted - math.floor(wanted))
        return frozenset(rng.sample(range(n), count))

    def _shared(
        self, learned: Sequence[Example], kept: Sequence[Example]
    ) -> Iterator[tuple[list[Example], list[Example]]]:
        """This process's rows, in as many passes as are asked for."""
        learned, kept = self.workers.mine(learned), self.workers.mine(kept)
        n = self.plan.accumulate
        for number in range(n):
            rows, others = learned[number::n], kept[number::n]
            if rows or others:
                yield rows, others

    def _part(
        self, learned: Sequence[Example], kept: Sequence[Example], weigh: _Weights, intervention: Intervention | None
    ) -> Part:
        """The loss of some rows; `intervention` moves all of them."""
        cross_entropy, kl = losses(self.model, learned, kept, intervention, self.entry, self.plan.early_share)
        loss = cross_entropy / weigh.rows + self.plan.kl_weight * kl / max(1, weigh.tokens)
        figures: dict[str, float] = {}
        if learned and intervention is None:
            figures["refusal"] = cross_entropy.item() / weigh.clean
        elif learned:
            figures["attacked"] = cross_entropy.item() / weigh.hit
        if kept:
            figures["KL"] = kl.item() / weigh.tokens
        return Part(loss, figures)

    def keep(self, folder: RunFolder) -> dict[str, Any]:
        """Place in the data and pool; what `restore` takes."""
        return {"streams": self.streams.state(), "pool": self.pool.keep(folder)}

    def restore(self, folder: RunFolder, state: dict[str, Any]) -> None:
        """Goes on with what `keep` left, bit for bit."""
        self.streams.restore(state["streams"])
        self.pool.restore(folder, state["pool"])


@dataclass(frozen=True)
class _Weights:
    """Rows and tokens of a whole step, over all passes and processes."""

    rows: int
    clean: int
    hit: int
    tokens: int
