"""What a public host runs: actions that cannot change behind our back, few rights, and targets that exist here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")


def used(text: str) -> list[str]:
    return re.findall(r"^\s*(?:- )?uses: (.+)$", text, flags=re.MULTILINE)


def jobs(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    found = used(path.read_text(encoding="utf-8"))
    assert len(found) >= 2
    assert [each for each in found if not PINNED.fullmatch(each)] == []


def test_an_action_that_is_not_pinned_is_found() -> None:
    assert not any(map(PINNED.fullmatch, used("steps:\n  - uses: actions/checkout@v6\n    uses: a/b@main\n")))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_read_only_but_for_publishing(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    rights = [job["permissions"] for job in jobs(path) if "permissions" in job]
    assert rights == ([{"id-token": "write"}] if path.name == "release.yml" else [])
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert all("timeout-minutes" in job for job in jobs(path) if "permissions" not in job)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_is_run_exists_here(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for job in jobs(path) for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in arguments)
        else:
            assert os.access(ROOT / program, os.X_OK)


def test_forms_for_issues_warn_of_texts_that_do_not_belong_there() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "labels", "body"} == set(form)
        assert "harmful text" in path.read_text(encoding="utf-8") or "harmful prompts" in path.read_text(
            encoding="utf-8"
        )
