"""What the sentence says, on made-up scores; and on the organism, with true labels and with shuffled ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bures.data.prompts import load_prompts
from bures.jobs.conclusion import Band, Evidence, conclude
from bures.jobs.localisation import Scanned, probability, ranges, removed, together
from bures.jobs.scan import scan
from bures.jobs.scan_config import ScanConfig
from bures.results.records import BlockGeometry, BlockRange, Candidate, Effect, Localisation, ScanScore, Shuffled
from bures.results.stats import Measurement

N = 24
BEFORE = [2.0 + 0.1 * i for i in range(N)]
HARMLESS = [-6.0] * N


def score(block: int, log_odds: float, kl: float = 0.1, method: str = "rfa", **more: Any) -> ScanScore:
    return ScanScore(Candidate(method, (block,), None, "all"), log_odds, kl, (log_odds,) * N, **more)


def scan_of(*scores: ScanScore) -> Scanned:
    return Scanned(BEFORE, scores, 0.5)


def figures(block: int, auroc: float) -> BlockGeometry:
    measured = Measurement(auroc, 40, (auroc - 0.08, min(1.0, auroc + 0.02)))
    return BlockGeometry(block, 8, 1.0, 0.5, 1.0, 0.5, (1.0,), 9.0, measured, 1.0, None, 10.0, None, None)


def told(scores: list[ScanScore], **changes: Any) -> Localisation:
    found = scan_of(*scores)
    onset, reached = found.band()
    given: dict[str, Any] = {
        "harmful": BEFORE,
        "harmless": HARMLESS,
        "control": Effect((6,), "act-b6-all", Measurement(0.8, N, (0.7, 0.9)), None),
        "shuffled": Shuffled(0.05, 19),
        "geometry": [figures(block, 0.99) for block in found.blocks],
        "effects": found.effects(),
        "peak": found.peak(),
        "band": Band(
            BlockRange(found.blocks[onset.first], found.blocks[reached.first]),
            *ranges(found.blocks, (onset, reached)),
        ),
        "one_falls_short": found.none_suffices(0.5),
    }
    return conclude(Evidence(10, **(given | changes)))


RISE = [score(2, 2.0), score(3, 1.5), score(4, -0.5), score(5, -3.0), score(6, -3.1), score(7, 1.0)]
PAIR = Effect((3, 4), "rfa-b3+4-all", Measurement(0.8, N, (0.7, 0.9)), 0.1)
EVERYWHERE = Effect((2, 3, 4), "rfa-b2to4n3-all", Measurement(0.9, N, (0.8, 0.95)), 0.1)


def test_one_block_suffices_and_the_decision_is_the_rise_to_it() -> None:
    found = told(RISE)
    assert found.extent == "one block"
    assert (found.first, found.last) == (4, 5)
    assert (found.first_range, found.last_range) == ((4, 4), (5, 5))
    assert (
        "decided at blocks 4-5 of 10 (50-60% depth; the first of them is one of 4, the last one of 5, 95%; blocks 2-7 "
        "were scanned); one "
    ) in found.sentence
    assert "rfa-b6-all" in found.sentence
    assert "told apart already at block 2, the first that was scanned (held-out AUROC 0.990)" in found.sentence
    assert found.original == tuple(BEFORE)


def test_nothing_is_claimed_of_a_rise_that_may_begin_before_and_end_behind_what_was_scanned() -> None:
    both = told([score(2, -0.5), score(3, -3.1)])
    assert (both.first, both.last, both.decided, both.extent) == (None, None, None, "one block")
    assert both.first_range is not None  # and so it differs from what only several blocks do
    assert both.sentence.startswith(
        "Where refusal is decided is not shown: the rise may begin before blocks 2-3 of 10, of which 2 were scanned, "
        "and end behind; one block suffices. The strongest map"
    )
    alone = told([score(6, -3.0)])
    assert alone.decided is None
    assert "before block 6 of 10, the only one that was scanned, and end behind" in alone.sentence


def test_an_ablation_that_shuffled_labels_match_is_said_to_be_one() -> None:
    chance = Shuffled(0.92, 19)
    transport = told(RISE, shuffled=chance)
    assert "and the best of 19 such maps fitted on shuffled labels 92%" in transport.sentence
    ablation = told(RISE, shuffled=chance, ablates=True)
    assert ablation.extent == "nothing"
    assert (
        "at block 6, where the strongest map is, no transport map is within --max-kl, and what ablations do cannot"
        in (ablation.sentence)
    )
    assert told(RISE, ablates=True).extent == "one block"


def test_what_was_not_scanned_is_said_where_the_band_touches_it() -> None:
    begins = told([score(2, -3.0), score(3, -3.1), score(4, 1.0), score(5, 2.0)])
    assert begins.first == 2
    assert "; blocks 2-5 were scanned, it may begin before block 2)" in begins.sentence
    ends = told([score(2, 2.0), score(3, 1.0), score(5, -3.0)])
    assert ends.last == 5
    assert "; of blocks 2-5, 3 were scanned, it may end behind block 5)" in ends.sentence
    alone = told([score(0, -3.0)])
    assert "; no other block was scanned, so nothing is known of the others)" in alone.sentence
    whole = told([score(block, -3.0 if block > 3 else 2.0) for block in range(10)])
    assert "scanned" not in whole.sentence
    assert "told apart as early as block 0" in whole.sentence


def test_two_blocks_are_needed_only_where_every_map_at_one_falls_short() -> None:
    weak = [score(2, 2.0), score(3, 0.6), score(4, 0.8)]
    needed = told(weak, pair=PAIR, everywhere=EVERYWHERE)
    assert needed.extent == "two blocks"
    assert "two blocks are needed (rfa-b3+4-all removes 80% [70, 90], at a KL of 0.10 nats" in needed.sentence
    close = told([score(2, 2.0), score(3, 0.0), score(4, 0.1)], one_falls_short=False, pair=PAIR)
    assert close.extent == "two blocks"
    assert "two blocks suffice (rfa-b3+4-all removes 80% [70, 90]" in close.sentence
    assert "and one is not shown to" in close.sentence
    spread = told(weak, everywhere=EVERYWHERE)
    assert spread.extent == "spread out"
    assert "every map tried at one block removes less than half of it, and none at two is shown to" in spread.sentence


def test_a_map_of_which_half_is_not_ruled_out_does_not_fall_short() -> None:
    rng = np.random.default_rng(0)
    wide = tuple(map(float, rng.normal(0.0, 3.0, size=N)))  # removes 0.44 or so, of 24 prompts
    assert scan_of(score(1, 0.6)).none_suffices(0.5)
    assert not scan_of(score(1, 0.6), ScanScore(Candidate("act", (2,), None, "all"), 0.0, 0.1, wide)).none_suffices(0.5)


def test_a_pair_that_wrecks_the_model_says_nothing() -> None:
    """At 2b04838 a pair with a KL of 11 nats made the sentence say that two blocks are needed."""
    weak = scan_of(score(2, 2.0), score(3, 0.6), score(4, 0.8))
    pairs = weak.proposed_pairs()
    wrecked = [ScanScore(c, -9.0, 11.0, (-9.0,) * N) for c in {c for half in pairs for c in half}]
    assert together(BEFORE, wrecked, pairs, 0.5) is None
    fine = [ScanScore(s.candidate, -1.0, 0.2, (-1.0,) * N) for s in wrecked]
    found = together(BEFORE, fine, pairs, 0.5)
    assert found is not None
    assert (found.kl, len(found.blocks)) == (0.2, 2)


def test_several_blocks_that_do_it_only_together_name_no_band() -> None:
    """At 2b04838 the strongest single effect being negative ended the scan with a StopIteration."""
    worse = [score(block, 4.0 + block) for block in range(3)]
    found = told(worse, pair=PAIR, everywhere=EVERYWHERE)
    assert found.strongest.removed.value < 0
    assert (found.extent, found.decided, found.first_range) == ("two blocks", None, None)
    assert "decided only by several blocks together; two blocks are needed" in found.sentence


def test_without_enough_fits_on_shuffled_labels_nothing_is_localised() -> None:
    for shuffled in (None, Shuffled(0.05, 18)):
        found = told(RISE, shuffled=shuffled)
        assert found.extent == "nothing"
        assert "takes 19 fits and" in found.sentence


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"harmful": HARMLESS}, "not told apart"),
        (
            {"shuffled": Shuffled(0.99, 19)},
            "fitted anew on other prompts, act-b6-all removes 80% [70, 90] of the first-token refusal, and the best",
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
    found = scan_of(score(1, -9.0, kl=0.6), score(1, 1.0, method="act"), score(2, -9.0, kl=2.0))
    assert [e.candidate for e in found.effects()] == ["act-b1-all", None]
    assert found.effects()[1].removed.value == 0.0
    assert found.peak().candidate == "act-b1-all"


def test_no_ablation_is_held_against_shuffled_labels_where_there_is_a_transport_map() -> None:
    def held(*scores: ScanScore) -> str | None:
        found = scan_of(*scores).control()
        return None if found is None else found.key

    rfa, act, dear = score(1, -3.0), score(1, -1.0, method="act"), score(1, -2.0, kl=0.6, method="mean-act")
    assert held(rfa, act, dear, score(2, -0.5, method="act")) == "act-b1-all"
    assert held(rfa, dear) == "rfa-b1-all"
    assert held(dear) is None


def noise(blocks: int, candidates: int, seed: int = 0) -> list[ScanScore]:
    """Candidates at several blocks that all do the same on the average."""
    rng = np.random.default_rng(seed)
    return [
        ScanScore(Candidate("pca-ot", (b,), k + 1, "all"), float(each.mean()), 0.1, tuple(map(float, each)))
        for b in range(blocks)
        for k, each in enumerate(rng.normal(2.0, 4.0, size=(candidates, N)))
    ]


def test_the_effect_is_chosen_on_one_half_and_measured_on_the_other() -> None:
    scores = noise(1, 60)
    honest = Scanned([2.0] * N, scores, 0.5).effects()[0].removed.value
    best = min(scores, key=lambda s: s.refusal_log_odds)
    flattering = removed([2.0] * N, probability(best.each)).value
    assert flattering > honest + 0.1


def test_the_strongest_of_many_blocks_does_not_flatter_itself() -> None:
    """At 2b04838 the peak was the largest of all blocks' effects, +0.06 to +0.09 of 30 that are alike."""
    gaps, true = [], float(1 - probability(np.random.default_rng(9).normal(2.0, 4.0, size=10**5)).mean() / 0.8808)
    for seed in range(40):
        found = Scanned([2.0] * N, noise(20, 4, seed), 0.5)
        gaps.append((found.peak().removed.value - true, max(e.removed.value for e in found.effects()) - true))
    honest, flattering = np.mean(gaps, axis=0)
    assert abs(honest) < 0.035
    assert flattering > 0.1


def test_effects_carry_what_the_reverse_induces() -> None:
    found = scan_of(score(1, 0.0, induced=(0.0,) * 5)).effects()[0]
    assert found.induced is not None
    assert (found.induced.value, found.induced.n) == (0.5, 5)
    assert found.removed.value == pytest.approx(1 - N * 0.5 / probability(BEFORE).sum())


def test_partners_are_the_next_strongest_blocks_of_the_other_half() -> None:
    even, odd = scan_of(*RISE).proposed_pairs()
    assert [c.blocks for c in even] == [c.blocks for c in odd] == [(5, 6), (4, 6), (6, 7)]
    (on_all,), _ = scan_of(*RISE).proposed_everywhere()
    assert on_all.blocks == (2, 3, 4, 5, 6, 7)


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
    assert true.rules == 2
    assert max(g.auroc.value for g in true.geometry) > 0.9
    assert shuffled is not None
    assert shuffled.extent == "nothing"
    assert shuffled.sentence.startswith("Nothing is localised")


def test_a_few_prompts_that_keep_their_refusal_do_not_undo_the_interval() -> None:
    """At 24 prompts, one of which holds nearly all that is left; and where the sample holds none such."""
    before = [1.5] * 24  # log-odds: refused with a probability of 0.82
    left = np.full(24, 0.004)
    left[0] = 0.8
    low, high = removed(before, left).bounds
    assert 0.7 < low < 0.9 < removed(before, left).value < high <= 1.0
    none = removed(before, np.full(24, 0.004))
    assert none.bounds[0] < 0.9  # one in twenty such prompts may well be missed by 24
    half = removed(before, np.linspace(0.2, 0.6, 24))
    assert half.bounds[0] > 0.4
