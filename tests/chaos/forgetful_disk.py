"""A disk that keeps only what fsync promised: what a power cut leaves in the worst case that POSIX allows.

A file has the content that it had at its last fsync, none if there was none; a folder has the names that it had at its
last fsync. A rename, a new file and a removal are forgotten until then.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


class PowerCut(BaseException):
    """Nothing after this happened."""


class Disk:
    """The disk under a folder, which is durable as it is now."""

    def __init__(self, root: Path, spare: Path, cut_at: int | None = None) -> None:
        """
        Args:
            root: the folder.
            spare: another on the same filesystem, in which old files are held so that no inode is used twice.
            cut_at: the fsync, counted from 1, after which the power goes; None: never.
        """
        self.root, self.spare, self.cut_at, self.syncs = root, spare, cut_at, 0
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        for path in (root, *root.rglob("*")):
            self._keep(path)

    @contextmanager
    def running(self) -> Generator[None]:
        """Inside the block, what is synced is kept; raises `PowerCut` where the power goes."""
        real = os.fsync

        def fsync(handle: int) -> None:
            real(handle)
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path == self.root or self.root in path.parents:
                self._keep(path)
                self.syncs += 1
                if self.syncs == self.cut_at:
                    raise PowerCut

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            yield

    def _keep(self, path: Path) -> None:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            self._names[about.st_ino] = {each.name: each.stat().st_ino for each in path.iterdir()}
            for each in path.iterdir():
                self._hold(each)
        else:
            self._contents[about.st_ino] = path.read_bytes()
            self._hold(path)

    def _hold(self, path: Path) -> None:
        if path.is_dir():
            self._names.setdefault(path.stat().st_ino, {})
        elif not (held := self.spare / str(path.stat().st_ino)).exists():
            os.link(path, held)

    def left(self, target: Path) -> None:
        """Writes what is left of the folder into `target`."""
        self._write(self.root.stat().st_ino, target)

    def _write(self, inode: int, target: Path) -> None:
        if inode not in self._names:
            target.write_bytes(self._contents.get(inode, b""))
            return
        target.mkdir()
        for name, each in self._names[inode].items():
            self._write(each, target / name)
