"""What the model itself answers to harmful prompts under an intervention: beginnings behind which it learns to refuse.

A map at the last prompt token decides the first words of an answer and nothing else, so a model that only ever refuses
at once is lost with them. Rows that begin with the first few tokens of its own attacked answer teach it to turn back
there, on what it really says. The answers are made before the training, greedily, under ablations at three sites of
every block; they are held in memory and written nowhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bures.errors import FitError
from bures.jobs.progress import Progress
from bures.judges.by_name import JUDGES
from bures.models.fitting import build
from bures.models.generation import decode, generate_ids
from bures.models.loading import ChatModel
from bures.results.records import Candidate
from bures.training.harden.plan import Plan
from bures.training.harden.pool import collected
from bures.training.organism.data import HarmfulPrompt

LONGEST = 12
"""Most tokens of a beginning."""

DEPTHS = (0.5, 0.6, 0.7)
"""Where the directions are fitted, each for a third of the prompts."""

JUDGE = "arditi"
"""Says which of the attacked answers are refusals all the same; nothing begins with those."""


@dataclass(frozen=True)
class Own:
    """The beginnings of a model's own answers.

    Attributes:
        answers: token ids, one for each harmful prompt; empty where it refused.
        share: of the rows that begin so, of those that have a beginning.
    """

    answers: Sequence[Sequence[int]]
    share: float

    def beginning(self, number: int, rng: random.Random) -> tuple[int, ...]:
        """The first 1 to 12 tokens of an answer, with the probability `share`; else nothing."""
        answer = self.answers[number]
        if not answer or rng.random() >= self.share:
            return ()
        return tuple(answer[: rng.randint(1, len(answer))])


def own_answers(
    model: ChatModel,
    prompts: Sequence[HarmfulPrompt],
    harmless: Sequence[str],
    plan: Plan,
    share: float,
    progress: Progress,
) -> Own | None:
    """How the model answers its harmful training prompts once its refusal is ablated; None: no row begins so.

    There are none either where it is not known what the blocks add, so that nothing can be ablated there.

    Args:
        model: the model before its training.
        prompts: the harmful training prompts, in the order of the rows.
        harmless: training prompts of the other side, to fit on.
        plan: on how many prompts is fitted, and the seed.
        share: of the rows that begin so, of those that have a beginning.
        progress: who is told how far it is, and where no ablation makes the model answer.
    """
    if not share or model.parts.unverified:
        return None
    texts, rng = [each.text for each in prompts], random.Random(f"{plan.seed} own answers")
    blocks = sorted({min(len(model.blocks) - 1, int(depth * len(model.blocks))) for depth in DEPTHS})
    sides = [rng.sample(side, min(plan.attacks.n_fit, len(side))) for side in (texts, list(harmless))]
    fit = collected(model, *sides, blocks=blocks)
    progress.stage("own answers under attack", len(texts))
    answers: list[list[int]] = [[] for _ in texts]
    for offset, block in enumerate(blocks):
        places = range(offset, len(texts), len(blocks))
        try:
            attack = build(model, Candidate("rfa", (block,), None, "all", sites=True), fit)
        except FitError:
            continue
        asked = [texts[place] for place in places]
        with attack.applied(model):
            found = generate_ids(model, asked, max_new_tokens=LONGEST, advance=progress.advance)
        for place, prompt, ids, said in zip(places, asked, found, decode(model, found), strict=True):
            answers[place] = [] if JUDGES[JUDGE].is_refusal(prompt, said) else ids
    if not any(answers):
        progress.say("no ablation makes the model answer a harmful training prompt: no refusal begins behind its own")
        return None
    return Own(answers, share)
