"""Further figures of an audit's rows, that installed packages add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bures.data.extensions import Registry
from bures.models.loading import ChatModel
from bures.results.stats import Measurement


@dataclass(frozen=True)
class Answers:
    """Test prompts and the greedy answers to them, in the same order. Both are untrusted text."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]


@runtime_checkable
class Metric(Protocol):
    """One further figure of every row of an audit, asked for by name."""

    @property
    def name(self) -> str:
        """What stands beside the figure."""
        ...

    def measure(self, model: ChatModel, harmful: Answers, harmless: Answers) -> Measurement:
        """The figure, from the row's answers or from `model`, to which the row's intervention is applied meanwhile."""
        ...


METRICS: Mapping[str, Metric] = Registry("bures.metrics", Metric, {})
"""Those of installed packages (entry point group `bures.metrics`)."""
