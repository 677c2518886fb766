"""The page, the notebook's table and the exports of a defence table."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import bures
from bures.errors import ConfigError
from bures.report.build import write_report
from bures.report.defence_words import THREAT_MODEL, best_of_kinds, cautions, finding
from bures.report.export import Format, export
from bures.report.pages.defence import defence_page
from bures.results.defending import Null
from bures.results.formatting import percent
from bures.results.run_folder import RunFolder, load_result
from bures.results.stats import Measurement
from helpers.browser import launched, opened
from helpers.made_defence import made_defence
from helpers.made_results import HOSTILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    RunFolder(tmp_path).results.write_text(made_defence(text=HOSTILE[0]).to_json())
    return tmp_path


def test_the_first_sentence_has_what_was_measured_with_n_and_intervals() -> None:
    result = made_defence()
    said = finding(result)
    inside, every = result.models[0].figure(within_budget=True), result.models[0].figure()
    assert said.startswith(f"Within the perplexity budget, ours answers {100 * inside.worst_asr.value:g}% [")
    assert f"of 40 harmful prompts under the worst single attack ({inside.worst}), " in said
    assert f"{100 * inside.union.value:g}% [" in said
    assert f"under at least one of {inside.attacks} attacks (judge" in said
    assert every.attacks == inside.attacks + 1 == len(result.models[0].attacks) - 2  # no attack, and the null
    assert f"At any cost: {100 * every.worst_asr.value:g}% [" in said
    assert f"under the worst ({every.worst}), {100 * every.union.value:g}% [" in said
    assert "control: " in said
    assert "adjusted p" in said


def test_a_worst_attack_that_ruins_the_model_is_said() -> None:
    result = made_defence()
    model = result.models[0]
    worst = next(each for each in model.attacks if each.name == model.figure().worst)
    worst.within_budget, worst.perplexity_ratio = True, 1.05
    assert not any("may be noise" in line for line in cautions(result) if line.startswith("ours"))
    worst.within_budget, worst.perplexity_ratio = False, 40420.2
    said = [line for line in cautions(result) if line.startswith("ours") and "may be noise" in line]
    assert len(said) == 1
    assert f"({worst.name}) multiplies the perplexity of harmless answers by 4.04e+04" in said[0]


def test_a_null_that_is_none_and_a_missing_one_are_told_apart() -> None:
    result = made_defence()
    assert not any("null" in line for line in cautions(result))
    share = Measurement(0.5, 40, (0.3, 0.7))
    result.models[1].null = Null(asr=share, asr_none=share, p=0.01)
    assert any("The null is not null" in line and "control" in line for line in cautions(result))
    result.models[1].attacks[2].error = "overflow"
    assert any("1 attacks on control failed" in line and "refitted-2" in line for line in cautions(result))


def test_the_best_attack_of_each_kind_is_the_highest_and_the_null_is_last() -> None:
    rows = best_of_kinds(made_defence())
    assert [name for name, _ in rows] == [
        *("any attack", "any attack, at any cost", "no attack"),
        *("refitted", "iterated", "transferred", "prefilled", "random (null)"),
    ]
    models = made_defence().models
    for i, model in enumerate(models):
        best = dict(rows)["refitted"][i]
        assert best is not None
        made = [each for each in model.attacks if each.kind == "refitted"]
        assert [each.within_budget for each in made] == [True, False]
        assert (best[0].value, best[1]) == (made[0].asr.value, made[0].name)


def test_a_browser_shows_the_chart_and_nothing_untrusted_acts(folder: Path) -> None:
    page = write_report(folder)
    assert page.name == "defence.html"
    with launched() as browser, opened(browser, page) as shown:
        for _ in range(100):
            if shown.evaluate("document.querySelectorAll('#withstood svg path').length > 10"):
                break
            shown.page.wait_for_timeout(50)
        assert shown.evaluate("document.querySelectorAll('#withstood svg path').length") > 10
        assert (shown.said, shown.asked, shown.dialogs) == ([], [], [])
    assert "<script>alert" not in page.read_text()
    assert THREAT_MODEL in page.read_text()


def test_the_tiles_are_of_the_attacks_within_the_budget(folder: Path) -> None:
    result = made_defence(text=HOSTILE[0])
    worst = next(each for each in result.models[0].attacks if each.name == result.models[0].figure().worst)
    worst.within_budget, worst.refused_or_incoherent = False, "0" * 40
    result.conclude()
    inside, every = result.models[0].figure(within_budget=True), result.models[0].figure()
    assert inside.worst_asr.value != every.worst_asr.value
    page = defence_page(result)
    assert [(each.label, each.value) for each in page.key_figures] == [
        ("ASR, worst attack in budget", percent(inside.worst_asr.value)),
        ("any attack in budget", percent(inside.union.value)),
    ]


def test_it_reads_back_and_shows_itself_in_a_notebook(folder: Path) -> None:
    result = load_result(folder, bures.DefenceResult)
    assert result == made_defence(text=HOSTILE[0]).model_copy(update={"finished": result.finished})
    assert "\n" not in repr(result)
    table = result._repr_html_()
    assert table.count("<tr>") == 4
    assert "<script" not in table


@pytest.mark.parametrize("to", get_args(Format))
def test_exports_have_one_row_a_model(to: Format) -> None:
    result = made_defence()
    if to == "model-card":
        with pytest.raises(ConfigError, match="audit"):
            export(result, to)
        return
    text = export(result, to)
    for model in result.models:
        assert model.name in text
    assert "40 harmful" in text
