"""Memory that runs out in the middle of a job: batches get smaller from there on, and nothing computed is lost.

The one place that does it is `Room.trying`, around the pass of one batch. It remembers for its model, and for each kind
of pass, how many tokens were too many, so that later passes do not run into the same wall.
"""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from bures.errors import ModelError

PREFIX = "Memory ran out"
"""How notes of smaller batches begin."""

A_PASS, A_PASS_ELSEWHERE = 48, 512
"""What a pass costs besides its tokens, in tokens: reading the weights and calling the blocks, on a CPU and elsewhere.

On one core it was 55 with the organism and 34 with Qwen2.5-Coder-0.5B in bfloat16, 22 with the organism in float32 (a
line through the times of six blocks on 40 to 1,920 tokens). Elsewhere it was not measured.
"""

READING = frozenset({"activations", "perplexity"})
"""Kinds of passes over whole texts behind which nothing goes on; answers want as many rows as there is room for."""

_SAID = re.compile(r"out of memory|allocate memory|not enough memory|_ALLOC_FAILED", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; torch says so on CPUs in a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None


@dataclass
class Attempt:
    """One batch that is tried; `failed` where memory ran out."""

    failed: bool = False


@dataclass
class Room:
    """Token budgets that a machine turned out to have for a model.

    Attributes:
        budgets: kind of pass -> padded tokens of a batch; kinds in which memory never ran out are left out.
        quickest: padded tokens of a batch beyond which passes that only read get slower; None: not measured.
        a_pass: what a pass costs besides its tokens, in tokens.
    """

    budgets: dict[str, int] = field(default_factory=dict[str, int])
    quickest: int | None = None
    a_pass: int = A_PASS

    def budget(self, work: str, asked: int) -> int:
        """Padded tokens of a batch in one kind of pass, at most those asked for."""
        most = min(asked, self.quickest) if work in READING and self.quickest is not None else asked
        return min(most, self.budgets.get(work, most))

    @classmethod
    def on(cls, device: torch.device) -> Room:
        """Of a model on a device."""
        return cls(a_pass=A_PASS if device.type == "cpu" else A_PASS_ELSEWHERE)

    @contextmanager
    def trying(self, work: str, rows: int, width: int) -> Generator[Attempt]:
        """Around the pass of one batch: where memory runs out, its kind of pass has half the tokens from now on.

        Args:
            work: the kind of pass, in a word or two.
            rows: of the batch.
            width: tokens of each row, those included that it grows by.

        Raises:
            ModelError: memory ran out on one row.
        """
        attempt = Attempt()
        try:
            yield attempt
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _let_go(error)
            if rows < 2:
                raise ModelError(
                    f"memory ran out on a single prompt of {width} tokens ({work}); shorten it or its answer, take a "
                    "smaller number format (--dtype bfloat16), or give the model more memory (--device auto)"
                ) from None
            attempt.failed = True
            self.budgets[work] = rows // 2 * width

    def notes(self) -> tuple[str, ...]:
        """What a reader of the results has to know."""
        return tuple(
            f"{PREFIX} ({work}): batches of at most {tokens:,} tokens were computed from there on."
            for work, tokens in self.budgets.items()
        )


def _let_go(error: BaseException) -> None:
    """Drops what the failed pass still holds."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__context__
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
