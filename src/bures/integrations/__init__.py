"""bures among the tools that its users already have: each imports its package only when it is used.

inspect_provider, inspect_task   Inspect AI: the model under an intervention, and the audit's prompts as a task
lm_eval, capability_tasks        lm-eval: capability under an intervention, with task data that need no network
vllm_engine, vllm_probe          an audit's answers by vLLM, after a check that it computes the same
vllm_worker                      the maps, inside vLLM's workers
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bures.errors import ConfigError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports of an optional package go inside; a missing one becomes one line.

    Raises:
        ConfigError: with the pip line.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(f"the package {error.name} is not installed; pip install 'bures[{extra}]'") from error
