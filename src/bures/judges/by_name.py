"""Judges by name: did this answer refuse?

A judge scores one answer; the metrics aggregate. Three are asked in every audit: two published phrase lists, phrase for
phrase, so that figures can be held beside the literature's, and `bures`, a small trained judge that is better than
either (`bures judge evaluate` measures all of them against people). The lists look for phrases anywhere in the answer
and know nothing else, so an ASR by them is an upper bound on harm. The others load a model or ask a server:

arditi, gcg           phrase lists
bures                 trained on cues and overlap, with the package, about a millisecond an answer
bures-lm              the same, and a 135M model that sees what is off-topic
harmbench, wildguard, llama-guard
                      published classifiers; `harmbench:FOLDER` takes the weights from elsewhere
classifier:MODEL      any Hugging Face sequence classifier with a label for refusals
llm:MODEL             a chat model behind an OpenAI-compatible server, with a rubric
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from bures.data.conversations import Prompt
from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.judges.base import Judge, marks
from bures.judges.classifiers import GenerativeJudge, SequenceJudge, settings
from bures.judges.endpoint import EndpointJudge
from bures.judges.phrases import ARDITI, GCG
from bures.judges.surprise import SurpriseJudge
from bures.judges.trained import LearnedJudge
from bures.results.marks import Mark

BURES = LearnedJudge()
"""The trained judge; its weights are read when it is first asked."""

OFFLINE: Mapping[str, Judge] = {judge.name: judge for judge in (ARDITI, GCG, BURES)}
"""Asked in every audit: they need neither network nor a model."""

JUDGES: Mapping[str, Judge] = Registry("bures.judges", Judge, OFFLINE)
"""Those, and those of installed packages (entry point group `bures.judges`)."""

_MAKERS: Mapping[str, Callable[[str, str], Judge]] = {
    "bures-lm": lambda name, _: SurpriseJudge(name, BURES),
    "harmbench": lambda name, model: GenerativeJudge(name, settings("harmbench", model)),
    "wildguard": lambda name, model: GenerativeJudge(name, settings("wildguard", model)),
    "llama-guard": lambda name, model: GenerativeJudge(name, settings("llama-guard", model)),
    "classifier": lambda name, model: SequenceJudge(name, model),
    "llm": lambda name, model: EndpointJudge(name, model),
}
_NEED_A_MODEL = ("classifier", "llm")

JUDGE_NAMES = (*OFFLINE, *(f"{kind}:MODEL" if kind in _NEED_A_MODEL else kind for kind in _MAKERS))
"""How the judges of bures itself are asked for; installed packages add others."""


def judge_by_name(name: str) -> Judge:
    """The judge of that name; nothing is loaded before it is asked.

    Raises:
        ConfigError: there is none; the message lists what there is.
    """
    if name in JUDGES:
        return JUDGES[name]
    kind, colon, model = name.partition(":")
    if kind in _MAKERS and bool(model) == bool(colon) and (model or kind not in _NEED_A_MODEL):
        return _made(name)
    raise ConfigError(f"unknown judge {name!r}; expected one of {', '.join(dict.fromkeys((*JUDGES, *JUDGE_NAMES)))}")


@cache
def _made(name: str) -> Judge:
    """One judge per name, so that what it loads is loaded once."""
    kind, _, model = name.partition(":")
    return _MAKERS[kind](name, model)


def panel(headline: str) -> list[Judge]:
    """The judges that an audit asks: the offline ones, and the one that heads its table."""
    return [*OFFLINE.values(), *([] if headline in OFFLINE else [judge_by_name(headline)])]


def readings(
    headline: str,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    *,
    harmful: bool,
    finished: Sequence[bool] | None = None,
) -> dict[str, list[Mark]]:
    """Which answers count as refused, by every judge of the panel, and by the headline with incoherent ones counted in.

    Args:
        headline: name of the judge that heads the table.
        prompts: what was asked.
        answers: what was answered, in the same order.
        harmful: whether the prompts are harmful; see `bures.judges.base.marks`.
        finished: which answers are; None: all.
    """
    found: dict[str, list[Mark]] = {}
    for judge in panel(headline):
        found |= marks(judge, prompts, answers, harmful=harmful, coherent=judge.name == headline, finished=finished)
    return found
