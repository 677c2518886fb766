"""The home folder, which an unknown user without `HOME` does not have."""

from __future__ import annotations

import os
from pathlib import Path

from bures.errors import AssetError, ConfigError

_WHY = "HOME is not set, and the system does not know this user"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with its `~` spelled out.

    Raises:
        ConfigError: it has one, and there is no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot tell what ~ is in {os.fspath(path)}: {_WHY}; write the whole path") from error


def default_cache() -> Path:
    """The folder of caches in the user's home.

    Raises:
        AssetError: there is no home folder.
    """
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:
        raise AssetError(f"no place for the cache: {_WHY}; set BURES_CACHE to a folder that can be written") from error


def require_hub_cache(what: str) -> None:
    """Refuses to download where the hub's library would keep it in a folder named `~` beside the user's files.

    Raises:
        AssetError: there is no home folder, and no variable names another.
    """
    named = any(os.environ.get(name) for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"))
    if not named and os.path.expanduser("~") == "~":  # noqa: PTH111  # as the hub's library asks
        raise AssetError(f"no place for {what}: {_WHY}; set HF_HOME to a folder that can be written")
