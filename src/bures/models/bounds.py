"""Bounds of time and memory for what a model's files make this process do: a chat template is a program of a stranger.

transformers renders templates in Jinja's sandbox, which keeps them from files, modules and attributes, but not from
loops that never end and texts that fill the memory.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

from bures.errors import ModelError


class RunawayTemplateError(ModelError):
    """A chat template that does not end, or fills the memory."""


class OutOfTimeError(Exception):
    """What was bounded took too long."""


@contextmanager
def bounded(seconds: float, megabytes: int) -> Generator[None]:
    """Inside the block, Python code ends after some time, and the process grows by so much memory at most.

    Time is bounded in the main thread only, memory on Linux only. Nothing that computes belongs inside: other threads
    share the bound of memory.

    Raises:
        OutOfTimeError: it took longer.
        MemoryError: it wanted more.
    """
    with ExitStack() as stack:
        if sys.platform == "linux":
            stack.enter_context(_memory(megabytes))
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_time(seconds))
        yield


@contextmanager
def _memory(megabytes: int) -> Generator[None]:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (a Path is no quicker to read)
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = used + (megabytes << 20)
    allowed = most if soft == resource.RLIM_INFINITY else min(soft, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _time(seconds: float) -> Generator[None]:
    def over(*_: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)  # of somebody else, who had set one; 0: nobody
        signal.signal(signal.SIGALRM, before)
