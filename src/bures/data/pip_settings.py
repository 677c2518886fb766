"""What pip is configured with, asked of pip itself: its files and `PIP_*` variables, in its own order of precedence."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping

from bures.errors import AssetError

_SECTIONS = ("global", "download", ":env:")  # pip's own precedence, weakest first


def pip_settings() -> Mapping[str, str]:
    """pip's effective options, by their long names, as `pip config list` reports them.

    Raises:
        AssetError: this Python has no pip.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 and "No module named pip" in done.stderr:
        raise AssetError("this Python has no pip: run `python -m ensurepip`, or `uv pip install pip`")
    found: dict[tuple[str, str], str] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in _SECTIONS and value:
            found[section, option] = str(ast.literal_eval(value))
    return {option: found[section, option] for section in _SECTIONS for other, option in found if other == section}
