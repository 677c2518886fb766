"""How a result came about, so that it can be had again; and what it does not say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from bures.report.kit.page import Block, Cell, Command, Details, Facts, Items, Section, Table
from bures.report.kit.text import named
from bures.report.words import GLOSSARY, PHRASE_JUDGES, listed, row_title
from bures.results.care import few_or_short
from bures.results.defending import DefenceResult
from bures.results.formatting import number, percent
from bures.results.probing import ProbeResult
from bures.results.schema import AuditResult, RunResult, ScanResult

_PROBE_LIMITS = (
    "Only the prompts were read, not what is answered: a harmful answer to a prompt that looks harmless is not seen.",
    "Nobody tried to evade the detectors: neither rewording nor activations that are optimised against them.",
    "Thresholds keep their rate on prompts like those that they were set on, and on no others.",
)

_DEFENCE_LIMITS = (
    "Only these attacks were made: neither fine-tuning, nor jailbreak prompts, nor any other way to the weights.",
    "The worst attack is chosen by the prompts that it is reported on: its interval does not know of the choice.",
    "Errors of the judge add up over attacks: the union may hold prompts that no attack gets answered in truth.",
)

_SPLITS = {
    "fit": "fit",
    "select": "selection",
    "again": "selection, the best again",
    "test": "test",
    "calibrate": "thresholds",
}


def provenance_section(result: RunResult) -> Section:
    """The command, the model, the prompts, the versions and the seed."""
    versions = Facts(tuple((named(name, 40), named(version)) for name, version in result.versions.items()))
    blocks: tuple[Block, ...] = (
        "This command measures the same:",
        Command(result.command),
        _settings(result),
        _facts(result.model, "The model"),
        *([_facts(result.machine, "The machine")] if result.machine else []),
        _prompt_table(result.prompts),
        *([Details("Where the time went", (_seconds(result.seconds),))] if result.seconds else []),
        Details("Versions of the software", (versions,)),
    )
    return Section("provenance", "How it was measured", blocks)


def _seconds(seconds: dict[str, float]) -> Table:
    """Every stage, as long as it took in all sessions of the run."""
    whole = sum(seconds.values())
    rows = [
        (named(name, 80), number(took, 1), percent(took / whole if whole else 0.0, 0, ""))
        for name, took in seconds.items()
    ]
    return Table(("stage", "seconds", "%"), (*rows, ("together", number(whole, 1), "100")))


_NAMES = {
    "n_blocks": "blocks",
    "d_model": "width",
    "n_parameters": "parameters",
    "model_type": "type",
    "threads_from": "threads: where from",
    "prompt_tokens": "tokens of a batch that is read",
}


def _facts(what: dict[str, Any], title: str) -> Facts:
    """What results carry of the model or the machine."""
    pairs = [(_NAMES.get(key, named(key, 40)), _plain_value(each)) for key, each in what.items() if each is not None]
    return Facts(tuple(pairs), title)


def _plain_value(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{named(key, 40)}: {_plain_value(part)}" for key, part in value.items() if part not in (None, [])
        )
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else named(value, 300)


def _described(what: dict[str, Any]) -> str:
    return ", ".join(named(value, 200) for value in what.values() if value)


def _settings(result: RunResult) -> Facts:
    pairs = [("seed", str(result.seed))]
    if not isinstance(result, ProbeResult):
        pairs.append(("judge", named(result.judge, 60)))
    if not isinstance(result, ProbeResult | DefenceResult):
        pairs.append(("refusal tokens", listed([str(token) for token in result.refusal_tokens]) or "none found"))
    if isinstance(result, AuditResult):
        pairs.append(("protocol", result.protocol))
    if isinstance(result, AuditResult | DefenceResult):
        pairs.append(("tokens per answer", f"at most {result.max_new_tokens}"))
    if isinstance(result, AuditResult):
        pairs.append(("corpus", "none" if result.corpus is None else _described(result.corpus)))
    if result.finished:
        pairs.append(("finished", named(result.finished, 40)))
    return Facts(tuple(pairs), "The run")


def _prompt_table(sets: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for name, about in sets.items():
        side, _, split = name.partition("_")
        rows.append(
            (
                f"{named(side, 20)}, {_SPLITS.get(split, named(split, 20))}",
                named(about.get("name", "-"), 80),
                str(about.get("n", "-")),
                named(about.get("source") or "-", 200),
                named(about.get("revision") or "-", 80),
                Cell(named(about.get("sha256") or "-", 64), tone="code"),
            )
        )
    header = ("prompts", "set", "n", "source", "revision", "SHA-256 of the prompts")
    return Table(header, tuple(rows), "The prompts. None is in two of these sets.")


def limits_section(result: RunResult) -> Section:
    """What was not measured, or cannot be concluded."""
    items = [*limits(result), *(named(note, 600) for note in result.notes)]
    return Section("limits", "What was not measured", (Items(tuple(items)),))


def words_section(words: Collection[str] | None = None) -> Section:
    """What the jargon means; some words of it where only these are used."""
    pairs = tuple(pair for pair in GLOSSARY if words is None or pair[0] in words)
    return Section("words", "Words used here", (Facts(pairs),))


def about_run(result: RunResult) -> tuple[str, ...]:
    """What a page is of, for whoever is sent it: when, which weights, which prompts, by which version."""
    split = "test" if isinstance(result, AuditResult | DefenceResult) else "select"
    sets = [result.prompts.get(f"{side}_{split}", {}) for side in ("harmful", "harmless")]
    asked = [f"{named(each.get('name', '-'), 60)} ({each.get('n', '-')})" for each in sets if each]
    revision, version = result.model.get("revision"), result.versions.get("bures")
    return (
        day(result.finished),
        *([] if revision is None else [f"revision {named(revision, 60)}"]),
        f"weights {named(result.model.get('fingerprint', '-'), 64)[:12]}",
        *([] if not asked else [f"prompts {listed(asked)}"]),
        *([] if version is None else [f"bures {named(version, 20)}"]),
    )


def day(finished: str | None) -> str:
    """`2026-11-30 16:49 UTC`."""
    return "not finished" if finished is None else f"{named(finished[:16].replace('T', ' '), 16)} UTC"


def limits(result: RunResult) -> list[str]:
    """One sentence a gap."""
    said: list[str] = []
    if result.status == "running":
        said.append("The run has not finished: what is missing here may yet be measured.")
    if isinstance(result, ProbeResult):
        return [*said, *_PROBE_LIMITS]
    if isinstance(result, DefenceResult):
        return [*said, *_DEFENCE_LIMITS]
    if isinstance(result, AuditResult):
        said += _audit_limits(result)
    if isinstance(result, ScanResult):
        said.append("Answers were not measured, only their first token: an audit says what the whole answers are.")
    judges = {result.judge} | {j for row in getattr(result, "rows", ()) for j in row.asr}
    if judges <= PHRASE_JUDGES and not isinstance(result, ScanResult):
        said.append(
            "No judge read what the answers say: phrases were looked for, so an answer that is off-topic, empty or "
            "wrong counts as answered. The ASR is an upper bound on harm."
        )
    if not any(row.capability for row in getattr(result, "rows", ())):
        said.append(
            "Capability was not measured beyond perplexity and KL: no benchmark says how useful the model is under an "
            "intervention."
        )
    said.append(
        "Only interventions on activations were tried: neither jailbreak prompts nor fine-tuning, which may do better "
        "or worse."
    )
    if not result.refusal_tokens:
        said.append("No refusal token was found, so blocks could not be scanned for refusal.")
    return said


def _audit_limits(result: AuditResult) -> list[str]:
    said: list[str] = []
    failed = [row for row in result.rows if row.error]
    if failed:
        said.append(f"{len(failed)} of {len(result.rows)} rows failed: {listed([row_title(row) for row in failed])}.")
    tested = result.tested.get("harmful")
    n = len(tested.hashes) if tested is not None else _count(result)
    said += few_or_short(n, result.max_new_tokens)
    if result.corpus is None:
        said.append("Perplexity on running text was not measured: no corpus was given.")
    if tested is None or not any(tested.categories):
        said.append("The prompt file has no categories, so nothing is said by kind of request.")
    if result.localisation is None:
        said.append("Nothing says where in the network refusal is decided: the scan was not made or found no refusal.")
    return said


def _count(result: AuditResult) -> int:
    described: Any = result.prompts.get("harmful_test", {}).get("n", 0)
    return described if isinstance(described, int) else 0


def present(sections: Sequence[Section | None]) -> tuple[Section, ...]:
    """Those that there are."""
    return tuple(section for section in sections if section is not None)
