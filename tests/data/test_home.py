"""An unknown user without HOME, as in a container: what needs no cache works, what does says which variable to set."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any, NoReturn

import pytest

from bures import cli
from bures.data.assets import asset_status, cache_dir, fetch
from bures.data.prompts import load_corpus, load_prompts
from bures.errors import AssetError, BuresError, ConfigError
from bures.judges import known_error
from bures.models.loading import load_model
from bures.report.kit import bundle
from helpers import scripted

VARIABLES = ("HOME", "BURES_CACHE", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user has no home, and works in an empty folder."""

    def unknown(_: int) -> NoReturn:
        raise KeyError("uid not found")

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)


def said(call: Any) -> str:
    with pytest.raises(BuresError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("call", [cache_dir, lambda: fetch("wikipedia"), asset_status, lambda: load_model("organism")])
def test_what_needs_the_cache_says_which_variable_to_set(call: Any) -> None:
    assert "HOME is not set, and the system does not know this user; set BURES_CACHE to a folder" in said(call)


def test_a_hub_id_says_which_variable_to_set(tmp_path: Path) -> None:
    for call in (lambda: load_model("owner/name"), lambda: load_prompts("owner/name")):
        assert "set HF_HOME to a folder that can be written" in said(call)
    assert not list(tmp_path.iterdir())  # no folder named ~


def test_a_tilde_is_no_traceback() -> None:
    for call in (lambda: load_prompts("~/a.csv"), lambda: load_corpus("~/a.txt"), lambda: load_model("~/model")):
        assert "cannot tell what ~ is in ~/" in said(call)


def test_a_named_cache_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("BURES_CACHE", "~/cache")
    with pytest.raises(ConfigError, match="cannot tell what ~ is"):
        cache_dir()


def test_measured_errors_and_pages_need_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_error.sentence("arditi")
    monkeypatch.setattr(bundle, "_made", lambda: "a script")
    assert bundle.vega_bundle.__wrapped__() == "a script"
    with pytest.raises(AssetError, match="BURES_CACHE"):
        known_error.own_file()


def test_an_audit_of_ones_own_needs_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scripted.folder(tmp_path / "model")
    for side in ("harmful", "harmless"):
        (tmp_path / f"{side}.txt").write_text("\n".join(scripted.prompts(40, bad=side == "harmful")))
    arguments = "audit model --harmful harmful.txt --harmless harmless.txt --corpus none --methods rfa --scopes all"
    more = "--out run --limit 8 --no-all-blocks --max-new-tokens 8 --select-tokens 8"
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments.split(), *more.split()])
    assert not end.value.code, capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert not (tmp_path / "~").exists()
