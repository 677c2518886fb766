"""Packages as pip would have put them, entry points included, without pip."""

from __future__ import annotations

import tomllib
from pathlib import Path

import bures

ROOT = Path(__file__).parents[2]


def install(site: Path, project: Path, module: Path) -> None:
    """Puts the module or package of a project, and what its `pyproject.toml` says of it, into a folder."""
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = about.get("version", bures.__version__)  # bures's own stands in its sources
    info = site / f"{about['name'].replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / module.name).symlink_to(module)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {version}\n")
    lines = []
    for group, points in about["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
