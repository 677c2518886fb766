"""What bures itself offers to its entry points: vLLM as an engine, lm-eval as a capability suite.

They are plug-ins like those of any other package: the jobs know them by name alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from bures.data.conversations import Prompt
from bures.integrations import lm_eval, vllm_engine
from bures.jobs.config import AuditConfig
from bures.models.generation import Engine, HereEngine
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.stats import Measurement


class Vllm:
    """`--backend vllm`."""

    name = "vllm"

    def prepare(self) -> Mapping[str, str]:
        """The version of vLLM."""
        return vllm_engine.prepare()

    def engine(
        self, config: AuditConfig, here: HereEngine, prompts: Sequence[Prompt]
    ) -> AbstractContextManager[Engine]:
        """vLLM, started with the first answers."""
        return vllm_engine.VllmEngine(config, here, prompts)


class LmEval:
    """`--tasks` without a suite."""

    name = "lm-eval"

    def prepare(self, tasks: Sequence[str]) -> Mapping[str, str]:
        """The versions of lm-eval and of its data."""
        return lm_eval.prepare(tasks)

    def evaluate(
        self, model: ChatModel, tasks: Sequence[str], intervention: Intervention, *, limit: int | None = None
    ) -> Mapping[str, Measurement]:
        """Accuracies of the tasks."""
        return lm_eval.evaluate(model, tasks, intervention, limit=limit)


VLLM, LM_EVAL = Vllm(), LmEval()
