"""What a release must hold: run over the built sdist and wheel before they are published.

    python tests/release_files.py dist [--tag v0.1.0] [--sbom sbom.cdx.json]

The wheel holds the package as it lies in `src`, file by file, `py.typed` and the weights included, and nothing else.
The sdist holds what is needed to build, test and document it. The list (CycloneDX) of what an empty environment then
holds names every dependency with its version. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SDIST = (
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CITATION.cff",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "locks/all.txt",
    "mkdocs.yml",
    "docs/hooks.py",
    "examples/plugin/bures_plugin.py",
    "recipes/demo.toml",
    "tests/conftest.py",
    "benchmarks/scan.py",
)


def of_package(root: Path) -> set[str]:
    """Files of the package, relative to `src`."""
    files = (path for path in (root / "src" / "bures").rglob("*") if path.is_file())
    return {path.relative_to(root / "src").as_posix() for path in files if "__pycache__" not in path.parts}


def faults_of_wheel(names: set[str], root: Path) -> list[str]:
    """What is missing from a wheel, and what does not belong there."""
    expected = of_package(root)
    found = {name for name in names if ".dist-info/" not in name}
    faults = [f"the wheel lacks {name}" for name in sorted(expected - found)]
    faults += [f"the wheel holds {name}, which is not in src" for name in sorted(found - expected)]
    faults += [f"the package lacks {name}" for name in ("bures/py.typed",) if name not in expected]
    for part in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if not any(name.endswith(f".dist-info/{part}") for name in names):
            faults.append(f"the wheel lacks {part}")
    return faults


def faults_of_sdist(names: set[str], root: Path) -> list[str]:
    """What is missing from an sdist; names are relative to its one folder."""
    expected = {f"src/{name}" for name in of_package(root)} | set(SDIST)
    return [f"the sdist lacks {name}" for name in sorted(expected - names)]


def faults_of_version(version: str, tag: str | None, changelog: str, citation: str) -> list[str]:
    """Places that disagree with the version that was built. Without a tag, only the citation is asked."""
    faults: list[str] = []
    if not re.search(rf"^version: {re.escape(version)}$", citation, flags=re.MULTILINE):
        faults.append(f"CITATION.cff does not say version: {version}")
    if tag is None:
        return faults
    if tag != f"v{version}":
        faults.append(f"the tag is {tag}, but what was built is {version}; expected the tag v{version}")
    if not re.search(rf"^## {re.escape(version)}$", changelog, flags=re.MULTILINE):
        faults.append(f"CHANGELOG.md has no heading '## {version}' (without 'unreleased')")
    return faults


def faults_of_sbom(text: str, version: str, dependencies: list[str]) -> list[str]:
    """What a CycloneDX list lacks: the package of this version, and a version of everything that it depends on."""
    found = {_plain(each["name"]): each.get("version", "") for each in json.loads(text)["components"]}
    faults = [] if found.get("bures") == version else [f"the SBOM has not bures {version} but {found.get('bures')}"]
    names = (re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0] for line in dependencies)
    return faults + [f"the SBOM lacks {name}" for name in names if not found.get(_plain(name))]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str] | None = None) -> int:
    """Names every fault; 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag")
    parser.add_argument("--sbom", type=Path)
    options = parser.parse_args(arguments)
    wheels, sdists = sorted(options.folder.glob("*.whl")), sorted(options.folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        print(f"{options.folder} holds {len(wheels)} wheels and {len(sdists)} sdists; expected one of each")
        return 1
    with zipfile.ZipFile(wheels[0]) as wheel, tarfile.open(sdists[0]) as sdist:
        in_wheel = {name for name in wheel.namelist() if not name.endswith("/")}
        in_sdist = {member.name.split("/", 1)[1] for member in sdist if member.isfile()}
    version = wheels[0].name.split("-")[1]
    faults = faults_of_wheel(in_wheel, ROOT) + faults_of_sdist(in_sdist, ROOT)
    faults += faults_of_version(version, options.tag, *(_text(name) for name in ("CHANGELOG.md", "CITATION.cff")))
    if options.sbom is not None:
        about = tomllib.loads(_text("pyproject.toml"))["project"]
        faults += faults_of_sbom(options.sbom.read_text(encoding="utf-8"), version, about["dependencies"])
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{wheels[0].name}: {len(in_wheel)} files; {sdists[0].name}: {len(in_sdist)} files; {len(faults)} faults")
    return 1 if faults else 0


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
