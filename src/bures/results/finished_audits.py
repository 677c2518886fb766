"""Finished audits: their rows by name, and whether two of them may be held against each other.

The strongest intervention is the one that came furthest on the *selection* split, so that its figures on the test split
do not flatter it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bures.errors import ConfigError, RunError
from bures.results.labels import Labels, load_labels
from bures.results.names import STRONGEST, Which
from bures.results.options import Options
from bures.results.run_folder import load_result
from bures.results.schema import AuditResult, Row

_LONGEST_NAME = 100
_OF_THE_MACHINE = frozenset(
    {
        *("adapter", "device", "dtype", "model", "revision", "token_budget", "trust_remote_code"),
        *("backend", "tensor_parallel", "threads"),
    }
)
_OF_THE_TEST = frozenset({"system", "harmful_test", "harmless_test", "n_test", "n_harmless_test"})  # looked at apart


@dataclass(frozen=True)
class Run:
    """A finished audit.

    Attributes:
        label: what it is called beside the others: the model's name, with the folder where that is not enough.
        folder: where it is.
        result: what it measured.
        system: the system prompt.
        backend: who answered the test prompts.
        labels: of the person who was asked for, where there are some.
    """

    label: str
    folder: str
    result: AuditResult
    system: str | None
    backend: str
    labels: Labels | None = None

    @staticmethod
    def of(label: str, folder: str, result: AuditResult) -> Run:
        """A run whose options can be read.

        Raises:
            RunError: the results lack an option that every audit has.
        """
        options = Options(folder, result.options)
        system, backend = options.value_or_none("system", str), options.value("backend", str)
        return Run(label, folder, result, system, backend)


def load_runs(folders: Sequence[str | Path], labeller: str | None = None) -> list[Run]:
    """Finished audits, under labels that differ.

    Args:
        folders: where they are.
        labeller: whose labels of their answers are read too.

    Raises:
        RunError: a folder holds no audit, one that is not finished, or one that is damaged; or such labels.
        ConfigError: the labeller's name cannot be a file's.
    """
    results = [load_result(folder) for folder in folders]
    for folder, result in zip(folders, results, strict=True):
        if result.status != "complete":
            raise RunError(f"the audit in {folder} is not finished; continue it with the command that began it")
    names = [_shortened(str(result.model.get("name", "?"))) for result in results]
    found = [
        Run.of(name if names.count(name) == 1 else f"{name} ({folder})", str(folder), result)
        for name, folder, result in zip(names, folders, results, strict=True)
    ]
    if labeller is None:
        return found
    return [replace(run, labels=load_labels(Path(run.folder), labeller, run.result)) for run in found]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


# Which rows -------------------------------------------------------------------------------------------------------


def strongest(result: AuditResult, budget: float | None = None) -> Row | None:
    """The row with the highest ASR on the selection split within the perplexity budget, ties by KL there.

    Args:
        result: an audit.
        budget: largest perplexity ratio on the selection split; None: the audit's own.
    """
    return max(attacks(result, budget), key=_reached, default=None)


def attacks(result: AuditResult, budget: float | None = None) -> list[Row]:
    """The rows of interventions within the perplexity budget on the selection split, as `strongest` has it."""
    found: list[Row] = []
    for row in result.rows:
        tried = row.selection
        if row.error is not None or tried is None or tried.error is not None or tried.perplexity_ratio is None:
            continue
        if row.within_budget is not False if budget is None else tried.perplexity_ratio <= budget:
            found.append(row)
    return found


def strongest_of_all(runs: Sequence[Run], budget: float | None = None) -> str | None:
    """Key of the one row that came furthest on the selection splits of all audits together, within each one's budget.

    Two audits are held against each other by one row of both: were each to bring its own strongest, the luck of two
    choices would look like a difference of the models. None where no row is within the budget everywhere.
    """
    there = [{row.key: row for row in attacks(run.result, budget)} for run in runs]
    common = [key for key in there[0] if all(key in rows for rows in there)]

    def reached(key: str) -> tuple[float, ...]:
        return tuple(map(sum, zip(*(_reached(rows[key]) for rows in there), strict=True)))

    return max(common, key=reached, default=None)


def _reached(row: Row) -> tuple[float, float]:
    """ASR on the selection split, and the KL there by which ties are broken."""
    tried = row.selection
    return (0.0, 0.0) if tried is None else (tried.least, -(0.0 if tried.kl is None else tried.kl.value))


def row_named(run: Run, name: str, budget: float | None = None) -> Row:
    """The row with this key, or the strongest.

    Raises:
        ConfigError: there is no such row, it failed, or no intervention is within the budget.
    """
    rows = {row.key: row for row in run.result.rows}
    if name == STRONGEST:
        row = strongest(run.result, budget)
        if row is None:
            raise nothing_within_budget(run)
        return row
    if name not in rows:
        raise ConfigError(f"{run.folder} has no row {name!r}; expected {STRONGEST} or one of {', '.join(rows)}")
    if rows[name].error is not None:
        raise ConfigError(f"row {name} of {run.folder} failed ({rows[name].error}); name another with --row")
    return rows[name]


def nothing_within_budget(run: Run) -> ConfigError:
    """What is said where an audit has no intervention that counts."""
    return ConfigError(
        f"no intervention of {run.folder} is within the perplexity budget on its selection split; name a row with "
        "--row, raise --max-perplexity-ratio, or audit again with a larger one"
    )


def judge_of(runs: Sequence[Run], wanted: str | None = None) -> str:
    """The judge whose marks count: the one that is wanted, else the first run's own where all have it.

    Raises:
        ConfigError: a run has no marks of it, or the runs have no judge in common.
    """
    judges = [_judges(run.result) for run in runs]
    common = set.intersection(*judges)
    if wanted is not None and wanted not in common:
        raise ConfigError(
            f"judge {wanted!r} did not judge all; expected one of {', '.join(sorted(common)) or '(none)'}"
        )
    if not common:
        each = "; ".join(f"{run.folder}: {', '.join(sorted(found))}" for run, found in zip(runs, judges, strict=True))
        raise ConfigError(f"no judge in common ({each}); audit again with the same judges")
    own = runs[0].result.judge
    return wanted or (own if own in common else min(common))


# Whether they may be held against each other --------------------------------------------------------------------------


def require_comparable(a: Run, b: Run) -> None:
    """Raises `RunError` where two audits did not ask the same harmful test prompts for answers of the same length."""
    asked, of_b = (set(hashes(run, "harmful")) for run in (a, b))
    if asked != of_b:
        raise RunError(
            f"{a.folder} and {b.folder} share {len(asked & of_b)} of their {len(asked)} and {len(of_b)} harmful test "
            "prompts, so their ASR cannot be compared; audit both with the same --harmful-test, --n-test, --limit and "
            f"--seed{', or compare on those with --common' if asked & of_b else ''}"
        )
    if a.result.max_new_tokens != b.result.max_new_tokens:
        raise RunError(
            f"{a.folder} and {b.folder} let the model answer in {a.result.max_new_tokens} and "
            f"{b.result.max_new_tokens} tokens, so their ASR cannot be compared; audit both with the same "
            "--max-new-tokens"
        )


def caveats(a: Run, b: Run) -> list[str]:
    """Differences between two audits that a reader has to know of; not those between the models."""
    found: list[str] = []
    one, two = a.result, b.result
    if one.model.get("fingerprint") == two.model.get("fingerprint"):
        found.append("The weights are the same: what differs is due to options or versions.")
    if set(hashes(a, "harmless")) != set(hashes(b, "harmless")):
        found.append("The harmless test prompts differ: over-refusal, KL and perplexity are not compared.")
    found += _option_caveats(a, b)
    found += _template_caveats(a, b)
    for run in (a, b):
        if n := sum(sum(row.unfinished.values()) for row in run.result.rows):
            found.append(f"{n} answers of {run.label} are unfinished: differences leave their prompts out.")
    moved = [
        n
        for n in ("harmful_fit", "harmful_select", "harmless_fit", "harmless_select")
        if _source(one, n) != _source(two, n)
    ]
    if moved:
        found.append(f"The prompts of {', '.join(moved)} differ: the interventions were fitted or chosen on others.")
    if one.model.get("dtype") != two.model.get("dtype"):
        found.append(f"Computed in {one.model.get('dtype')} and in {two.model.get('dtype')}.")
    if a.backend != b.backend:
        found.append(f"The test prompts were answered by {a.backend} and by {b.backend}.")
    packages = sorted({*one.versions, *two.versions})
    newer = [
        f"{p} {one.versions.get(p, '-')} and {two.versions.get(p, '-')}"
        for p in packages
        if one.versions.get(p) != two.versions.get(p)
    ]
    if newer:
        found.append(f"Versions differ: {', '.join(newer)}.")
    return found


def _option_caveats(a: Run, b: Run) -> list[str]:
    """What was asked of one audit and not of the other."""
    found: list[str] = []
    if a.system != b.system:
        found.append("The system prompts differ: a difference is that of model and system prompt together.")
    of_a, of_b = a.result.options, b.result.options
    sought = (of_a.keys() & of_b.keys()) - _OF_THE_MACHINE - _OF_THE_TEST
    if changed := [name for name in sought if of_a[name] != of_b[name]]:
        found.append(f"The options {_named(changed)} differ: the interventions were not sought in the same way.")
    if alone := of_a.keys() ^ of_b.keys():
        found.append(
            f"Only one of the audits knows the options {_named(alone)}: they are of different versions of bures."
        )
    return found


def _template_caveats(a: Run, b: Run) -> list[str]:
    """What came between the same prompts and the two models."""
    one, two = (run.result.model.get("template") or {} for run in (a, b))
    if not one or not two:
        return []
    if one.get("sha256") != two.get("sha256"):
        return ["The chat templates differ: a difference is that of model and template together."]
    if one.get("date") != two.get("date"):
        return [
            f"The chat template was told {one.get('date')} as the day in one audit, {two.get('date')} in the other."
        ]
    moved = [n for n in ("harmful_test", "harmless_test") if _ids(a, n) != _ids(b, n)]
    if moved and _source(a.result, moved[0]) == _source(b.result, moved[0]):
        return [f"The same prompts of {', '.join(moved)} became other tokens in the two audits: the tokenizers differ."]
    return []


def _ids(run: Run, name: str) -> object:
    return run.result.tokenised.get(name, {}).get("sha256")


def _named(options: Collection[str]) -> str:
    """Options as the command line calls them."""
    return ", ".join(sorted(name.replace("_", "-") for name in options))


def hashes(run: Run, which: Which) -> list[str]:
    """Of the test prompts, in the order of the rows' marks."""
    tested = run.result.tested.get(which)
    return [] if tested is None else tested.hashes


def _judges(result: AuditResult) -> set[str]:
    """Who marked every row."""
    marked = [set(row.refused) for row in result.rows if row.error is None]
    return set.intersection(*marked) if marked else set()


def _source(result: AuditResult, name: str) -> object:
    return result.prompts.get(name, {}).get("sha256")
