"""The layer scan: every method at every block (and rank, and token scope), scored at the first answer token.

bypass   log-odds of a refusal token on harmful prompts, with the map from harmful to harmless
induce   the same on harmless prompts, with the map reversed (fitted from harmless to harmful)
cost     KL from the original model on harmless prompts, with the map from harmful to harmless

Refusal tokens are the first tokens of the model's own refusals. Each prompt's residual stream is computed once; a
candidate at block l costs only the blocks behind it (`bures.models.prompt_stream`); all ranks at a block share one
decomposition.
The two scores follow Arditi et al. (arXiv 2406.11717, section 2.3), who choose their direction by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bures.data.conversations import Prompt
from bures.errors import FitError
from bures.jobs.parting import Parting, parting
from bures.jobs.splits import Sides
from bures.judges.base import Judge, judges_harm, verdicts
from bures.models.fitting import FitData, build
from bures.models.generation import read
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.methods import METHODS, fit_block, fit_reversed
from bures.models.prompt_stream import PromptStream
from bures.results.records import Candidate, Failure, ScanScore, Scope
from bures.transport import TransportMap

DIGITS = 4
"""Decimals of the log-odds of single prompts, as results keep them."""


def find_parting(
    model: ChatModel,
    harmful: Sequence[Prompt],
    harmless: Sequence[Prompt],
    judge: Judge,
    answer: Callable[[Sequence[Prompt], int], Sequence[Sequence[int]]],
    *,
    max_new_tokens: int = 24,
) -> Parting:
    """Where the model's own refusals and answers part, found on the fit split.

    Evasive answers count as answers here: their tokens say nothing of refusing. So do all harmless ones where the judge
    looks for harm. Unfinished answers are left out.
    """
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    for prompts, judged in ((harmful, True), (harmless, not judges_harm(judge))):
        ids = [list(each) for each in answer(prompts, max_new_tokens)]
        found = [read(model, each) for each in ids]
        finished = [each.finished for each in found]
        said = verdicts(judge, prompts, [each.text for each in found], finished) if judged else None
        for i, each in enumerate(ids):
            if finished[i]:
                sides[said is None or said[i] != "refusal"].append(each)
    return parting(*sides)


class Scanner:
    """Both sides of the selection split on their way through the network.

    Attributes:
        harmful: log-odds of every harmful prompt in the original model; empty without refusal tokens.
        harmless: the same of every harmless prompt.
    """

    def __init__(
        self,
        model: ChatModel,
        fit: FitData,
        select: Sides,
        decides: Parting,
        *,
        induce: bool = False,
    ) -> None:
        """Runs the original model once over both sides.

        Args:
            model: the model.
            fit: the fit split.
            select: the selection split.
            decides: the refusal tokens and what stands before them; without any, log-odds are 0 and only the cost
                ranks.
            induce: score the reversed maps too.
        """
        self.model, self.fit, self.tokens, self.begin = model, fit, decides.tokens, decides.begin
        self.induce = induce and bool(self.tokens)
        self._prompts = tuple(select.harmful), tuple(select.harmless)
        self._harmful, self._harmless = map(self._stream, self._prompts)  # these walk from block to block
        self._whole = tuple(map(self._stream, self._prompts))  # these stay before the first
        self.harmful, self.harmless = (self._log_odds(each, Intervention()) for each in self._whole)

    def block(
        self, block: int, *, methods: Sequence[str], ranks: Sequence[int], scopes: Sequence[Scope]
    ) -> Iterator[ScanScore | Failure]:
        """Scores every candidate at one block; blocks come in ascending order.

        A candidate that cannot be fitted, or under which the model's numbers overflow, is a failure.

        Raises:
            ConfigError: a block before the last one.
        """
        self._harmful.advance(block)
        self._harmless.advance(block)
        source, target = self.fit.source[block], self.fit.target[block]
        for method in methods:
            made: dict[int, TransportMap] | FitError
            back: dict[int, TransportMap] = {}
            try:
                made = fit_block(method, source, target, ranks, self.fit.options)
                if self.induce:
                    back = fit_reversed(method, source, target, ranks, self.fit.options)
            except FitError as error:
                made = error
            for candidate in candidates_at(block, [method], ranks, scopes):
                try:
                    if isinstance(made, FitError):
                        raise made
                    yield self._at_block(candidate, made, back)
                except FitError as error:
                    yield Failure(candidate, str(error))

    def _at_block(
        self, candidate: Candidate, there: Mapping[int, TransportMap], back: Mapping[int, TransportMap]
    ) -> ScanScore:
        (block,), rank = candidate.blocks, candidate.rank or 0
        move = Intervention({block: there[rank]}, candidate.tokens, self.fit.strength)
        score = self._score(candidate, move, self._harmful, self._harmless)
        if not self.induce:
            return score
        reverse = Intervention({block: back[rank]}, candidate.tokens, self.fit.strength)
        return replace(score, induced=self._log_odds(self._harmless, reverse))

    def together(self, candidate: Candidate) -> ScanScore:
        """Scores a candidate on any blocks, by whole forward passes.

        Raises:
            FitError: the maps cannot be fitted one after the other, or the model's numbers overflow under them.
        """
        return self.under(candidate, build(self.model, candidate, self.fit))

    def under(self, candidate: Candidate, move: Intervention) -> ScanScore:
        """Scores a fitted intervention, by whole forward passes."""
        return self._score(candidate, move, *self._whole)

    def _score(
        self, candidate: Candidate, move: Intervention, harmful: PromptStream, harmless: PromptStream
    ) -> ScanScore:
        each = self._log_odds(harmful, move)
        kl = harmless.read(move, lambda moved, original: original().kl_each(moved)).mean().clamp(min=0.0)
        return ScanScore(candidate, sum(each) / max(1, len(each)), float(kl), each)

    def relabelled(
        self,
        candidate: Candidate,
        sides: tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]],
        *,
        times: int,
        seed: int,
    ) -> tuple[tuple[float, ...] | None, list[tuple[float, ...]]]:
        """Log-odds of the harmful prompts under a candidate on one block, fitted on true and on shuffled labels.

        Args:
            candidate: what is fitted.
            sides: activations at its block, of harmful and of harmless prompts.
            times: fits on shuffled labels. Draws that cannot be fitted, or under which numbers overflow, are left out.
            seed: of the shuffles.

        Returns:
            With the true labels (None where they cannot be fitted), and with shuffled ones.
        """
        (block,) = candidate.blocks
        rows, n = torch.cat(sides), len(sides[0])
        generator = torch.Generator().manual_seed(seed)
        stream = self._stream(self._prompts[0])
        stream.advance(block)

        def fitted(order: Tensor) -> tuple[float, ...] | None:
            ranks = [] if candidate.rank is None else [candidate.rank]
            source, target = rows[order[:n]], rows[order[n:]]
            try:
                map_ = fit_block(candidate.method, source, target, ranks, self.fit.options)[candidate.rank or 0]
                move = Intervention({block: map_}, candidate.tokens, self.fit.strength)
                return self._log_odds(stream, move)
            except FitError:
                return None

        drawn = [fitted(torch.randperm(len(rows), generator=generator)) for _ in range(times)]
        return fitted(torch.arange(len(rows))), [each for each in drawn if each is not None]

    def _stream(self, prompts: Sequence[Prompt]) -> PromptStream:
        fit = self.fit
        return PromptStream(self.model, prompts, system=fit.system, begin=self.begin, token_budget=fit.token_budget)

    def _log_odds(self, stream: PromptStream, move: Intervention) -> tuple[float, ...]:
        """Of every prompt; nothing without refusal tokens."""
        if not self.tokens:
            return ()
        return tuple(round(float(x), DIGITS) for x in stream.read(move, lambda moved, _: moved.log_odds(self.tokens)))


def candidates_at(block: int, methods: Sequence[str], ranks: Sequence[int], scopes: Sequence[Scope]) -> list[Candidate]:
    """Every candidate at one block: methods without a rank once per scope, the others once per rank and scope."""
    return [
        Candidate(method, (block,), rank, scope)
        for method in methods
        for rank in (ranks if METHODS[method].ranked else (None,))
        for scope in scopes
    ]


def scan_blocks(
    scanner: Scanner,
    *,
    blocks: Iterable[int],
    methods: Sequence[str],
    ranks: Sequence[int],
    scopes: Sequence[Scope],
    known: Mapping[str, ScanScore | Failure],
) -> Iterator[ScanScore | Failure]:
    """Yields the score of every candidate, block after block; blocks whose scores are all `known` are not computed."""
    for block in sorted(blocks):
        keys = [candidate.key for candidate in candidates_at(block, methods, ranks, scopes)]
        if all(key in known for key in keys):
            yield from (known[key] for key in keys)
        else:
            yield from scanner.block(block, methods=methods, ranks=ranks, scopes=scopes)
