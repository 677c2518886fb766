"""Who writes a run: one process at a time, and what the operating system says about it in one line."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bures.errors import RunError


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns what the operating system says into one line.

    Args:
        path: of the run folder.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"no space left for the run folder {path}; what was finished is kept: "
                "free some space and give the same command to continue"
            ) from error
        raise RunError(f"cannot write the run folder {path} ({error.strerror}); choose another with --out") from error


@contextmanager
def alone(path: Path, lock: Path, refusal: str) -> Generator[None]:
    """Inside the block no other process has the lock; the kernel lets go of it when its owner dies.

    Args:
        path: of the run folder.
        lock: the file that is held locked; its folder exists.
        refusal: what is said where another process holds it.

    Raises:
        RunError: another process, or another block of this one, holds it, or the folder cannot be written.
    """
    with ExitStack() as stack:
        with writing(path):
            try:
                stack.enter_context(FileLock(lock, blocking=False, thread_local=False))
            except Timeout as error:
                raise RunError(refusal) from error
        yield
