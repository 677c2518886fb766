"""What the sentence says, on made-up scores; and on the organism, with true labels and with shuffled ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bures.data.prompts import load_prompts
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
from bures.jobs.scan import scan
from bures.jobs.scan_config import ScanConfig
from bures.results.records import BlockGeometry, Candidate, Effect, Localisation, ScanScore, Shuffled
from bures.results.stats import Measurement

N = 24
BEFORE = [2.0 + 0.1 * i for i in range(N)]
HARMLESS = [-6.0] * N


def score(block: int, log_odds: float, kl: float = 0.1, method: str = "rfa", **more: Any) -> ScanScore:
    return ScanScore(Candidate(method, (block,), None, "all"), log_odds, kl, (log_odds,) * N, **more)


def figures(block: int, auroc: float) -> BlockGeometry:
    measured = Measurement(auroc, 40, (auroc - 0.08, min(1.0, auroc + 0.02)))
    return BlockGeometry(block, 8, 1.0, 0.5, 1.0, 0.5, (1.0,), 9.0, measured, 1.0, None, 10.0, None, None)


def told(scores: list[ScanScore], *, joint: tuple[Effect, ...] = (), **changes: Any) -> Localisation:
    effects = block_effects(BEFORE, scores, 0.5)
    given: dict[str, Any] = {
        "harmful": BEFORE,
        "harmless": HARMLESS,
        "control": Effect((6,), "act-b6-all", Measurement(0.8, N, (0.7, 0.9)), 0.1),
        "shuffled": Shuffled(0.05, 19),
        "geometry": [figures(e.blocks[0], 0.99) for e in effects],
    }
    return conclude(Evidence(10, effects=effects, joint=joint, **(given | changes)))


RISE = [score(2, 2.0), score(3, 1.5), score(4, -0.5), score(5, -3.0), score(6, -3.1), score(7, 1.0)]


def test_one_block_suffices_and_the_decision_is_the_rise_to_it() -> None:
    found = told(RISE)
    assert found.extent == "one block"
    assert (found.first, found.last) == (4, 5)
    assert "decided at blocks 4-5 of 10 (50-60% depth); one block suffices" in found.sentence
    assert "rfa-b6-all" in found.sentence
    assert "as early as block 2" in found.sentence
    assert not needs_more_blocks(found.effects)


def test_two_blocks_or_a_spread() -> None:
    weak = [score(2, 2.0), score(3, 0.0), score(4, 0.1)]
    assert needs_more_blocks(block_effects(BEFORE, weak, 0.5))
    pair = Effect((3, 4), "rfa-b3+4-all", Measurement(0.8, N, (0.7, 0.9)), 0.1)
    everywhere = Effect((2, 3, 4), "rfa-b2to4n3-all", Measurement(0.9, N, (0.8, 0.95)), 0.1)
    both = told(weak, joint=(pair, everywhere))
    assert both.extent == "two blocks"
    assert "two blocks are needed (rfa-b2to4n3-all removes" not in both.sentence
    assert "two blocks are needed (rfa-b3+4-all removes 80% [70, 90])" in both.sentence
    spread = told(weak, joint=(everywhere,))
    assert spread.extent == "spread out"
    assert "it is spread out" in spread.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"harmful": HARMLESS}, "not told apart"),
        (
            {"shuffled": Shuffled(0.99, 19)},
            "act-b6-all removes 80% [70, 90] of the first-token refusal, and the best of 19 such",
        ),
        ({"geometry": [figures(b, 0.55) for b in range(2, 8)]}, "held-out AUROC 0.55"),
    ],
)
def test_what_is_no_better_than_chance_is_not_localised(changes: dict[str, Any], words: str) -> None:
    found = told(RISE, **changes)
    assert (found.extent, found.first, found.last) == ("nothing", None, None)
    assert found.sentence.startswith("Nothing is localised")
    assert words in found.sentence


def test_maps_that_remove_little_localise_nothing() -> None:
    found = told([score(block, 2.5) for block in range(3)])
    assert found.extent == "nothing"
    assert "removes" in found.sentence


def test_a_map_over_the_kl_limit_does_not_speak() -> None:
    effects = block_effects(BEFORE, [score(1, -9.0, kl=0.6), score(1, 1.0, method="act"), score(2, -9.0, kl=2.0)], 0.5)
    assert [e.candidate for e in effects] == ["act-b1-all", None]
    assert effects[1].removed.value == 0.0
    assert largest(effects).candidate == "act-b1-all"


def test_no_ablation_is_held_against_shuffled_labels_where_there_is_a_transport_map() -> None:
    def held(*scores: ScanScore) -> str | None:
        found = control(BEFORE, scores, block_effects(BEFORE, scores, 0.5), 0.5)
        return None if found is None else found[1].candidate

    rfa, act, dear = score(1, -3.0), score(1, -1.0, method="act"), score(1, -2.0, kl=0.6, method="mean-act")
    assert held(rfa, act, dear, score(2, -0.5, method="act")) == "act-b1-all"
    assert held(rfa, dear) == "rfa-b1-all"
    assert held(dear) is None
    found = control(BEFORE, [rfa, act], block_effects(BEFORE, [rfa, act], 0.5), 0.5)
    assert found is not None
    assert found[1].removed.value == pytest.approx(1 - probability([-1.0])[0] / probability(BEFORE).mean())


def test_the_effect_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    rng = np.random.default_rng(0)
    noise = [
        ScanScore(Candidate("pca-ot", (1,), k, "all"), float(each.mean()), 0.1, tuple(each))
        for k, each in enumerate(rng.normal(2.0, 4.0, size=(60, N)), start=1)
    ]
    honest = block_effects([2.0] * N, noise, 0.5)[0].removed.value
    best = min(noise, key=lambda s: s.refusal_log_odds)
    flattering = removed([2.0] * N, probability(best.each)).value
    assert flattering > honest + 0.1


def test_effects_carry_what_the_reverse_induces() -> None:
    found = block_effects(BEFORE, [score(1, 0.0, induced=(0.0,) * 5)], 0.5)[0]
    assert found.induced is not None
    assert (found.induced.value, found.induced.n) == (0.5, 5)
    assert found.removed.value == pytest.approx(1 - N * 0.5 / probability(BEFORE).sum())


def test_partners_are_the_next_strongest_blocks() -> None:
    effects = block_effects(BEFORE, RISE, 0.5)
    found = partners(effects, Candidate("rfa", (6,), None, "all"), 2)
    assert [c.blocks for c in found] == [(5, 6), (4, 6)]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The fit and selection prompts of both kinds, shuffled together and dealt out again."""
    folder = tmp_path_factory.mktemp("mixed")
    sides = {"fit": ("advbench", "alpaca:fit"), "select": ("harmbench:select", "alpaca:select")}
    found: dict[str, Path] = {}
    for split, names in sides.items():
        texts = [text for name in names for text in load_prompts(name).sample(24)]
        random.Random(0).shuffle(texts)
        for kind, part in (("harmful", texts[::2]), ("harmless", texts[1::2])):
            path = folder / f"{kind}_{split}.jsonl"
            path.write_text("\n".join(json.dumps({"prompt": text}) for text in part))
            found[f"{kind}_{split}"] = path
    return found


@pytest.mark.assets
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_organisms_refusal_is_localised_and_with_shuffled_labels_nothing_is(
    mixed: dict[str, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "model": "organism",
        "blocks": (9, 14, 19),
        "methods": ("rfa", "act", "pca-ot"),
        "ranks": (1, 4),
        "n_fit": 24,
        "n_select": 24,
    }
    true = scan(ScanConfig.make(**options), tmp_path / "true").localisation
    shuffled = scan(
        ScanConfig.make(**options, **{name: str(path) for name, path in mixed.items()}), tmp_path / "shuffled"
    ).localisation
    assert true is not None
    assert true.extent != "nothing"
    assert true.sentence.startswith("Refusal is decided at block")
    assert max(g.auroc.value for g in true.geometry) > 0.9
    assert shuffled is not None
    assert shuffled.extent == "nothing"
    assert shuffled.sentence.startswith("Nothing is localised")
