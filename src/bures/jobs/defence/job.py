"""`bures defend`: many attacks on several models, side by side on the same prompts.

Attacks on a model: none; every row of its audit (all fitted anew on it); and the kinds of `planning`. The run folder
has each attack's marks as soon as it has been made, so a killed run goes on behind it; what is fitted on the way is
fitted again. One model is in memory at a time, and the one before it was hardened while costs over that are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from bures.data.prompts import PromptSet
from bures.errors import ConfigError, FitError
from bures.jobs.counting import Line
from bures.jobs.defence.beginning import fresh, harmless_sets
from bures.jobs.defence.between import cost_between
from bures.jobs.defence.config import DefendConfig
from bures.jobs.defence.measuring import Bench
from bures.jobs.defence.planning import Planned, expected, planned, why_not
from bures.jobs.defence.targets import Audited, Sources, Target, load_target, read_audit, read_search, require_alike
from bures.jobs.progress import Progress, Silent
from bures.judges.base import require_ready
from bures.judges.by_name import judge_by_name
from bures.judges.known_error import corrected
from bures.models.pace import threads_kept
from bures.results.defending import Attacked, DefenceResult, Withstood
from bures.results.formatting import share
from bures.results.marks import spelled
from bures.results.names import AttackName
from bures.results.run_folder import RunFolder

COST = "cost"
"""What is called done when costs over the model before are."""


def defend(config: DefendConfig, out: str | Path, *, progress: Progress | None = None) -> DefenceResult:
    """Attacks the models of finished audits, or goes on with the table in `out`, or hands it on if it is finished.

    Args:
        config: the options.
        out: the run folder.
        progress: who is told how far it is.

    Raises:
        BuresError: an input is bad; what was finished stays in the run folder.
    """
    with threads_kept(), RunFolder.open(Path(out), config.options) as folder:
        held = folder.load(DefenceResult)
        if held is not None and held.status == "complete":
            return held
        table = _begun(config, folder, held, progress or Silent())
        for audit, found in zip(table.audits, table.result.models, strict=True):
            table.fill(audit, found)
        return table.finish()


@dataclass(frozen=True)
class _Table:
    """What the models share.

    Attributes:
        config: the options.
        folder: where the result is kept.
        result: what was found so far.
        audits: of the models.
        sources: what attacks are taken from besides.
        harmless: further harmless sets, by name.
        progress: who is told how far it is.
    """

    config: DefendConfig
    folder: RunFolder
    result: DefenceResult
    audits: Sequence[Audited]
    sources: Sources
    harmless: dict[str, PromptSet]
    progress: Progress
    loaded: dict[Path, Target] = field(default_factory=dict[Path, Target])

    def fill(self, audit: Audited, found: Withstood) -> None:
        """Measures what is left to measure of a model."""
        kinds: list[AttackName] = [
            kind
            for kind in self.config.attacks
            if f"attack {kind}" not in {*found.done, "attack refitted"} and why_not(kind, audit, self.sources) is None
        ]
        sets = [name for name in self.harmless if f"set {name}" not in found.done]
        is_priced = self.sources.before is not None and self.sources.before.fingerprint != audit.fingerprint
        wants_cost = is_priced and COST not in found.done
        if not kinds and not sets and not wants_cost:
            return
        bench = Bench(self._target(audit), self.config.n_perplexity)
        for kind in kinds:
            self._attack(bench, kind, found)
        for name in sets:
            self._ask(bench, name, found)
        if wants_cost:
            self._price(bench.target, found)

    def _target(self, audit: Audited) -> Target:
        """The audit's model, in place of any other but the one before, which the table may call by another name."""
        kept = {audit.path, *([] if self.sources.before is None else [self.sources.before.path])}
        for other in {*self.loaded} - kept:
            del self.loaded[other]
        return replace(self._beside(audit), audit=audit)

    def _attack(self, bench: Bench, kind: AttackName, found: Withstood) -> None:
        audit = bench.target.audit
        made = {each.name for each in found.attacks}
        self.progress.stage(f"{audit.name}: {kind}", expected(kind, audit, self.sources))
        reason = None
        try:
            for plan in planned(kind, bench.target, self.sources):
                if plan.name not in made:
                    self._make(bench, kind, plan, found)
                self.progress.advance()
        except FitError as error:  # a finding about the kind: it is noted
            reason = str(error)
        if not any(each.kind == kind for each in found.attacks):
            reason = reason or "where its blocks write was not found"
        if reason is not None:
            self._note(f"Attacks on {audit.name} by the kind '{kind}' are missing: {reason}.")
        self._done(found, f"attack {kind}")

    def _make(self, bench: Bench, kind: AttackName, plan: Planned, found: Withstood) -> None:
        """Makes one attack and keeps what came of it."""
        attacked, lines = bench.measure(kind, plan)
        self._keep(bench.target.audit, lines)
        found.attacks.append(attacked)
        self.folder.save(self.result)
        self.progress.say(f"  {found.name}, {plan.name}: {_told(attacked)}")

    def _ask(self, bench: Bench, name: str, found: Withstood) -> None:
        """Asks the model harmless prompts, without any attack."""
        prompts, judge = self.harmless[name], self.result.judge
        self.progress.stage(f"{found.name}: {name}", 1)
        refused, lines = bench.judged(_row_of(found, name), prompts, bench.answers(prompts), harmful=False)
        self._keep(bench.target.audit, lines)
        if judge in refused:
            found.refused_harmless[name] = spelled(refused[judge])
        self._done(found, f"set {name}")
        self.progress.advance()

    def _price(self, target: Target, found: Withstood) -> None:
        """What the model costs over the one before."""
        if self.sources.before is None:
            return
        answers, before = self._own_answers, self._beside(self.sources.before)
        self.progress.stage(f"{found.name}: perplexity and KL over the model before", 1)
        try:
            found.cost = cost_between(
                before.model,
                target.model,
                list(before.run.splits.tested.harmless),
                answers,
                system=before.run.config.system,
                token_budget=before.run.config.token_budget,
            )
        except ConfigError as error:
            self._note(f"{found.name} has no perplexity and KL over the model before: {error}.")
        self._done(found, COST)
        self.progress.advance()

    def _beside(self, audit: Audited) -> Target:
        """The audit's model, beside others."""
        if audit.path not in self.loaded:
            self.loaded[audit.path] = load_target(audit, self.progress)
            self.result.machine = self.result.machine or self.loaded[audit.path].run.result.machine
        return self.loaded[audit.path]

    @cached_property
    def _own_answers(self) -> list[list[int]]:
        """What the model before answers the harmless test prompts of its audit."""
        if self.sources.before is None:
            raise LookupError("no model before")
        run = self._beside(self.sources.before).run
        return run.answer(list(run.splits.tested.harmless), run.config.max_new_tokens)

    def _keep(self, audit: Audited, lines: Sequence[Line]) -> None:
        """Keeps completions where the audit kept some."""
        if RunFolder(audit.path).completions.exists():
            self.folder.append_completions(lines)

    def _done(self, found: Withstood, what: str) -> None:
        found.done.append(what)
        self.folder.save(self.result)

    def _note(self, sentence: str) -> None:
        self.result.notes = list(dict.fromkeys([*self.result.notes, sentence]))

    def finish(self) -> DefenceResult:
        """What the marks come to."""
        result = self.result
        for found in result.models:
            worst = found.figure(coherent=False, within_budget=True).worst_asr
            found.judge_range = corrected(result.judge, worst.value)
        result.conclude()
        result.finish()
        self.folder.save(result)
        return result


def _row_of(found: Withstood, harmless: str) -> str:
    """What completions of a harmless set are kept under."""
    return f"{found.name}, no attack: {harmless}"


def _told(attacked: Attacked) -> str:
    return f"ASR {share(attacked.asr)}" if attacked.error is None else f"failed ({attacked.error})"


def _begun(config: DefendConfig, folder: RunFolder, held: DefenceResult | None, progress: Progress) -> _Table:
    """The audits and the sets, read, and what the folder holds of the same table.

    Raises:
        RunError: a folder holds no finished audit.
        ConfigError: the audits cannot be held against each other, or have changed since the table was begun.
        PromptError: a harmless set cannot be read.
    """
    audits = [read_audit(name, path) for name, path in config.named]
    before = None if config.before is None else read_audit("before", Path(config.before))
    searches = {
        audit.name: read_search(audit, config.searches[audit.name]) for audit in audits if audit.name in config.searches
    }
    sources, warnings = Sources(before, searches), require_alike(audits)
    require_ready(judge_by_name(audits[0].result.judge))
    harmless = harmless_sets(config, audits[0])
    new = fresh(config, audits, sources, harmless, warnings)
    if held is None:
        folder.save(new)
        return _Table(config, folder, new, audits, sources, harmless, progress)
    was, now = ([(each.name, each.model, each.finished) for each in result.models] for result in (held, new))
    if was != now or held.prompts != new.prompts:
        raise ConfigError("an audit or a harmless set has changed since the table was begun; choose another --out")
    rows = [f"{each.name} {attack.name}" for each in held.models for attack in each.attacks]
    sets = [_row_of(each, name) for each in held.models for name in harmless if f"set {name}" in each.done]
    folder.keep_completions([*rows, *sets])
    return _Table(config, folder, held, audits, sources, harmless, progress)
