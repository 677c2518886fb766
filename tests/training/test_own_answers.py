"""Rows that begin with what the model itself answers once its refusal is ablated."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from bures.jobs.progress import Silent
from bures.models.activations import gather
from bures.models.fitting import arditi_sites
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.training.harden import own_answers as module
from bures.training.harden.own_answers import LONGEST, Own, own_answers
from bures.training.harden.rows import refusal_rows
from bures.transport import fit_rfa
from helpers import hardening, tiny

HARMLESS = list(tiny.PROMPTS[:5])
TEXTS = [each.text for each in hardening.HARMFUL]


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """One more."""
        self.lines.append(line)


def test_answers_are_greedy_and_under_the_ablation_of_a_third_of_the_prompts_each() -> None:
    model = hardening.model(layers=10)
    own = own_answers(model, hardening.HARMFUL, HARMLESS, hardening.plan(model, n_fit=100), 1.0, Silent())
    assert own is not None
    for offset, block in enumerate((5, 6, 7)):  # n_fit is more than there are: all are fitted on, in a drawn order
        asked = TEXTS[offset::3]
        source, target = (gather(model, side, blocks=[block])[block] for side in (TEXTS, HARMLESS))
        with Intervention(arditi_sites(fit_rfa(source, target), 10)).applied(model):
            expected = generate_ids(model, asked, max_new_tokens=LONGEST)
        assert [list(answer) for answer in own.answers[offset::3]] == expected


def test_rows_begin_with_them_by_the_share_and_are_refused_behind() -> None:
    model = hardening.model()
    own = Own([list(range(7, 7 + LONGEST)), *[[]] * (len(TEXTS) - 1)], 1.0)
    config = hardening.config(opener_share=0.0, extended_share=0.0)
    rows = refusal_rows(model, hardening.HARMFUL, config, random.Random(0), own)
    heads = model.encode(TEXTS)
    assert 1 <= rows[0].begun <= LONGEST
    assert list(rows[0].prompt) == [*heads[0], *range(7, 7 + rows[0].begun)]
    assert [row.begun for row in rows[1:]] == [0] * (len(TEXTS) - 1)  # they refused under attack too

    rng = random.Random(0)
    drawn = [Own([list(range(LONGEST))], 0.4).beginning(0, rng) for _ in range(3000)]
    assert sum(map(bool, drawn)) / len(drawn) == pytest.approx(0.4, abs=0.03)
    assert {len(each) for each in drawn if each} == set(range(1, LONGEST + 1))


def test_what_is_refused_all_the_same_begins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hardening.model(layers=10)
    plan = hardening.plan(model, n_fit=100)
    monkeypatch.setattr(
        module, "JUDGES", {module.JUDGE: SimpleNamespace(is_refusal=lambda asked, _: asked == TEXTS[0])}
    )
    own = own_answers(model, hardening.HARMFUL, HARMLESS, plan, 1.0, Silent())
    assert own is not None
    assert [bool(answer) for answer in own.answers] == [False, *[True] * (len(TEXTS) - 1)]
    monkeypatch.setattr(module, "JUDGES", {module.JUDGE: SimpleNamespace(is_refusal=lambda *_: True)})
    told = Heard()
    assert own_answers(model, hardening.HARMFUL, HARMLESS, plan, 1.0, told) is None
    assert [line for line in told.lines if "no ablation" in line]


def test_without_a_share_nothing_is_answered() -> None:
    model = hardening.model()
    assert own_answers(model, hardening.HARMFUL, HARMLESS, hardening.plan(model), 0.0, Silent()) is None
