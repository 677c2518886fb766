"""Made-up records of a scan and of what maps do, for `helpers.made_results`."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from bures.results.records import (
    BlockGeometry,
    Candidate,
    Effect,
    Gaussian,
    Localisation,
    MethodNote,
    ScanScore,
    Scope,
    Shuffled,
    View,
)
from bures.results.stats import Measurement

NOTES = {
    "pca-ot": MethodNote("PCA-OT", True, False, 0),
    "rfa": MethodNote("RFA", False, True, 1),
    "act": MethodNote("Linear-AcT", False, True, 2),
    "mean-act": MethodNote("Mean-AcT", False, True, 3),
    "rfa-mean": MethodNote("RFA + harmless mean", False, True, 4),
}
METHODS = {name: NOTES[name].label for name in ("rfa", "rfa-mean", "act", "mean-act", "pca-ot")}
RANKS = (1, 2, 4, 8, 16)

Text = Callable[[str], str]


def measured(value: float, n: int = 32, width: float = 0.1) -> Measurement:
    """A value with an interval around it."""
    return Measurement(value, n, (value - width, value + width))


def view(random: Random, key: str, block: int) -> View:
    """What a map does in the plane."""
    centres = {"harmful": (3.0, 0.0), "harmless": (-2.0, 1.0), "moved": (-2.0, 1.0)}
    return View(
        key,
        block,
        (0.31, 0.12),
        {name: Gaussian(centre, (1.0, 0.3, 2.0)) for name, centre in centres.items()},
        {
            name: tuple((x + random.gauss(0, 1), y + random.gauss(0, 1.4)) for _ in range(32))
            for name, (x, y) in centres.items()
        },
    )


def scores(random: Random, n_blocks: int) -> list[ScanScore]:
    """Of every method at every block."""
    kinds = [(method, rank) for method in METHODS for rank in (RANKS if method == "pca-ot" else (None,))]
    scopes: tuple[Scope, ...] = ("all", "last")
    return [
        ScanScore(
            Candidate(method, (block,), rank, scope),
            4 - 8 * _bump(block, n_blocks) + random.gauss(0, 0.5),
            random.lognormvariate(-3, 1),
            tuple(round(random.gauss(0, 2), 4) for _ in range(32)),
        )
        for method, rank in kinds
        for block in range(n_blocks)
        for scope in scopes
    ]


def _bump(block: int, n_blocks: int) -> float:
    """How much a block matters: most at half the depth."""
    return math.exp(-(((block + 1) / n_blocks - 0.5) ** 2) / 0.02)


def localisation(random: Random, n_blocks: int, text: Text) -> Localisation:
    """Refusal decided a little before half the depth."""
    effects = tuple(
        Effect(
            (block,),
            text(f"pca-ot-k2-b{block}-all"),
            measured(0.85 * _bump(block, n_blocks), 32, 0.08),
            random.uniform(0.01, 0.4),
            measured(0.3 * _bump(block, n_blocks), 32, 0.05),
        )
        for block in range(n_blocks)
    )
    half = n_blocks // 2
    return Localisation(
        n_blocks=n_blocks,
        refusal=measured(0.9, 32, 0.05),
        refusal_harmless=measured(0.02, 32, 0.01),
        effects=effects,
        joint=(Effect((half, half + 1), text("pca-ot-k2-pair"), measured(0.95, 32, 0.03), 0.2),),
        shuffled=Shuffled(0.12, 19),
        geometry=tuple(_geometry(random, block, n_blocks) for block in range(n_blocks)),
        extent="one block",
        first=max(0, half - 3),
        last=half,
        sentence=text(f"Refusal is decided at blocks {max(0, half - 3)}-{half} of {n_blocks}."),
    )


def _geometry(random: Random, block: int, n_blocks: int) -> BlockGeometry:
    told = min(0.99, 0.6 + 0.4 * block / n_blocks)
    return BlockGeometry(
        block=block,
        components=8,
        distance=random.uniform(0.5, 1.5),
        mean_share=random.uniform(0.2, 0.6),
        distance_whitened=random.uniform(2, 5),
        mean_share_whitened=random.uniform(0.6, 0.9),
        fisher=tuple(random.uniform(0, 8) for _ in range(8)),
        effective_rank=random.uniform(10, 40),
        auroc=Measurement(told, 64, (told - 0.05, min(1.0, told + 0.05))),
        gaussian_share=random.uniform(0.5, 1),
        angle_previous=None if block == 0 else random.uniform(20, 60),
        angle_rfa=random.uniform(2, 20),
        angle_act=random.uniform(2, 20),
        angle_rfa_act=random.uniform(0, 5),
    )
