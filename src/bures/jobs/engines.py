"""Who answers an audit's test prompts: the transformers model of this process, or what an installed package offers.

A package adds one by entry point (group `bures.engines`), as `bures.integrations.vllm_engine` does for vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, runtime_checkable

from bures.data.conversations import Prompt
from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.models.generation import Engine, HereEngine


@runtime_checkable
class Backend(Protocol):
    """A way to get an engine."""

    @property
    def name(self) -> str:
        """What `--backend` calls it."""
        ...

    def prepare(self) -> Mapping[str, str]:
        """Whatever can go wrong before a model is loaded does so here.

        Returns:
            Package -> version, of what the figures depend on besides.

        Raises:
            ConfigError: something is missing; the message says what to install.
        """
        ...

    def engine(self, config: Any, here: HereEngine, prompts: Sequence[Prompt]) -> AbstractContextManager[Engine]:
        """The engine, for the length of a `with` block.

        Args:
            config: the audit's options (an `AuditConfig`).
            here: the transformers model, which answers what the engine cannot.
            prompts: all that it will be asked.
        """
        ...


class Transformers:
    """The transformers model in this process."""

    name = "transformers"

    def prepare(self) -> Mapping[str, str]:
        """Nothing to prepare."""
        return {}

    def engine(self, config: Any, here: HereEngine, prompts: Sequence[Prompt]) -> AbstractContextManager[Engine]:
        """The model itself."""
        return nullcontext(here)


BACKENDS: Mapping[str, Backend] = Registry("bures.engines", Backend, {"transformers": Transformers()})
"""transformers, and those of installed packages (entry point group `bures.engines`)."""


def backend_of(name: str) -> Backend:
    """The backend of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}; expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name]
