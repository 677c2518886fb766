"""What `make` installs is pinned by sha256, holds together, and is all that the package asks for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNHASHED = re.compile(r"torch|triton|(nvidia|cuda)-.+")
"""Where torch comes from decides what its file is, and which of these it brings."""


def entries(text: str) -> Iterator[tuple[Requirement, set[str]]]:
    """Every requirement of a lock with its sums."""
    lines = (line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#"))
    for line in lines:
        words = re.split(r"\s+--hash=", line.strip())
        yield Requirement(words[0]), set(words[1:])


def faults(text: str) -> list[str]:
    """What is not pinned to one version and at least one sha256."""
    return [
        str(wanted)
        for wanted, sums in entries(text)
        if not re.fullmatch(r"==[^,*]+", str(wanted.specifier))
        or not sums
        or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in sums)
    ]


def pins(path: Path) -> set[str]:
    return {f"{canonicalize_name(wanted.name)}{wanted.specifier}" for wanted, _ in entries(path.read_text())}


def names(path: Path) -> set[str]:
    return {pin.partition("==")[0] for pin in pins(path)}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_is_one_version_and_its_sums_from_no_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(list(entries(text))) >= 20
    assert faults(text) == []
    assert "://" not in text
    assert not any(map(UNHASHED.fullmatch, names(path)))


@pytest.mark.parametrize("line", ["a==1", "a>=1 --hash=sha256:" + "0" * 64, "a==1.* --hash=sha256:" + "0" * 64])
def test_what_is_not_pinned_is_found(line: str) -> None:
    good = "b==2 \\\n    --hash=sha256:" + "f" * 64
    assert faults(good) == []
    assert len(faults(f"{good}\n{line}\n")) == 1
    assert len(faults("a==1 --hash=md5:" + "0" * 32)) == 1


def test_locks_are_parts_of_the_constraints() -> None:
    run, test, whole = (pins(ROOT / "locks" / f"{name}.txt") for name in ("run", "test", "all"))
    assert run < test < whole
    constraints = pins(ROOT / "constraints.txt")
    left = {pin for pin in constraints - whole if not UNHASHED.fullmatch(pin.partition("==")[0])}
    assert whole < constraints
    assert left == set()


def needed(wanted: list[str], extras: tuple[str, ...] = ("",)) -> set[str]:
    """Names that these requirements lead to here, as the installed packages themselves say: no resolver has a part."""
    found: set[str] = set()
    ahead = [(Requirement(each), extras) for each in wanted]
    while ahead:
        each, of = ahead.pop()
        name = canonicalize_name(each.name)
        if each.marker is not None and not any(each.marker.evaluate({"extra": extra}) for extra in of):
            continue
        if (name in found and not each.extras) or (UNHASHED.fullmatch(name) and name != "torch"):
            continue
        found.add(name)
        try:
            ahead += [(Requirement(line), ("", *each.extras)) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
    return found


@pytest.mark.parametrize(("lock", "extras"), [("run", []), ("test", ["test"])])
def test_a_lock_holds_all_that_the_installed_packages_ask_for(lock: str, extras: list[str]) -> None:
    wanted = PROJECT["dependencies"] + [line for name in extras for line in PROJECT["optional-dependencies"][name]]
    found = needed(wanted)
    assert len(found) > 40
    assert found - names(ROOT / "locks" / f"{lock}.txt") == {"torch"}


def test_a_package_that_a_lock_lacks_is_found() -> None:
    assert "hypothesis" in needed(PROJECT["optional-dependencies"]["test"]) - names(ROOT / "locks" / "run.txt")


def test_the_build_back_end_is_locked() -> None:
    assert {"hatchling", "editables"} < names(ROOT / "locks" / "run.txt")
