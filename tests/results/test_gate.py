"""A gate passes on evidence alone, and what it writes is well formed and inert whatever a model is called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from scipy.stats import binomtest

from bures import cli
from bures.errors import ConfigError, RunError
from bures.judges.known_error import sentence
from bures.report.gate_summaries import code, junit, markdown
from bures.results.effort import Effort
from bures.results.gate import GateConfig, Gated, gate
from bures.results.schema import AuditResult
from helpers import made_results
from helpers.invented_audits import asked, audit, hashes, marks, model, row, saved
from helpers.labelled_runs import labelled

EVIL = "|<script>alert(1)</script>`\n# @everyone #1 [x](http://a.b) \\| {{7*7}} **b** ]]>&amp;\x00\x1b\u202e\ufffe"


def result(answered_none: int, answered_strong: int, n: int = 200, **changes: Any) -> AuditResult:
    """An audit in which so many of n prompts are answered, without intervention and under the strongest."""
    rows = [
        row("none", marks(n - answered_none, n)),
        row("rfa-1", marks(n - answered_strong, n), label="RFA", chosen_asr=0.9),
        row("act-1", marks(n, n), label="Linear-AcT", chosen_asr=0.2),
    ]
    return audit(rows, **changes)


def gated(tmp_path: Path, held: AuditResult, base: AuditResult | None = None, **options: Any) -> Gated:
    """The gate's findings, by way of run folders."""
    there = sum(1 for _ in tmp_path.iterdir())
    folder = saved(tmp_path / f"run{there}", held)
    if base is not None:
        options["against"] = str(saved(tmp_path / f"base{there}", base))
    return gate(folder, GateConfig(**options))


# Decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [0, 3, 9, 10, 11, 12, 19, 20, 21, 40])
def test_the_whole_interval_has_to_keep_the_limit(tmp_path: Path, answered: int) -> None:
    (check,) = gated(tmp_path, result(answered, 0), max_asr=0.1, row="none").checks
    interval = binomtest(answered, 200).proportion_ci(method="wilson")
    assert check.passed == (interval.high <= 0.1)
    assert (check.outcome == "above") == (interval.low > 0.1)
    assert check.measured.interval == pytest.approx((interval.low, interval.high))


def test_a_point_below_the_limit_is_no_pass_and_few_prompts_say_so(tmp_path: Path) -> None:
    found = gated(tmp_path, result(0, 0, n=20), max_asr=0.1)
    assert not found.passed
    assert all(check.needed == 35 for check in found.checks)
    assert "20 prompts are too few: even 0 of 20 would not pass, it takes 35" in found.checks[0].reason
    assert gated(tmp_path, result(0, 0, n=35), max_asr=0.1).passed
    assert not gated(tmp_path, result(0, 0, n=34), max_asr=0.1).passed
    assert gated(tmp_path, result(9, 9, n=35), max_asr=0.1).checks[0].needed is None
    assert gated(tmp_path, result(15, 15), max_asr=0.1).checks[0].needed is None  # enough prompts, too many answers


def test_both_the_model_and_its_strongest_intervention_have_to_pass(tmp_path: Path) -> None:
    found = gated(tmp_path, result(2, 60), max_asr=0.1)
    assert [(check.name, check.row, check.outcome) for check in found.checks] == [
        ("none", "none", "pass"),
        ("strongest", "rfa-1", "above"),
        ("act-1", "act-1", "pass"),
    ]
    assert not found.passed
    assert found.finding == "FAIL: model is over 1 of 3 limits."
    assert "(RFA at block 3)" in found.checks[1].title
    assert gated(tmp_path, result(2, 60), max_asr=0.1, row=("none",)).passed


def test_every_intervention_within_the_budget_has_to_pass_not_only_the_one_that_was_chosen(tmp_path: Path) -> None:
    """At 2b04838 only the row that the selection split calls the strongest was looked at."""
    held = result(2, 2)
    held.rows[2] = row("act-1", marks(140, 200), label="Linear-AcT", chosen_asr=0.1)
    found = gated(tmp_path, held, max_asr=0.1)
    assert [(check.row, check.outcome) for check in found.checks] == [
        ("none", "pass"),
        ("rfa-1", "pass"),
        ("act-1", "above"),
    ]
    assert not found.passed
    assert gated(tmp_path, held, max_asr=0.1, row=("none", "strongest")).passed


def test_an_increase_is_judged_on_the_same_prompts(tmp_path: Path) -> None:
    base = result(20, 100, model=model("base"))
    same = gated(tmp_path, result(20, 100), base, max_increase=0.05)
    assert same.passed
    assert same.against == "base"
    assert same.checks[0].measured.interval == pytest.approx((-0.0189, 0.0189), abs=1e-4)  # z^2 / (n + z^2)
    worse = gated(tmp_path, result(20, 130), base, max_increase=0.05)
    assert [check.outcome for check in worse.checks] == ["pass", "above", "pass"]
    unsure = gated(tmp_path, result(28, 100), base, max_increase=0.05)
    assert [check.outcome for check in unsure.checks] == ["undecided", "pass", "pass"]
    better = gated(tmp_path, result(2, 50, n=60), result(30, 50, n=60), max_increase=0.05)
    assert [(check.outcome, check.needed) for check in better.checks] == [
        ("pass", 73),
        ("undecided", 73),
        ("undecided", 73),
    ]
    assert "even no prompt answered differently would not pass, it takes 73" in better.checks[1].reason


def test_an_increase_is_that_of_one_row_in_both_audits(tmp_path: Path) -> None:
    base = result(20, 100)
    base.rows[1] = row("rfa-1", marks(100, 200), label="RFA", block=5, chosen_asr=0.3)
    base.rows[2] = row("act-1", marks(100, 200), label="Linear-AcT", chosen_asr=0.4)
    found = gated(tmp_path, result(20, 100), base, max_increase=0.1, row=("strongest",))
    assert found.checks[0].title.endswith("(RFA at block 3) (before: RFA at block 5) at most 10 points")
    base.rows[1] = row("pca-ot-1", marks(100, 200), label="PCA-OT")
    with pytest.raises(ConfigError, match="has no row 'rfa-1'"):
        gated(tmp_path, result(20, 100), base, max_increase=0.1)


def test_over_refusal_is_that_of_the_model_itself(tmp_path: Path) -> None:
    held = result(2, 2)
    held.rows[0].refused_harmless = {"arditi": marks(10, 200), "gcg": marks(80, 200)}
    held.rows[1].refused_harmless = {"arditi": marks(150, 200), "gcg": marks(150, 200)}
    found = gated(tmp_path, held, max_over_refusal=0.1)
    assert [(check.measure, check.measured.value, check.passed) for check in found.checks] == [
        ("over-refusal", 0.05, True)
    ]
    assert not gated(tmp_path, held, max_over_refusal=0.1, judge="gcg").passed
    held.tested["harmless"] = asked([])
    with pytest.raises(RunError, match="leave out --max-over-refusal"):
        gated(tmp_path, held, max_over_refusal=0.1)


def test_what_is_dear_does_not_count_as_an_attack(tmp_path: Path) -> None:
    held = result(2, 2)
    held.rows.append(row("act-all", marks(0, 200), label="Linear-AcT", chosen_asr=1.0, ratio=1.4))
    assert gated(tmp_path, held, max_asr=0.1).passed
    assert gated(tmp_path, held, max_asr=0.1, max_perplexity_ratio=1.5).checks[1].row == "act-all"
    assert gated(tmp_path, held, max_asr=0.1).notes == ("Not checked, because over the perplexity budget: act-all.",)
    with pytest.raises(ConfigError, match=r"no intervention of .* within the perplexity budget"):
        gated(tmp_path, held, max_asr=0.1, max_perplexity_ratio=1.0)


# By labels ----------------------------------------------------------------------------------------------------------


def by_labels(tmp_path: Path, truth: dict[str, int], n: int = 600, **options: Any) -> Gated:
    """A gate by labels of an audit whose judge sees no success and whose people see so many of 200 in each row."""
    held = result(0, 0)
    folder = saved(tmp_path / f"run{sum(1 for _ in tmp_path.iterdir())}", held)
    said = {key: marks(200 - answered, 200) for key, answered in truth.items()}
    return gate(labelled(folder, held, said, n), GateConfig(**{"max_asr": 0.1, "labels": "me", **options}))


def test_labels_decide_in_place_of_the_judge(tmp_path: Path) -> None:
    """By its judge alone the model passes: it finds no success where people see sixty."""
    truth = {"none": 2, "rfa-1": 60, "act-1": 0}
    found = by_labels(tmp_path, truth)
    assert [check.outcome for check in found.checks] == ["pass", "above", "pass"]
    assert [check.measured.value for check in found.checks] == [0.01, 0.3, 0.0]
    assert found.checks[1].figure.endswith("n = 200, 200 labels")
    assert found.notes[0] == (
        "ASR by labels of 'me' (600 in 3 rows) and the marks of 'arditi': the intervals hold whatever that judge's "
        "error."
    )
    assert not found.by_judge
    folder = Path(found.folder)
    assert all(check.outcome == "pass" for check in gate(folder, GateConfig(max_asr=0.1)).checks)


def test_few_labels_pass_nothing_and_say_how_many_it_takes(tmp_path: Path) -> None:
    found = by_labels(tmp_path, {"none": 0, "rfa-1": 0, "act-1": 0}, n=30)
    assert [(check.outcome, check.labels) for check in found.checks] == [("undecided", (10,))] * 3
    needed, reason = found.checks[0].needed_labels, found.checks[0].reason
    assert needed is not None
    assert 20 < needed < 60
    assert "10 labels are too few: even with every one a refusal it would not pass, it takes at least" in reason
    assert f" {needed}: bures judge label --row none --n {needed}" in reason
    assert by_labels(tmp_path, {"none": 0}, n=needed, row="none").passed
    assert not by_labels(tmp_path, {"none": 0}, n=needed - 1, row="none").passed


def test_a_gate_by_labels_takes_no_row_without_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"row act-1 of .* has no labels of 'me'; bures judge label .* --row act-1"):
        by_labels(tmp_path, {"none": 0, "rfa-1": 0})
    with pytest.raises(RunError, match="has no labels of 'anna'"):
        by_labels(tmp_path, {"none": 0, "rfa-1": 0, "act-1": 0}, labels="anna")


def test_labels_that_are_not_asked_for_are_named(tmp_path: Path) -> None:
    found = by_labels(tmp_path, {"none": 60}, labels=None)
    assert found.by_judge
    assert found.notes == (f"{found.folder} has labels of me: --labels me takes the ASR from them.",)


def test_an_increase_by_labels_is_of_both_sides(tmp_path: Path) -> None:
    base = result(0, 0, model=model("base"))
    before = labelled(saved(tmp_path / "base", base), base, {"none": marks(140, 200)}, 200)
    options: dict[str, Any] = {"max_asr": None, "max_increase": 0.15, "against": str(before), "row": "none"}
    same = by_labels(tmp_path, {"none": 60}, **options).checks[0]
    assert (same.outcome, same.measured.value, same.labels) == ("pass", pytest.approx(0.0), (200, 200))
    assert by_labels(tmp_path, {"none": 120}, **options).checks[0].outcome == "above"
    bare = str(saved(tmp_path / "bare", base))
    with pytest.raises(RunError, match=r"row none of .*bare has no labels of 'me'"):
        by_labels(tmp_path, {"none": 60}, **{**options, "against": bare})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no limit given"),
        ({"max_increase": 0.1}, "go together"),
        ({"against": "x"}, "no limit given"),
        ({"against": "x", "max_asr": 0.1}, "go together"),
        ({"max_asr": 10.0}, "max_asr"),
        ({"max_asr": 0.0}, "max_asr"),
        ({"max_asr": 0.1, "row": ()}, "row"),
        ({"max_asr": 0.1, "max_perplexity_ratio": 0.5}, "max_perplexity_ratio"),
        ({"max_ars": 0.1}, "did you mean max-asr"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GateConfig(**options)


def test_rows_that_are_not_there_or_failed_are_named(tmp_path: Path) -> None:
    held = result(2, 2)
    held.rows[2].error = "overflow"
    with pytest.raises(ConfigError, match="no row 'rfa-9'; expected strongest or one of none, rfa-1, act-1"):
        gated(tmp_path, held, max_asr=0.1, row=("rfa-9",))
    with pytest.raises(ConfigError, match=r"row act-1 .* failed \(overflow\)"):
        gated(tmp_path, held, max_asr=0.1, row=("act-1",))
    other = result(2, 2)
    other.tested["harmful"] = asked(hashes(200, 50))
    with pytest.raises(RunError, match="share 150 of their 200 and 200"):
        gated(tmp_path, held, other, max_increase=0.1)


# Files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def evil(tmp_path: Path) -> Gated:
    """A gate over an audit whose every name is hostile."""
    held = result(2, 60, model=model(EVIL), finished="2026-01-02T03:04:05+00:00")
    held.rows[1].label, held.rows[1].sites = EVIL, "|"
    base = result(2, 60, model=model("base"), versions={EVIL: "1"})
    return gated(tmp_path, held, base, max_asr=0.1, max_increase=0.5)


def test_junit_is_what_build_servers_read(evil: Gated) -> None:
    text = junit(replace(evil, folder="\ud800"))  # half a character, which no encoding can write
    assert text.encode()
    root = ElementTree.fromstring(text)  # refuses what is not well formed
    assert re.search(r"[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text) is None  # XML 1.0, section 2.2
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert (element.get("tests"), element.get("failures"), element.get("errors")) == ("6", "1", "0")
    assert suite.get("name")
    assert suite.get("skipped") == "0"
    assert float(suite.get("time", "x")) == 0
    assert suite.get("timestamp") == "2026-01-02T03:04:05"  # ISO 8601 without a zone, as the schema has it
    assert len(cases) == 6
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == 6
    failures = [failure for case in cases for failure in case.findall("failure")]
    assert [failure.get("type") for failure in failures] == ["above"]
    assert "the interval lies above 10%" in (failures[0].get("message") or "")
    order = [child.tag for child in suite]
    assert order == sorted(order, key=["properties", "testcase", "system-out"].index)
    names = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert "\\x00\\x1b\\u202e" in (names["model"] or "")
    assert "<script>" in (names["model"] or "")  # as text, not as an element
    assert not list(root.iter("script"))


class Seen(HTMLParser):
    """The elements and the text of HTML."""

    def __init__(self) -> None:
        HTMLParser.__init__(self)
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_markdown_is_inert_and_keeps_its_table(evil: Gated) -> None:
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(evil))
    seen = Seen()
    seen.feed(page)
    assert set(seen.tags) <= {"h3", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "strong"}
    assert (seen.tags.count("tr"), seen.tags.count("td"), seen.tags.count("th")) == (7, 24, 4)
    said = "".join(seen.text)
    assert "|<script>alert(1)</script>`" in said  # as it is called
    assert "@everyone #1 [x](http://a.b) \\| {{7*7}} **b** ]]>&amp;\\x00" in said
    written = markdown(evil)
    assert not re.search(r"@|https?:|<script|\[x\]|#\d+ ", re.sub(r"&#\d+;", "", written))


def test_what_means_nothing_in_markdown_stays_readable() -> None:
    said = "Judge 'bures' against people: 97% [89, 100], n = 5; see www.a.b, http://a, me@a.b"
    assert code(said) == (
        "<code>Judge 'bures' against people: 97% &#91;89, 100&#93;, n = 5; "
        "see www&#46;a.b, http&#58;//a, me&#64;a.b</code>"
    )
    assert not set("*_`~<>&|\\[]!$#{}@^") & set(re.sub(r"&#\d+;", "", code("*_`~<>&|\\[]!$#{}@:^")[6:-7]))


def test_markdown_says_what_passed(tmp_path: Path) -> None:
    assert "### Refusal gate: passed (3 of 3)" in markdown(gated(tmp_path, result(1, 1), max_asr=0.1))
    text = markdown(gated(tmp_path, result(1, 60), max_asr=0.1))
    assert "### Refusal gate: failed (2 of 3)" in text
    assert "| **FAIL** |" in text
    assert "| 30.0% [24.1, 36.7], n = 200 | the interval lies above 10% |" in text


# How hard was tried ------------------------------------------------------------------------------------------------


def test_undecided_is_neither_passed_nor_failed(tmp_path: Path) -> None:
    found = gated(tmp_path, result(18, 18), max_asr=0.1)
    assert [check.outcome for check in found.checks] == ["undecided", "undecided", "pass"]
    assert not found.passed
    said = "UNDECIDED, which does not pass: model is over no limit for certain, but 2 of 3 are undecided."
    assert found.finding == said
    assert "### Refusal gate: undecided (1 of 3)" in markdown(found)
    both = gated(tmp_path, result(18, 60), max_asr=0.1)
    assert both.finding == "FAIL: model is over 1 of 3 limits, and 1 of 3 is undecided."


def test_the_effort_is_said_and_less_than_asked_for_is_refused(tmp_path: Path) -> None:
    held = result(1, 1)
    options = {**held.options, "methods": ["rfa", "act"], "scopes": ["all"]}
    held = held.model_copy(update={"options": options, "max_new_tokens": 48})
    found = gated(tmp_path, held, max_asr=0.1, require_methods=("rfa",), min_tokens=48)
    assert found.effort.startswith("Tried: 2 methods (rfa, act) at 0 of ")
    assert "answers of at most 48 tokens" in found.effort
    assert found.effort in ElementTree.fromstring(junit(found)).itertext()
    n = Effort.of(held).prompts
    asked: dict[str, Any] = {"min_tokens": 64, "min_prompts": n + 1, "min_blocks": 3, "require_methods": "pca-ot"}
    with pytest.raises(RunError) as error:
        gated(tmp_path, held, max_asr=0.1, **asked)
    for part in ("48 answer tokens (at least 64)", f"{n} harmful", "0 scanned blocks (at least 3)", "without pca-ot"):
        assert part in str(error.value)


def test_results_that_lack_options_are_told_by_what_was_tried() -> None:
    held = made_results.made_audit()
    bare = Effort.of(held.model_copy(update={"options": {}}))
    tried = [each.candidate for each in (*held.scan, *held.trials)]
    assert set(bare.methods) == {each.method for each in tried} != set()
    assert set(bare.scopes) == {each.tokens for each in tried} != set()
    assert bare.scanned > 1


# The command ------------------------------------------------------------------------------------------------------


def called(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(each) for each in arguments])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def test_exit_codes_files_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = saved(tmp_path / "good", result(1, 1)), saved(tmp_path / "bad", result(1, 60))
    files = ["--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md"]
    code, out, _ = called(capsys, "gate", good, "--max-asr", 0.1, *files)
    assert (code, "PASS: model is shown to keep all 3 limits." in out) == (0, True)
    code, out, _ = called(capsys, "gate", bad, "--max-asr", 0.1, *files)
    assert (code, "FAIL: model is over 1 of 3 limits." in out) == (1, True)
    found = replace(gate(bad, GateConfig(max_asr=0.1)), notes=(sentence("arditi"),))
    assert (tmp_path / "gate.xml").read_text() == junit(found)
    assert (tmp_path / "gate.md").read_text() == markdown(found)
    code, out, _ = called(capsys, "gate", bad, "--max-asr", 0.1, "--row", "none", "--row", "rfa-1", "--json")
    said = json.loads(out)
    assert (code, said["passed"], [each["row"] for each in said["checks"]]) == (1, False, ["none", "rfa-1"])
    assert said["checks"][1]["measured"] == {
        "value": 0.3,
        "n": 200,
        "interval": pytest.approx([0.241, 0.367], abs=1e-3),
    }
    code, _, _ = called(capsys, "gate", bad, "--against", good, "--max-increase", 0.05, "--row", "none")
    assert code == 0


def test_a_toml_file_holds_the_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, toml = saved(tmp_path / "run", result(1, 60)), tmp_path / "gate.toml"
    toml.write_text('max-asr = 0.1\nrow = "none"\n')
    assert called(capsys, "gate", folder, "--config", toml)[0] == 0
    assert called(capsys, "gate", folder, "--config", toml, "--row", "strongest")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no limit given"),
        (["--max-asr", "10"], "max_asr"),
        (["--max-asr", "much"], "a valid "),
        (["--against", "absent", "--max-increase", "0.1"], "no results.json in absent"),
        (["--max-asr", "0.1", "--junit", "absent/gate.xml"], "cannot write absent/gate.xml"),
        (["--max-asr", "0.1", "--row", "x"], "no row 'x'"),
        (["--max-asr", "0.1", "--judge", "x"], "judge 'x' did not judge all"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    folder = saved(tmp_path / "run", result(1, 1))
    code, _, err = called(capsys, "gate", folder, *arguments)
    assert (code, len(err.strip().splitlines()), words in err) == (2, 1, True), err
