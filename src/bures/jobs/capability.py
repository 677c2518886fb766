"""Capability tasks under an intervention, by whoever offers them (entry point group `bures.capability`).

`bures.integrations.lm_eval` offers lm-eval's. A task is asked for by its name; that of another suite is written
`SUITE:TASK`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.stats import Measurement

DEFAULT = "lm-eval"
"""The suite of tasks that are named without one."""


@runtime_checkable
class Suite(Protocol):
    """Scores a model on tasks."""

    @property
    def name(self) -> str:
        """What stands before the colon."""
        ...

    def prepare(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """Whatever can go wrong before a model is loaded does so here.

        Returns:
            Package -> version, of what the figures depend on besides.

        Raises:
            ConfigError: something is missing, or a task is unknown.
        """
        ...

    def evaluate(
        self, model: ChatModel, tasks: Sequence[str], intervention: Intervention, *, limit: int | None = None
    ) -> Mapping[str, Measurement]:
        """Figure -> measurement, on at most `limit` questions of every task, the first ones."""
        ...


SUITES: Mapping[str, Suite] = Registry("bures.capability", Suite, {})
"""Those of installed packages, bures' own plug-ins among them (entry point group `bures.capability`)."""


def by_suite(tasks: Sequence[str]) -> dict[str, list[str]]:
    """Suite -> its tasks, in the order in which they were asked for.

    Raises:
        ConfigError: a suite is unknown.
    """
    found: dict[str, list[str]] = {}
    for task in tasks:
        suite, colon, name = task.partition(":")
        found.setdefault(suite if colon else DEFAULT, []).append(name if colon else task)
    for suite in found:
        if suite not in SUITES:
            raise ConfigError(
                f"no capability suite {suite!r} is installed; expected one of {', '.join(SUITES) or '(none)'}, "
                "and tasks as TASK or SUITE:TASK"
            )
    return found


def prepare(tasks: Sequence[str]) -> dict[str, str]:
    """Lets the suites of the tasks complain of what they lack; the versions on which their figures depend."""
    found: dict[str, str] = {}
    for suite, names in by_suite(tasks).items():
        found |= SUITES[suite].prepare(names)
    return found


def evaluate(
    model: ChatModel, tasks: Sequence[str], intervention: Intervention, *, limit: int | None = None
) -> dict[str, Measurement]:
    """Every task's figures under an intervention; those of a suite that is not the default as `SUITE:FIGURE`."""
    found: dict[str, Measurement] = {}
    for suite, names in by_suite(tasks).items():
        figures = SUITES[suite].evaluate(model, names, intervention, limit=limit)
        found |= {name if suite == DEFAULT else f"{suite}:{name}": figure for name, figure in figures.items()}
    return found
