"""Protocols: one word for many defaults, under what is given beside it."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bures import cli
from bures.errors import ConfigError
from bures.jobs.config import AuditConfig
from bures.jobs.options import read_options
from bures.jobs.protocols import PAPER, about_protocol
from bures.results.run_folder import load_result
from bures.results.schema import AuditResult
from helpers.small_run import finished

RECIPES = Path(__file__).parents[2] / "recipes"


def said(config: AuditConfig) -> str:
    (sentence,) = about_protocol(config.options)
    return sentence


def test_the_papers_protocol_sets_what_it_names_and_nothing_else() -> None:
    paper, ours = AuditConfig.make(model="m", protocol="paper"), AuditConfig(model="m")
    for name in AuditConfig.model_fields:
        expected = PAPER.get(name, "paper" if name == "protocol" else getattr(ours, name))
        assert getattr(paper, name) == expected, name
    assert (paper.ranks, paper.scopes, paper.depth) == ((1, 2), ("all",), (0.4, 0.6))
    assert (ours.ranks, ours.scopes, ours.depth) == ((1, 2, 8), ("all", "last"), (0.0, 1.0))
    assert AuditConfig(model="m", protocol="paper") == paper, "however the configuration is made"


def test_every_name_is_an_option_of_an_audit() -> None:
    assert set(PAPER) <= set(AuditConfig.model_fields)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ranks": (1, 2, 8)}, "ranks 1,2,8"),
        ({"n_again": 16}, "n-again 16"),
        ({"limit": 16, "depth": (0.0, 1.0)}, "limit 16, depth 0.0,1.0"),
        ({"max_perplexity_ratio": 1.1}, "max-perplexity-ratio 1.1"),
        ({"corpus": None}, "corpus none"),
        ({"harmful": "mine.csv"}, "harmful-select mine.csv#select, harmful-test mine.csv#test"),
    ],
)
def test_what_is_given_beside_it_wins_and_is_said(given: dict[str, Any], words: str) -> None:
    config = AuditConfig.make(model="m", protocol="paper", **given)
    assert words in said(config)
    assert all(getattr(config, name) == value for name, value in given.items() if name != "harmful")


def test_a_bare_protocol_has_nothing_beside_it_and_ours_says_nothing() -> None:
    assert "beside" not in said(AuditConfig(model="m", protocol="paper"))
    assert about_protocol(AuditConfig(model="m", ranks=(3,)).options) == []
    assert about_protocol({}) == [], "results of before"


@pytest.mark.parametrize("given", [{}, {"ranks": (1, 2, 8)}, {"depth": (0.0, 1.0), "n_again": 16, "limit": 40}])
def test_its_command_and_its_file_give_the_same_audit(given: dict[str, Any], tmp_path: Path) -> None:
    config = AuditConfig.make(model="m", protocol="paper", **given)
    (tmp_path / "config.json").write_text(json.dumps(config.options), encoding="utf-8")
    assert AuditConfig.make(**read_options(tmp_path / "config.json")) == config
    words = shlex.split(config.command)
    assert words[:3] == ["bures", "audit", "m"]
    typed = dict(zip(words[3::2], words[4::2], strict=True))
    assert set(typed) == {"--protocol"} | {f"--{name.replace('_', '-')}" for name in given}
    lists = {"--ranks": int, "--depth": float}
    read = {k[2:].replace("-", "_"): tuple(map(lists[k], v.split(","))) if k in lists else v for k, v in typed.items()}
    assert AuditConfig.make(model="m", **read) == config


def test_an_unknown_protocol_is_one_line() -> None:
    with pytest.raises(ConfigError, match="protocol: Input should be 'bures' or 'paper'"):
        AuditConfig.make(model="m", protocol="theirs")
    with pytest.raises(ConfigError, match="protocol: Input should be"):
        AuditConfig.make(model="m", protocol=["paper"])


def test_the_recipes_of_the_papers_models_are_by_it() -> None:
    found = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in RECIPES.glob("*.toml")}
    paper = {name for name, options in found.items() if options.get("protocol") == "paper"}
    assert paper == {"llama-2-7b", "llama-2-13b", "llama-3.1-8b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b"}
    for name in found:
        options = {"model": "m", **read_options(RECIPES / f"{name}.toml")}
        config = AuditConfig.make(**options)
        assert about_protocol(config.options) == (
            [said(AuditConfig(model="m", protocol="paper"))] if name in paper else []
        )


def test_the_command_line_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", "./nowhere", "--protocol", "theirs"])
    assert end.value.code == 2
    assert "'bures' or 'paper'" in capsys.readouterr().err


def test_an_audit_says_by_which_protocol_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(tmp_path, "--protocol", "paper")
    printed = " ".join(capsys.readouterr().out.split())
    result = load_result(folder)
    assert isinstance(result, AuditResult)
    (sentence,) = (note for note in result.notes if "protocol" in note)
    assert sentence == about_protocol(result.options)[0]
    assert "given beside it: " in sentence
    assert "blocks 0,1" in sentence
    assert "max-new-tokens 6" in sentence
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["protocol"] == "paper"
    assert "(protocol paper)" in printed
    assert sentence in printed
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "the strongest is the one that came furthest" in page, "the page was written"
    assert "protocol (arXiv 2603.04355): RFA, Linear-AcT and PCA-OT with K of 1 and 2" in page
    assert '<bdi>protocol</bdi></dt><dd dir="auto">paper</dd>' in page
    assert {trial.candidate.tokens for trial in result.trials} == {"all"}
    assert {trial.candidate.rank for trial in result.trials if trial.candidate.method == "pca-ot"} <= {1, 2}
