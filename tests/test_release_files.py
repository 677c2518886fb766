"""The check of a release finds what it is there to find; it runs over real builds in `make release-check`."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

import release_files
from release_files import ROOT, SDIST, faults_of_sbom, faults_of_sdist, faults_of_version, faults_of_wheel, of_package

INFO = {f"bures-0.1.0.dist-info/{name}" for name in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE")}


def test_the_package_says_that_it_is_typed_and_is() -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "Typing :: Typed" in about["classifiers"]
    assert files("bures").joinpath("py.typed").is_file()


def test_a_wheel_is_the_package_and_nothing_else() -> None:
    whole = of_package(ROOT) | INFO
    assert {"bures/py.typed", "bures/data/organism/adapter_model.safetensors"} < whole
    assert faults_of_wheel(whole, ROOT) == []
    assert faults_of_wheel(whole - {"bures/py.typed"}, ROOT) == ["the wheel lacks bures/py.typed"]
    assert faults_of_wheel(whole | {"tests/conftest.py"}, ROOT) == [
        "the wheel holds tests/conftest.py, which is not in src"
    ]
    assert faults_of_wheel(whole - {"bures-0.1.0.dist-info/licenses/LICENSE"}, ROOT) == [
        "the wheel lacks licenses/LICENSE"
    ]


def test_a_package_without_its_marker_is_found(tmp_path: Path) -> None:
    (tmp_path / "src" / "bures").mkdir(parents=True)
    assert "the package lacks bures/py.typed" in faults_of_wheel(INFO, tmp_path)


def test_an_sdist_can_be_built_tested_and_documented() -> None:
    whole = {f"src/{name}" for name in of_package(ROOT)} | set(SDIST)
    assert faults_of_sdist(whole, ROOT) == []
    assert faults_of_sdist(whole - {"recipes/demo.toml"}, ROOT) == ["the sdist lacks recipes/demo.toml"]
    assert all((ROOT / name).is_file() for name in SDIST)


@pytest.mark.parametrize(
    ("tag", "changelog", "citation", "words"),
    [
        (None, "## 0.1.0 (unreleased)\n", "version: 0.1.0\n", []),
        ("v0.1.0", "## 0.1.0\n", "version: 0.1.0\n", []),
        ("v0.1.0", "## 0.1.0 (unreleased)\n", "version: 0.1.0\n", ["CHANGELOG.md has no heading"]),
        ("v0.2.0", "## 0.1.0\n", "version: 0.1.0\n", ["expected the tag v0.1.0"]),
        (None, "", "version: 0.1.01\n", ["CITATION.cff"]),
    ],
)
def test_version_tag_changelog_and_citation_agree(
    tag: str | None, changelog: str, citation: str, words: list[str]
) -> None:
    faults = faults_of_version("0.1.0", tag, changelog, citation)
    assert len(faults) == len(words)
    assert all(word in fault for word, fault in zip(words, faults, strict=True))


def test_a_list_of_what_is_installed_names_every_dependency() -> None:
    parts = [{"name": "bures", "version": "0.1.0"}, {"name": "POT", "version": "1"}, {"name": "a_b.c", "version": "2"}]
    whole = json.dumps({"components": parts})
    assert faults_of_sbom(whole, "0.1.0", ["pot>=0.9", "a-b-c[x]; python_version > '3'"]) == []
    assert faults_of_sbom(whole, "0.2.0", ["pot>=0.9", "torch>=2"]) == [
        "the SBOM has not bures 0.2.0 but 0.1.0",
        "the SBOM lacks torch",
    ]


def test_built_archives_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release_files.main([str(tmp_path)]) == 1
    assert "0 wheels and 0 sdists; expected one of each" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "bures-0.1.0-py3-none-any.whl", "w") as wheel:
        for name in of_package(ROOT) | INFO:
            wheel.writestr(name, "")
    with tarfile.open(tmp_path / "bures-0.1.0.tar.gz", "w:gz") as sdist:
        for name in {f"src/{name}" for name in of_package(ROOT)} | set(SDIST) - {"LICENSE"}:
            sdist.addfile(tarfile.TarInfo(f"bures-0.1.0/{name}"), io.BytesIO())
    assert release_files.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "the sdist lacks LICENSE" in out
    assert "1 faults" in out
