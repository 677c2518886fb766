"""The job of `bures scan`: every method at every block, and where refusal is decided, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bures.errors import FitError
from bures.jobs.config import ScanConfig
from bures.jobs.geometry import geometry
from bures.jobs.localisation import (
    block_effects,
    conclude,
    control,
    needs_more_blocks,
    partners,
    probability,
    removed,
    strongest,
)
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import activations_of, begin, blocks_to_scan, collect_fit, find_refusal_tokens, open_model, open_run
from bures.jobs.scanner import Scanner, candidates_at, scan_blocks
from bures.jobs.splits import Splits, load_splits
from bures.models.loading import ChatModel
from bures.models.methods import FitData
from bures.results.records import Candidate, Effect, Localisation, ScanScore
from bures.results.run_folder import RunFolder
from bures.results.schema import RunResult, ScanResult


def scan(config: ScanConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> ScanResult:
    """Runs a scan, or goes on with the one in `out`.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the run folder.
    """
    told = progress or Silent()
    folder, done = open_run(config, ScanResult, out)
    if done is not None:
        return done
    splits = load_splits(config)
    model = open_model(config, told)
    blocks = blocks_to_scan(config, len(model.blocks))
    result = begin(ScanResult, config, model, splits, folder)
    fit = collect_fit(config, model, splits, blocks, told)
    find_refusal_tokens(config, model, splits, result)
    scan_and_locate(config, model, fit, splits, blocks, folder, result, told, induce=True)
    result.finish()
    folder.save(result)
    return result


SHUFFLES = 19
"""Fits on shuffled labels at the strongest block: a permutation test at the 5 % level."""


MIN_FOR_GEOMETRY = 9
"""Fit prompts on each side below which the blocks' geometry is left out."""


def scan_and_locate(
    config: ScanConfig,
    model: ChatModel,
    fit: FitData,
    splits: Splits,
    blocks: Sequence[int],
    folder: RunFolder,
    result: RunResult,
    told: Progress,
    *,
    induce: bool = False,
) -> list[ScanScore]:
    """Scores every candidate on one block; fills `result.scan` and `result.localisation`."""
    harmful, harmless, budget = splits["harmful_select"], splits["harmless_select"], config.token_budget
    scanner = Scanner(model, fit, harmful, harmless, result.refusal_tokens, induce=induce, token_budget=budget)
    scores = scan_all(config, scanner, blocks, folder, result, told)
    if result.localisation is None:
        result.localisation = locate(config, scanner, splits, scores, told)
        folder.save(result)
    return scores


def scan_all(
    config: ScanConfig,
    scanner: Scanner,
    blocks: Sequence[int],
    folder: RunFolder,
    result: RunResult,
    told: Progress,
) -> list[ScanScore]:
    """Scores every candidate; fills `result.scan`, saved after each block."""
    known = {score.candidate.key: score for score in result.scan}
    per_block = len(candidates_at(0, config.methods, config.ranks, config.scopes))
    told.stage("scanning blocks", per_block * len(blocks))
    scores: list[ScanScore] = []
    for score in scan_blocks(
        scanner, blocks=blocks, methods=config.methods, ranks=config.ranks, scopes=config.scopes, known=known
    ):
        scores.append(score)
        told.advance()
        if len(scores) % per_block == 0 and len(scores) > len(result.scan):
            result.scan = list(scores)
            folder.save(result)
    return scores


def locate(
    config: ScanConfig, scanner: Scanner, splits: Splits, scores: Sequence[ScanScore], told: Progress
) -> Localisation | None:
    """Where refusal is decided, from the scan and the geometry; None where the model refuses nothing."""
    if not scanner.tokens:
        return None
    model, fit = scanner.model, scanner.fit
    blocks = sorted({score.candidate.blocks[0] for score in scores})
    held_out = splits["harmful_select"], splits["harmless_select"]
    told.stage("localising", sum(map(len, held_out)) + 2)
    figures = ()
    if min(len(splits["harmful_fit"]), len(splits["harmless_fit"])) >= MIN_FOR_GEOMETRY:
        source, target = ({block: side[block] for block in blocks} for side in (fit.source, fit.target))
        held = [activations_of(config, model, prompts, blocks, told) for prompts in held_out]
        figures = tuple(geometry(source, target, *held))
    told.advance()
    effects = block_effects(scanner.harmful, scores, config.max_kl)
    found = {score.candidate.key: score.candidate for score in scores}
    best = found.get(strongest(effects).candidate or "")
    joint: tuple[Effect, ...] = ()
    if best is not None and needs_more_blocks(effects):
        joint = _joint(scanner, effects, best, blocks)
    shuffled, held = None, control(scanner.harmful, scores, effects, config.max_kl)
    if held is not None:
        drawn = scanner.shuffled(held[0], times=SHUFFLES, seed=config.seed)
        shuffled = max(removed(scanner.harmful, probability(each)).value for each in drawn), SHUFFLES
    told.advance()
    return conclude(
        len(model.blocks),
        scanner.harmful,
        scanner.harmless,
        effects,
        joint,
        None if held is None else held[1],
        shuffled,
        figures,
    )


def _joint(scanner: Scanner, effects: Sequence[Effect], best: Candidate, blocks: Sequence[int]) -> tuple[Effect, ...]:
    """The best map with each of its strongest partners, and on all scanned blocks."""
    found: list[Effect] = []
    for candidate in (*partners(effects, best), Candidate(best.method, tuple(blocks), best.rank, best.tokens)):
        try:
            score = scanner.together(candidate)
        except FitError:  # moved activations that overflow
            continue
        moved = removed(scanner.harmful, probability(score.each))
        found.append(Effect(candidate.blocks, candidate.key, moved, score.first_token_kl))
    return tuple(found)
