"""The models of a defence table: finished audits, and whether they can be held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bures.errors import ConfigError, RunError
from bures.jobs.beginning import asked_as, start
from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.progress import Progress
from bures.jobs.run import Run
from bures.jobs.saved_interventions import load_config
from bures.models.loading import ChatModel
from bures.results.names import NONE
from bures.results.run_folder import load_result
from bures.results.schema import AuditResult, SearchResult

_ALIKE = ("judge", "system", "thinking", "thinking_tokens", "max_new_tokens")
"""Options without which answers of two models are no answers to the same."""

_OF_THE_MODEL = frozenset({"adapter"})
"""Options in which audits of a table differ by nature."""


@dataclass(frozen=True)
class Audited:
    """A finished audit.

    Attributes:
        name: of its model, in the table.
        path: of its run folder.
        config: its options.
        result: what it measured.
    """

    name: str
    path: Path
    config: AuditConfig
    result: AuditResult

    @property
    def fingerprint(self) -> str:
        """Of the weights."""
        return self.result.model["fingerprint"]


@dataclass(frozen=True)
class Searched:
    """A finished search.

    Attributes:
        config: its options.
        result: what it found.
    """

    config: SearchConfig
    result: SearchResult


@dataclass(frozen=True)
class Sources:
    """What attacks are taken from besides the audits of the models.

    Attributes:
        before: the audit of the model before it was hardened, whose maps are transferred.
        searches: by the names of the models that they were of.
    """

    before: Audited | None = None
    searches: Mapping[str, Searched] = field(default_factory=dict[str, Searched])


@dataclass(frozen=True)
class Target:
    """A model that is attacked.

    Attributes:
        audit: of it.
        run: its prompts and the model, loaded.
    """

    audit: Audited
    run: Run[AuditConfig, AuditResult]

    @property
    def model(self) -> ChatModel:
        """The model."""
        return self.run.model

    @property
    def trial_tokens(self) -> int:
        """Upper bound on an answer's tokens where something is chosen, as in the audit."""
        return self.audit.result.trial_tokens or self.audit.config.select_tokens


def read_audit(name: str, path: Path) -> Audited:
    """A finished audit.

    Raises:
        RunError: the folder holds none, or one that has not ended.
        ConfigError: its options are not of this bures, or it has no row of the model as it is.
    """
    result = load_result(path)
    if result.status != "complete":
        raise RunError(f"the audit in {path} has not ended; give its command again to finish it ({result.command})")
    if not result.rows or result.rows[0].method != NONE or result.rows[0].error is not None:
        raise ConfigError(f"the audit in {path} has no row of the model as it is; run it again")
    return Audited(name, path, load_config(path), result)


def read_search(audit: Audited, path: Path) -> Searched:
    """A finished search of an audit's model.

    Raises:
        RunError: the folder holds none, or one that has not ended.
        ConfigError: it is of another model.
    """
    result = load_result(path, SearchResult)
    if result.status != "complete":
        raise RunError(f"the search in {path} has not ended; give its command again to finish it ({result.command})")
    if result.model["fingerprint"] != audit.fingerprint:
        raise ConfigError(f"--search: {path} is of another model than {audit.name}; search {audit.name} itself")
    return Searched(load_config(path, SearchConfig), result)


def require_alike(audits: Sequence[Audited]) -> list[str]:
    """Refuses audits whose answers are no answers to the same; says in which other options they differ.

    Raises:
        ConfigError: they have other harmful test prompts, another judge, system prompt, or length of answers.
    """
    first, *others = audits
    said: list[str] = []
    for other in others:
        if first.result.tested["harmful"].hashes != other.result.tested["harmful"].hashes:
            raise ConfigError(f"{first.name} and {other.name} have other harmful test prompts; audit both on the same")
        differing = _differing(first, other)
        if {*_ALIKE} & {*differing}:
            names = ", ".join(name for name in differing if name in _ALIKE)
            raise ConfigError(f"{first.name} and {other.name} differ in {names}; audit both with the same")
        if differing:
            said.append(
                f"The audits of {first.name} and {other.name} differ in more than the adapter "
                f"({', '.join(differing)}): what is seen between them may be due to that."
            )
    return said


def _differing(first: Audited, other: Audited) -> list[str]:
    """Options in which two audits differ, but for the adapter and for other names of the same prompts."""
    one, two = ({**each.config.options, "judge": each.result.judge} for each in (first, other))
    digests = [{name: about.get("sha256") for name, about in each.result.prompts.items()} for each in (first, other)]
    same = {name for name, digest in digests[0].items() if digest == digests[1].get(name)}
    return [name for name in one if one[name] != two.get(name) and name not in same | _OF_THE_MODEL]


def load_target(audit: Audited, progress: Progress) -> Target:
    """The model of an audit, loaded, with the audit's prompts.

    Raises:
        ConfigError: the model or the prompts have changed since the audit.
        ModelError: the model cannot be loaded.
    """
    run = start(audit.config, AuditResult, None, progress, corpus=None, max_new_tokens=audit.config.max_new_tokens)
    if run.result.model["fingerprint"] != audit.fingerprint:
        raise ConfigError(f"the weights of {audit.name} are not those of {audit.path}; run the audit again")
    for side, prompts in run.splits.tested.items():
        if list(prompts.hashes) != audit.result.tested[side].hashes:
            raise ConfigError(f"the {side} test prompts of {audit.path} have changed; run the audit again")
    return Target(audit, replace(run, model=asked_as(run.model, audit.config, audit.result)))
