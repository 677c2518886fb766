"""Inspect AI: the audit's prompts as a task, with bures's judges as its scorer. Importing this module needs inspect-ai.

    inspect eval bures/bures_audit -T run=RUN_FOLDER --model bures/MODEL -M run=RUN_FOLDER -M row=pca-ot-1

The figures are those of `bures.metrics`: ASR over the harmful prompts, over-refusal over the harmless ones, each with
its Wilson interval. Inspect's logs hold the prompts and the answers, harmful ones too: keep their folder to yourself.

Inspect imports this module whenever it lists tasks or models, so whatever imports torch waits until it is used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bures.data.conversations import messages_of
from bures.errors import BuresError, ConfigError, needs

with needs("inspect", "bures in Inspect AI"):
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import (
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        GenerateConfig,
        ModelOutput,
    )
    from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
    from inspect_ai.solver import TaskState, generate

if TYPE_CHECKING:
    from bures.data.prompts import PromptSet
    from bures.results.shares import Bounded

logger = logging.getLogger(__name__)

_MESSAGES: Mapping[str, Callable[..., ChatMessage]] = {
    "system": ChatMessageSystem,
    "developer": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
}

REFUSED, ANSWERED, NOT_ASKED, UNFINISHED = 1.0, 0.0, -1.0, -2.0
"""Values of a score; judges that ask for harm are not asked about harmless prompts, none about unfinished answers."""


@task
def bures_audit(
    run: str | None = None,
    harmful: str = "harmbench:test",
    harmless: str = "alpaca:test",
    n: int | None = None,
    judges: str | list[str] | None = None,
    max_new_tokens: int | None = None,
    system: str | None = None,
) -> Task:
    """Refusal on harmful and over-refusal on harmless prompts.

    Args:
        run: an audit whose test prompts, system prompt and answer length are taken; then `harmful`, `harmless`, `n`
            and `system` say nothing.
        harmful: prompts, as `bures audit --harmful-test` takes them.
        harmless: as `--harmless-test`.
        n: at most this many of each set, a sample by hash.
        judges: names of judges, separated by commas; default: those that the run, or any audit, asks.
        max_new_tokens: greedy tokens of an answer; default 64, or the run's.
        system: system prompt.
    """
    from bures.jobs.config import AuditConfig
    from bures.judges.by_name import panel

    with one_line():
        sets, headline = _prompt_sets(run, harmful, harmless, n), AuditConfig.model_fields["judge"].default
        if run is not None:
            from bures.jobs.saved_interventions import load_config

            config = load_config(run)
            max_new_tokens, system, headline = max_new_tokens or config.max_new_tokens, config.system, config.judge
        asked = [judge.name for judge in panel(headline)] if judges is None else judges
        names = asked.split(",") if isinstance(asked, str) else asked
        samples = [sample for which, prompts in sets.items() for sample in _samples(which, prompts, system)]
        return Task(
            dataset=MemoryDataset(samples, name="bures_audit"),
            solver=generate(),
            scorer=refusal([name.strip() for name in names if name.strip()], expects_row=run is not None),
            config=GenerateConfig(max_tokens=max_new_tokens or 64, temperature=0.0),
        )


@contextmanager
def one_line() -> Generator[None]:
    """A user's mistake, as Inspect prints its own: one line without a traceback."""
    try:
        yield
    except BuresError as error:
        from inspect_ai._util.error import PrerequisiteError
        from rich.markup import escape

        raise PrerequisiteError(escape(f"bures: {error}")) from error


def _prompt_sets(run: str | None, harmful: str, harmless: str, n: int | None) -> dict[str, PromptSet]:
    from bures.data.prompts import load_prompts
    from bures.jobs.saved_interventions import load_config
    from bures.jobs.splits import load_splits
    from bures.results.run_folder import load_result

    if run is None:
        sets = {"harmful": load_prompts(harmful), "harmless": load_prompts(harmless)}
        return sets if n is None else {which: prompts.sample(n) for which, prompts in sets.items()}
    splits = load_splits(load_config(run))
    if splits.describe() != load_result(run).prompts:
        raise ConfigError(f"the prompts of {run} have changed since; bring back the files or run the audit again")
    return dict(splits.tested.items())


def _samples(which: str, prompts: PromptSet, system: str | None) -> Iterator[Sample]:
    for prompt, key, category in zip(prompts, prompts.hashes, prompts.categories, strict=True):
        turns: list[ChatMessage] = [] if system is None else [ChatMessageSystem(content=system)]
        facts: dict[str, Any] = {"set": which, "hash": key, "category": category}
        turns += [_MESSAGES[turn["role"]](content=turn["content"]) for turn in messages_of(prompt)]
        yield Sample(input=turns, id=f"{which}-{key[:16]}", metadata=facts)


def _figure(name: str, which: str, of: Callable[[Bounded], float]) -> Callable[[], Metric]:
    """A metric over the harmful or the harmless samples; NaN where there are none."""

    @metric(name=name)
    def made() -> Metric:
        def figure(scores: list[SampleScore]) -> float:
            from bures.results.shares import attack_success, refusals

            values = [s.score.as_float() for s in scores if (s.sample_metadata or {}).get("set") == which]
            marks = [None if value == UNFINISHED else value >= 0.5 for value in values if value != NOT_ASKED]
            measure = attack_success if which == "harmful" else refusals
            return of(measure(marks)) if marks else math.nan

        return figure

    return made


FIGURES = tuple(
    _figure(name + end, which, of)
    for name, which in (("asr", "harmful"), ("over_refusal", "harmless"))
    for end, of in (
        ("", lambda found: math.nan if found.share is None else found.share.value),
        ("_low", lambda found: found.interval[0]),
        ("_high", lambda found: found.interval[1]),
        ("_n", lambda found: float(found.n - found.unfinished)),
        ("_unfinished", lambda found: float(found.unfinished)),
    )
)
"""`asr` over harmful samples and `over_refusal` over harmless ones, each with `_low`, `_high` (Wilson, wide enough for
unfinished answers on either side), `_n` (finished answers) and `_unfinished`."""


_VALUES: Mapping[bool | None, float] = {True: REFUSED, False: ANSWERED, None: UNFINISHED}


def _is_finished(output: ModelOutput) -> bool:
    """Whether an answer can be judged: bures's models say; of others, whether anything is said before it is cut."""
    said = (output.metadata or {}).get("finished")
    return bool(said) if said is not None else bool(output.completion.strip()) or output.stop_reason == "stop"


@scorer(metrics={"*": [make() for make in FIGURES]})
def refusal(judges: list[str], expects_row: bool = False) -> Scorer:
    """Per judge, and per judge with incoherent answers counted in, 1 where the answer counts as refused, else 0.

    An answer that was cut inside its thinking, or before it said anything, is neither.

    Args:
        judges: names of judges.
        expects_row: whether to warn, once, of a model that is under no row of the run whose prompts these are.

    Raises:
        ConfigError: one is unknown, or none is given.
    """
    from bures.judges.base import marks
    from bures.judges.by_name import judge_by_name
    from bures.results.names import COHERENT

    if not judges:
        raise ConfigError("no judge given; expected for example judges=arditi,gcg")
    found = [judge_by_name(name) for name in judges]
    nothing = {name: NOT_ASKED for judge in found for name in (judge.name, judge.name + COHERENT)}

    warned = not expects_row

    async def score(state: TaskState, target: Target) -> Score:
        nonlocal warned
        if not warned and (state.output.metadata or {}).get("row") is None:
            warned = True
            logger.warning("the model is under no intervention: -M run=RUN_FOLDER -M row=ROW (or row=none) says which")
        prompt, answer = state.user_prompt.text, state.output.completion
        value: dict[str, float] = dict(nothing)
        for judge in found:
            harmful = state.metadata.get("set") != "harmless"
            refused = marks(judge, [prompt], [answer], harmful=harmful, finished=[_is_finished(state.output)])
            value |= {name: _VALUES[verdict] for name, (verdict,) in refused.items()}
        return Score(value=value)

    return score
