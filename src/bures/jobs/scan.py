"""The job of `bures scan`: every method at every block, and where refusal is decided, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bures.errors import FitError
from bures.jobs.beginning import open_run, start
from bures.jobs.geometry import geometry
from bures.jobs.localisation import (
    Evidence,
    block_effects,
    conclude,
    control,
    largest,
    needs_more_blocks,
    partners,
    probability,
    removed,
)
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import Run
from bures.jobs.scan_config import ScanConfig
from bures.jobs.scanner import Scanner, candidates_at, scan_blocks
from bures.models.finite import overflowing
from bures.results.records import BlockGeometry, Candidate, Effect, Failure, Localisation, ScanScore, Shuffled
from bures.results.schema import ScanResult

SHUFFLES = 19
"""Fits on shuffled labels at the strongest block: a permutation test at the 5 % level."""

MIN_FOR_GEOMETRY = 9
"""Fit prompts on each side below which the blocks' geometry is left out."""


def scan(config: ScanConfig, out: str | Path | None = None, *, progress: Progress | None = None) -> ScanResult:
    """Runs a scan, or goes on with the one in `out`.

    Args:
        config: the options.
        out: the run folder; default `runs/<model>-<hash of the options>`.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the run folder.
    """
    folder, done = open_run(config, ScanResult, out)
    if done is not None:
        return done
    run = start(config, ScanResult, folder, progress or Silent())
    scan_and_locate(run, induce=True)
    return run.finish()


def scan_and_locate(run: Run[Any, Any], *, induce: bool = False) -> list[ScanScore]:
    """Scores every candidate on one block; fills `result.scan` and `result.localisation`.

    Args:
        run: the run.
        induce: whether the maps are scored the other way round too.
    """
    _ = run.fit  # collected first: the refusal tokens' answers take longer, and activations may be bad
    decides = run.find_parting()
    scanner = Scanner(run.unthinking, run.fit, run.splits.select, decides, induce=induce)
    scores = scan_all(run, scanner)
    if run.result.localisation is None:
        run.result.localisation = locate(run, scanner, scores)
        run.save()
    return scores


def scan_all(run: Run[Any, Any], scanner: Scanner) -> list[ScanScore]:
    """Scores every candidate; fills `result.scan`, saved after each block."""
    config, result = run.config, run.result
    known = {each.candidate.key: each for each in (*result.scan, *result.failures)}
    per_block = len(candidates_at(0, config.methods, config.ranks, config.scopes))
    run.progress.stage("scanning blocks", per_block * len(run.scanned))
    scores: list[ScanScore] = []
    failures: list[Failure] = []
    for found in scan_blocks(
        scanner, blocks=run.scanned, methods=config.methods, ranks=config.ranks, scopes=config.scopes, known=known
    ):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            scores.append(found)
        run.progress.advance()
        done = len(scores) + len(failures)
        if done % per_block == 0 and done > len(result.scan) + len(result.failures):
            result.scan, result.failures = list(scores), list(failures)
            run.save()
    if failures:
        first = failures[0]
        run.note(
            f"{len(failures)} of {len(failures) + len(scores)} candidates could not be scored, the first of them "
            f"{first.candidate.key}: {first.error}."
        )
    return scores


def locate(run: Run[Any, Any], scanner: Scanner, scores: Sequence[ScanScore]) -> Localisation | None:
    """Where refusal is decided, from the scan and the geometry; None where the model refuses nothing."""
    if not scanner.tokens or not scores:
        return None
    config = run.config
    blocks = sorted({score.candidate.blocks[0] for score in scores})
    run.progress.stage("localising", len(run.splits.select) + 2)
    figures = _geometry(run, blocks)
    run.progress.advance()
    effects = block_effects(scanner.harmful, scores, config.max_kl)
    found = {score.candidate.key: score.candidate for score in scores}
    best = found.get(largest(effects).candidate or "")
    joint: tuple[Effect, ...] = ()
    if best is not None and needs_more_blocks(effects):
        joint = _joint(scanner, effects, best, blocks)
    shuffled, held = None, control(scanner.harmful, scores, effects, config.max_kl)
    if held is not None:
        drawn = scanner.shuffled(held[0], times=SHUFFLES, seed=config.seed)
        effects_drawn = [removed(scanner.harmful, probability(each)).value for each in drawn]
        shuffled = Shuffled(max(effects_drawn), len(drawn)) if drawn else None
    run.progress.advance()
    tested = None if held is None else held[1]
    n_blocks = len(run.model.blocks)
    return conclude(Evidence(n_blocks, scanner.harmful, scanner.harmless, effects, joint, tested, shuffled, figures))


def _geometry(run: Run[Any, Any], blocks: Sequence[int]) -> tuple[BlockGeometry, ...]:
    """How the two sides lie at each block; nothing where there are too few fit prompts."""
    if min(len(prompts) for _, prompts in run.splits.fit.items()) < MIN_FOR_GEOMETRY:
        return ()
    held_out = [run.gather(prompts, blocks, run.progress.advance) for _, prompts in run.splits.select.items()]
    fine = [block for block in blocks if not any(block in overflowing(rows) for rows in held_out)]
    sides = [{block: rows[block] for block in fine} for rows in (run.fit.source, run.fit.target, *held_out)]
    return tuple(geometry(*sides)) if fine else ()


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
