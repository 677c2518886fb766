"""What a defence table begins with: what the audits measured already, and the further harmless sets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bures.data.prompts import PromptSet, load_prompts
from bures.errors import ConfigError
from bures.jobs.beginning import versions
from bures.jobs.defence.config import DefendConfig
from bures.jobs.defence.measuring import of_row
from bures.jobs.defence.planning import why_not
from bures.jobs.defence.targets import Audited, Sources
from bures.judges.base import judges_harm
from bures.judges.by_name import judge_by_name
from bures.results.defending import DefenceResult, Withstood

TESTED = "harmless_test"
"""Name of the audit's own harmless set."""


def fresh(
    config: DefendConfig,
    audits: Sequence[Audited],
    sources: Sources,
    harmless: Mapping[str, PromptSet],
    warnings: Sequence[str],
) -> DefenceResult:
    """A table with what the audits measured."""
    first = audits[0].result
    described = {name: first.prompts[name] for name in ("harmful_test", "harmless_test")}
    described |= {f"harmless_{name}": prompts.describe() for name, prompts in harmless.items()}
    if sources.before is not None:
        described["harmless_before"] = sources.before.result.prompts["harmless_test"]
    return DefenceResult(
        command=config.command,
        options=config.options,
        versions=versions(),
        model={**first.model, "name": audits[0].name},
        prompts=described,
        judge=first.judge,
        seed=first.seed,
        hashes=first.tested["harmful"].hashes,
        max_new_tokens=first.max_new_tokens,
        models=[_audited(audit, config) for audit in audits],
        warnings=list(warnings),
        notes=[
            f"Attacks on {audit.name} by the kind '{kind}' are missing: {reason}."
            for kind in config.attacks
            for audit in audits
            if (reason := why_not(kind, audit, sources)) is not None
        ],
    )


def _audited(audit: Audited, config: DefendConfig) -> Withstood:
    """What the audit says of its model."""
    judge, rows = audit.result.judge, audit.result.rows
    taken = rows if "refitted" in config.attacks else rows[:1]
    own = rows[0].refused_harmless.get(judge)
    return Withstood(
        name=audit.name,
        run=str(audit.path),
        model=audit.result.model,
        finished=audit.result.finished,
        attacks=[of_row(row, judge) for row in taken],
        refused_harmless={} if own is None else {TESTED: own},
    )


def harmless_sets(config: DefendConfig, first: Audited) -> dict[str, PromptSet]:
    """The further harmless sets, cut to size by the first audit's seed.

    Raises:
        ConfigError: two have one name, or the judge does not look for refusals of harmless prompts.
        PromptError: one cannot be read.
    """
    if config.harmless_test and judges_harm(judge_by_name(first.result.judge)):
        raise ConfigError(f"--harmless-test: judge {first.result.judge} asks for harm, and says nothing of refusals")
    found: dict[str, PromptSet] = {}
    for source in config.harmless_test:
        prompts = load_prompts(source)
        n = min(config.n_harmless_test or len(prompts), len(prompts))
        chosen = sorted(random.Random(first.config.seed).sample(range(len(prompts)), n))
        if prompts.name in {*found, TESTED}:
            raise ConfigError(f"--harmless-test: two sets are called {prompts.name!r}; rename one of the files")
        found[prompts.name] = replace(
            prompts,
            prompts=tuple(prompts[i] for i in chosen),
            categories=tuple(prompts.categories[i] for i in chosen),
        )
    return found
