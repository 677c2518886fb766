"""Files that are there when they are said to be: whole, and on the disk, before anybody is told.

    write    a temporary file of its own name, fsync, rename over the target, fsync of the folder
    append   the lines, fsync; fsync of the folder where the file is new

A process that is killed in between leaves the old file or the new one, and at most a temporary file, which
`remove_unfinished` takes away. A machine that loses power does so too, on any filesystem that keeps what fsync promised
(POSIX.1-2017, fsync and rename; why the folder as well: Pillai et al., "All File Systems Are Not Created Equal", OSDI
2014).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

_END = ".part"
"""What temporary names end with; they begin with a point."""


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Generator[Path]:
    """A temporary file beside `path`, empty, that takes its place when the block ends without an error.

    Args:
        path: of the file.
        private: whether only its owner may read it (mode 0600); else what the umask allows.

    Raises:
        OSError: the disk is full, or the folder cannot be written; `path` is then as it was.
    """
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}{_END}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Writes a file whole or not at all; text in UTF-8.

    Raises:
        OSError: see `replacing`.
    """
    with replacing(path, private=private) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that anybody may have written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON in UTF-8, is nested without end, or holds something else than an object.
    """
    try:
        held: object = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(held, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004 - as of any text that is none
    return cast("dict[str, Any]", held)


def append(path: Path, content: str, *, private: bool = False) -> None:
    """Adds text, in UTF-8, to the end of a file. Cut off in the middle, it may leave a part of it there.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    is_new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600 if private else 0o666)
    with os.fdopen(handle, "wb") as file:
        file.write(content.encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def make_folder(path: Path, *, private: bool = False) -> None:
    """Makes a folder and those above it, each on the disk; one that is there already is left as it is.

    Raises:
        OSError: it cannot be made, or something else has its name.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700 if private else 0o777, exist_ok=True)
        sync_folder(each.parent)
    path.mkdir(exist_ok=True)  # raises where a file has the name


def sync_tree(folder: Path) -> None:
    """Puts every file and folder below, and the folder itself, on the disk: before it is renamed into its place."""
    for where, _, files in os.walk(folder):
        for name in files:
            _sync(Path(where) / name, os.O_RDONLY)
        sync_folder(Path(where))


def sync_folder(path: Path) -> None:
    """Puts a folder's names on the disk, where the filesystem lets a folder be synced.

    Raises:
        OSError: the disk does not take them.
    """
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files that killed processes left in a folder that nobody else writes."""
    for left in folder.glob(f".*{_END}"):
        if left.is_file():
            left.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
