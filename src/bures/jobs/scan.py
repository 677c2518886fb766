"""The job of `bures scan`: every method at every block, and where refusal is decided, in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bures.errors import FitError
from bures.jobs.beginning import open_run, start
from bures.jobs.conclusion import HALF, Band, Evidence, conclude
from bures.jobs.geometry import geometry
from bures.jobs.localisation import Scanned, probability, ranges, removed, together
from bures.jobs.progress import Progress, Silent
from bures.jobs.run import Run
from bures.jobs.scan_config import ScanConfig
from bures.jobs.scanner import Scanner, candidates_at, scan_blocks
from bures.models.finite import overflowing
from bures.models.methods import METHODS
from bures.results.inference import SHUFFLES
from bures.results.records import (
    BlockGeometry,
    BlockRange,
    Effect,
    Failure,
    Localisation,
    ScanScore,
    Shuffled,
)
from bures.results.schema import ScanResult

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
    with open_run(config, ScanResult, out) as (folder, done):
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
    scanned = Scanned(scanner.harmful, scores, run.config.max_kl)
    run.progress.stage("localising", len(run.splits.select) + 2)
    figures = _geometry(run, scanned.blocks)
    run.progress.advance()
    peak, (onset, reached) = scanned.peak(), scanned.band()
    blocks = scanned.blocks
    band = Band(BlockRange(blocks[onset.first], blocks[reached.first]), *ranges(blocks, (onset, reached)))
    tried, pair, everywhere = _joint(scanner, scanned, peak)
    control, shuffled = _control(run, scanner, scanned)
    candidate = scanned.control()
    run.progress.advance()
    found = Evidence(
        n_blocks=len(run.model.blocks),
        harmful=scanner.harmful,
        harmless=scanner.harmless,
        effects=scanned.effects(),
        peak=peak,
        band=band,
        one_falls_short=scanned.none_suffices(HALF),
        pair=pair,
        everywhere=everywhere,
        control=control,
        shuffled=shuffled,
        ablates=candidate is not None and METHODS[candidate.method].ablates,
        geometry=figures,
    )
    return conclude(found, tried)


def _geometry(run: Run[Any, Any], blocks: Sequence[int]) -> tuple[BlockGeometry, ...]:
    """How the two sides lie at each block; nothing where there are too few fit prompts."""
    if min(len(prompts) for _, prompts in run.splits.fit.items()) < MIN_FOR_GEOMETRY:
        return ()
    held_out = [{block: rows[block] for block in blocks} for rows in run.held_out.values()]
    run.progress.advance(len(run.splits.select))
    fine = [block for block in blocks if not any(block in overflowing(rows) for rows in held_out)]
    sides = [{block: rows[block] for block in fine} for rows in (run.fit.source, run.fit.target, *held_out)]
    return tuple(geometry(*sides)) if fine else ()


def _control(run: Run[Any, Any], scanner: Scanner, scanned: Scanned) -> tuple[Effect | None, Shuffled | None]:
    """The strongest map, fitted anew on the control prompts: with their true labels, and with shuffled ones."""
    candidate = scanned.control()
    if candidate is None or run.splits.control is None:
        return None, None
    sides = run.splits.control.items()
    rows = [run.gather(prompts, candidate.blocks)[candidate.blocks[0]] for _, prompts in sides]
    true, drawn = scanner.relabelled(candidate, (rows[0], rows[1]), times=SHUFFLES, seed=run.config.seed)
    if true is None or not drawn:
        return None, None
    effects = [removed(scanner.harmful, probability(each)).value for each in drawn]
    effect = Effect(candidate.blocks, candidate.key, removed(scanner.harmful, probability(true)), None)
    return effect, Shuffled(max(effects), len(effects))


def _joint(scanner: Scanner, scanned: Scanned, peak: Effect) -> tuple[tuple[Effect, ...], Effect | None, Effect | None]:
    """What maps do at several blocks, where one is not shown to suffice: each, the strongest pair, and on all."""
    if peak.candidate is None or peak.removed.bounds[0] >= HALF:
        return (), None, None
    proposed = scanned.proposed_pairs(), scanned.proposed_everywhere()
    scores: dict[str, ScanScore] = {}
    for candidate in dict.fromkeys(c for kind in proposed for half in kind for c in half):
        try:
            scores[candidate.key] = scanner.together(candidate)
        except FitError:  # moved activations that overflow
            continue
    tried = tuple(_effect(scanner.harmful, score) for score in scores.values())
    pair, everywhere = (together(scanner.harmful, [*scores.values()], kind, scanned.max_kl) for kind in proposed)
    return tried, pair, everywhere


def _effect(original: Sequence[float], score: ScanScore) -> Effect:
    candidate = score.candidate
    return Effect(candidate.blocks, candidate.key, removed(original, probability(score.each)), score.first_token_kl)
