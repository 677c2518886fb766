"""The passes that an audit or a scan will make, counted before a model is loaded.

What is tried is planned by the code that plans it in the job (`candidates_at`, `finalists`, `pairs`, `on_all_blocks`,
`pools`, `contenders`), on scores that are drawn: which blocks are chosen decides how much of the network a pass
computes, so it is the mean of `DRAWS` such audits. Batches are those of `bures.models.batching`, over the lengths of
the job's own prompts. Foreseen are answers that use up their tokens, and harmless answers that an intervention changes
half way; that one block suffices; and passes that begin where `bures.models` lets them in models whose caches grow.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bures.jobs.config import AuditConfig
from bures.jobs.run import ASKED, blocks_to_scan
from bures.jobs.scan_config import ScanConfig
from bures.jobs.scanner import candidates_at
from bures.jobs.selection import finalists, having, on_all_blocks, pairs, pools
from bures.jobs.trying_again import contenders
from bures.models.along import CACHED, STREAMS, blocks_held
from bures.models.batching import LOGIT_BUDGET
from bures.models.costing import Pass, token_passes
from bures.models.foreseen_prompts import Prompts
from bures.models.memory import Shape
from bures.models.methods import METHODS
from bures.results.inference import SHUFFLES
from bures.results.records import Candidate, ScanScore, Trial
from bures.results.stats import Measurement

DRAWS = 8
"""Audits of drawn scores, of which the mean is foreseen."""

PARTED = 24
"""Tokens of the answers in which refusal tokens are looked for."""

WINDOW = 256
"""Tokens of a window of plain text, without the one that may stand in front."""


@dataclass(frozen=True)
class Foreseen:
    """What a job will do.

    Attributes:
        stages: name -> its passes.
        candidates: scored by the scan.
        trials: interventions that answer the selection prompts (mean of the draws).
        rows: of the table.
        spread: token passes of the least and of the most of the draws.
    """

    stages: dict[str, list[Pass]]
    candidates: int
    trials: float = 0.0
    rows: int = 0
    spread: tuple[float, float] = (0.0, 0.0)

    @property
    def passes(self) -> list[Pass]:
        """All of them."""
        return [each for stage in self.stages.values() for each in stage]


@dataclass(frozen=True)
class Forecast:
    """Counts the passes of one job.

    Attributes:
        config: its options.
        shape: of the model.
        sets: its prompts, under the names of `bures.jobs.splits.Splits.sets`.
    """

    config: ScanConfig
    shape: Shape
    sets: dict[str, Prompts]

    def job(self) -> Foreseen:
        """All stages."""
        config, scanned = self.config, blocks_to_scan(self.config, self.shape.blocks)
        upto = self.shape.blocks if config.maps_everywhere else max(scanned) + 1
        fit = [self.sets["harmful_fit"], self.sets["harmless_fit"]]
        asked = [each.first(ASKED) for each in fit]
        candidates = [c for b in scanned for c in candidates_at(b, config.methods, config.ranks, config.scopes)]
        stages = {
            "activations": [p for each in fit for p in (*each.begun(), *each.read(upto / self.shape.blocks, 0))],
            "refusal tokens": [p for each in asked for p in each.generated(PARTED)],
            "scan": self._scan(scanned, candidates),
        }
        draws = [self._draw(scanned, candidates, random.Random(seed)) for seed in range(DRAWS)]
        for name in draws[0].stages:
            found = [p for draw in draws for p in draw.stages[name]]
            stages[name] = [replace(each, times=each.times / DRAWS) for each in found]
        if isinstance(config, AuditConfig):
            stages["trials"] += self._asking(config)
        sizes = [token_passes(draw.passes) for draw in draws]
        whole, mean = token_passes(p for each in stages.values() for p in each), sum(sizes) / DRAWS
        spread = whole + min(sizes) - mean, whole + max(sizes) - mean
        return Foreseen(stages, len(candidates), sum(draw.trials for draw in draws) / DRAWS, draws[0].rows, spread)

    def _behind(self, block: int) -> float:
        """The share of the blocks behind one."""
        return (self.shape.blocks - 1 - block) / self.shape.blocks

    # The scan ---------------------------------------------------------------------------------------------------------

    def _scan(self, scanned: Sequence[int], candidates: Sequence[Candidate]) -> list[Pass]:
        """Both sides to every block, and every candidate's passes behind its own."""
        sides, last = [self.sets["harmful_select"], self.sets["harmless_select"]], max(scanned)
        found: list[Pass] = []
        for side in sides:
            walk = (last + 1) / self.shape.blocks
            found += [*side.begun(2.0 + walk), *side.read(), *side.read(walk, 0)]  # two streams, one walks
        tried = sides[0].read()[-1:]  # the last batch is held against a whole pass at every block
        found += [*tried, *(replace(p, depth=self._behind(b)) for b in scanned for p in tried)]
        found += sides[1].read(self._behind(scanned[0]))
        if "last" in {c.tokens for c in candidates}:
            found += [p for side in sides for p in side.read(1.0, 0)]
        for candidate in candidates:
            depth = self._behind(candidate.blocks[0])
            for side in [*sides, *([] if isinstance(self.config, AuditConfig) else sides[1:])]:
                found += self._first_token(side, candidate.tokens, depth)
        return found

    def _first_token(self, side: Prompts, tokens: str, depth: float) -> list[Pass]:
        if tokens == "last":
            return side.ends(1, depth)
        return [*(side.begun(depth) if tokens in ("all", "prompt") else []), *side.read(depth)]

    def _locating(self, scanned: Sequence[int], strongest: Candidate) -> list[Pass]:
        """The geometry of the selection split, and the strongest map fitted anew."""
        select = [self.sets["harmful_select"], self.sets["harmless_select"]]
        upto, block = (max(scanned) + 1) / self.shape.blocks, strongest.blocks[0]
        found = [p for each in select for p in (*each.begun(), *each.read(upto, 0))]
        control = [self.sets[name] for name in ("harmful_control", "harmless_control") if name in self.sets]
        if not control:
            return found
        here = (block + 1) / self.shape.blocks
        found += [p for each in control for p in (*each.begun(), *each.read(here, 0))]
        found += [*select[0].begun(1.0 + here), *select[0].read(here, 0)]
        once = self._first_token(select[0], strongest.tokens, self._behind(block))
        return [*found, *(replace(each, times=SHUFFLES + 1) for each in once)]

    # The choice and the rows ------------------------------------------------------------------------------------------

    def _asking(self, config: AuditConfig) -> list[Pass]:
        """The original's own harmless answers and what they cost it; its passes along the harmful prompts."""
        harmful, harmless, tokens = self.sets["harmful_select"], self.sets["harmless_select"], config.select_tokens
        costs = harmless.answered(tokens).read(1.0, 2 * (tokens + 1), max_rows=self._rows(tokens + 1))
        first = [*harmful.begun(2.0), *harmful.read(extra=tokens)]
        late = harmful.generated(config.max_new_tokens) if config.max_new_tokens > tokens else []
        return [*late, *harmless.generated(tokens), *harmless.begun(2.0), *costs, *first]

    def _draw(self, scanned: Sequence[int], candidates: Sequence[Candidate], draw: random.Random) -> Foreseen:
        """A job whose scores are drawn, what removes more refusal costing more as a rule."""
        config, n = self.config, self.shape.blocks
        odds = [draw.gauss(0.0, 1.0) for _ in candidates]
        scores = [ScanScore(c, x, draw.expovariate(1.0) - x) for c, x in zip(candidates, odds, strict=True)]
        located = self._locating(scanned, min(scores, key=lambda s: s.refusal_log_odds).candidate)
        if not isinstance(config, AuditConfig):
            return Foreseen({"where it is decided": located}, len(candidates))
        tried: dict[str, Trial] = {}

        def attempt(those: Iterable[Candidate]) -> None:
            for c in those:
                share = draw.random()
                kl = Measurement(draw.random(), 1)
                tried.setdefault(c.key, Trial(c, Measurement(share, 1), 1.0, kl, refused="0" * config.n_select))

        attempt(finalists(scores))
        budget, methods = config.max_perplexity_ratio, config.methods
        attempt([c for m in having("two", methods) for c in pairs(scores, [*tried.values()], budget, m)])
        if config.all_blocks:
            attempt(on_all_blocks(methods, config.scopes, [*tried.values()], n))
        trials = [*tried.values()]
        table = [contenders(pool, budget) for _, _, pool in pools(config, trials, n)]
        again = dict.fromkeys(t.candidate for among in table if len(among) > 1 for t in among)
        further = self.sets.get("harmful_again")
        stages = {
            "where it is decided": located,
            "trials": [p for t in trials for p in (*self._fit(t.candidate), *self._trial(t.candidate, config))],
            "the best again": [
                p
                for c in (again if further is not None else ())
                for p in (*self._fit(c), *(further.generated(config.select_tokens) if further is not None else ()))
            ],
            "rows": [*self._row(None, config), *(p for best in table for p in self._row(best[0].candidate, config))],
        }
        return Foreseen(stages, len(candidates), float(len(trials)), len(table) + 1)

    def _fit(self, candidate: Candidate) -> list[Pass]:
        """Passes of a fit on several blocks, one after the other."""
        if len(candidate.blocks) < 2 or not METHODS[candidate.method].sequential:
            return []
        prompts, depth = self.sets["harmful_fit"], (max(candidate.blocks) + 1) / self.shape.blocks
        if candidate.tokens == "last" and self._are_cached(prompts):
            return prompts.ends(1, depth, 0)
        return [*prompts.begun(depth), *prompts.read(depth, 0)]

    def _entered(self, candidate: Candidate, prompts: Prompts) -> float:
        """The share of the blocks behind the last one whose stream is held before the first map."""
        first = -1 if candidate.sites else min(candidate.blocks)
        held = blocks_held(self.shape.blocks, prompts.tokens * self.shape.width * self.shape.itemsize, STREAMS)
        return self._behind(max((block for block in held if block <= first), default=-1))

    def _are_cached(self, prompts: Prompts) -> bool:
        return prompts.tokens * self.shape.cached * self.shape.itemsize <= CACHED

    def _rows(self, logits: int) -> int:
        return max(1, LOGIT_BUDGET // (self.shape.vocabulary * logits))

    def _answers(self, candidate: Candidate, prompts: Prompts, tokens: int) -> list[Pass]:
        """Answers to harmful prompts of which the original's pass is held."""
        depth = self._entered(candidate, prompts)
        going_on = prompts.going_on(tokens - 1, tokens)
        if candidate.tokens == "last" and self._are_cached(prompts):
            return [*prompts.ends(1, depth, extra=tokens), *going_on]
        return [*prompts.begun(depth), *prompts.read(depth, extra=tokens), *going_on]

    def _costs(self, candidate: Candidate, prompts: Prompts, tokens: int, *, grow: bool) -> list[Pass]:
        """What an intervention costs along answers; with `grow`, what is answered under it too, from half way on."""
        whole, most = prompts.answered(tokens), self._rows(tokens + 1)
        is_cached = self._are_cached(whole)
        depth = 1.0 if grow and not is_cached else self._entered(candidate, whole)
        logits = 2 * (tokens + 1)
        if candidate.tokens == "last" and is_cached:
            found = whole.ends(tokens + 1, depth, logits, max_rows=most)
        else:
            found = [*prompts.begun(depth), *whole.read(depth, logits, max_rows=most)]
        return [*found, *(prompts.going_on(tokens // 2, tokens) if grow else [])]

    def _trial(self, candidate: Candidate, config: AuditConfig) -> list[Pass]:
        tokens = config.select_tokens
        answers = self._answers(candidate, self.sets["harmful_select"], tokens)
        return [*answers, *self._costs(candidate, self.sets["harmless_select"], tokens, grow=False)]

    def _row(self, candidate: Candidate | None, config: AuditConfig) -> list[Pass]:
        """A row of the table; None: the model as it is."""
        harmful, harmless, tokens = self.sets["harmful_test"], self.sets["harmless_test"], config.max_new_tokens
        corpus = self._corpus(config)
        if candidate is None:
            own = [*harmless.generated(tokens), *harmful.generated(tokens), *harmless.begun(2.0)]
            along = harmless.answered(tokens).read(1.0, 2 * (tokens + 1), max_rows=self._rows(tokens + 1))
            return [*own, *along, *corpus.read(1.0, WINDOW + 1, max_rows=self._rows(WINDOW + 1))]
        found = self._answers(candidate, harmful, tokens)
        found += self._costs(candidate, harmless, tokens, grow=True)
        if candidate.tokens in ("all", "prompt"):
            depth = self._entered(candidate, corpus)
            found += corpus.read(depth, WINDOW + 1, max_rows=self._rows(WINDOW + 1))
        return found

    def _corpus(self, config: AuditConfig) -> Prompts:
        n = 0 if config.corpus is None else config.corpus_tokens // WINDOW
        return Prompts([[0] * (WINDOW + 1)] * n, 0, config.token_budget)
