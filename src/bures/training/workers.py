"""Several processes that train one adapter, each on its rows of every batch: `accelerate launch -m bures harden ...`.

Only the gradients of the LoRA travel. A wrapper around the model's forward pass (DistributedDataParallel) is not used:
training calls the decoder itself, with hooks and from a block in the middle on, and gradients would pass it by.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The processes that share the work; by default this one alone."""

    state: PartialState | None = None

    @staticmethod
    def started(device: str | None = None) -> Workers:
        """Those that a launcher has started; this one alone where none has."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return Workers()
        from accelerate import PartialState

        return Workers(PartialState(cpu=device == "cpu"))

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.state is None else int(self.state.num_processes)

    @property
    def number(self) -> int:
        """Which of them this is, from 0."""
        return 0 if self.state is None else int(self.state.process_index)

    @property
    def writes(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.number == 0

    def device(self, asked: str | None) -> str | None:
        """Where this process computes."""
        return asked if self.state is None else str(self.state.device)

    def mine(self, rows: Sequence[T]) -> list[T]:
        """This process's rows of a batch."""
        return list(rows[self.number :: self.count])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over the processes."""
        if self.state is None:
            return
        for tensor in tensors:
            cast("Any", torch.distributed).all_reduce(tensor)

    def sums(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The sums of figures over the processes, in the order of their names there."""
        if self.state is None:
            return dict(figures)
        from accelerate.utils import gather_object

        every: list[dict[str, float]] = cast("Any", gather_object)([dict(figures)])
        names = dict.fromkeys(name for each in every for name in each)
        return {name: sum(each.get(name, 0.0) for each in every) for name in names}

    @contextmanager
    def first(self) -> Generator[None]:
        """Inside, the one that writes goes first and the others follow, and find what it wrote."""
        with nullcontext() if self.state is None else self.state.main_process_first():
            yield

    def wait(self) -> None:
        """Until all are here."""
        if self.state is not None:
            self.state.wait_for_everyone()
