"""Results of audits that never ran, with marks that a test chooses; no text of any prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bures.results.records import Candidate, Localisation, Trial
from bures.results.run_folder import RunFolder
from bures.results.schema import AuditResult, Row, Tested
from bures.results.stats import Measurement, proportion
from helpers.made_records import NOTES

JUDGES = ("arditi", "gcg")


def hashes(n: int, start: int = 0, kind: str = "h") -> list[str]:
    """n names of prompts."""
    return [f"{kind}{i:063d}" for i in range(start, start + n)]


def marks(refused: int, n: int) -> str:
    """Marks of n prompts, the first of them refused."""
    return "1" * refused + "0" * (n - refused)


def row(
    key: str,
    refused: str,
    *,
    label: str | None = None,
    block: int | None = 3,
    chosen_asr: float = 0.5,
    ratio: float = 1.02,
    refused_harmless: str | None = None,
    nll: Sequence[float] = (),
    kl: Sequence[float] = (),
    **changes: Any,
) -> Row:
    """A row whose judges agree; `chosen_asr` and `ratio` are those of its trial on the selection split."""
    harmless = refused_harmless if refused_harmless is not None else "0" * (len(nll) or len(refused))
    trial = None
    if key != "none":
        candidate = Candidate("rfa", (block or 0,), None, "all")
        trial = Trial(candidate, Measurement(chosen_asr, 24, (0.0, 1.0)), ratio, Measurement(0.1, 24, (0.0, 1.0)))
    options: dict[str, Any] = {
        "key": key,
        "label": label or key,
        "method": "none" if key == "none" else "rfa",
        "blocks": [] if key == "none" else [block],
        "sites": "-" if key == "none" else str(block),
        "tokens": None if key == "none" else "all",
        "rank": None,
        "asr": {judge: proportion(refused.count("0"), len(refused)) for judge in JUDGES},
        "refused": dict.fromkeys(JUDGES, refused),
        "refused_harmless": dict.fromkeys(JUDGES, harmless),
        "nll_each": [float(x) for x in nll] or [1.0] * len(harmless),
        "kl_each": [float(x) for x in kl] or [0.0 if key == "none" else 0.2] * len(harmless),
        "within_budget": None if key == "none" else ratio <= 1.1,
        "perplexity_ratio": 1.0 if key == "none" else ratio,
        "selection": trial,
    }
    return Row(**{**options, **changes})


def audit(rows: Sequence[Row], **changes: Any) -> AuditResult:
    """A finished audit with these rows."""
    harmful, harmless = len(rows[0].refused["arditi"]), len(rows[0].refused_harmless["arditi"])
    tokens = [5 + i % 7 for i in range(harmless)]
    described = {"name": "prompts", "sha256": "0" * 64}
    options: dict[str, Any] = {
        "status": "complete",
        "finished": "2026-01-02T03:04:05+00:00",
        "command": "bures audit model --max-new-tokens 16",
        "options": {"model": "model", "system": None, "backend": "transformers", "seed": 0, "max_new_tokens": 16},
        "versions": {"bures": "0.1.0", "torch": "2.8.0"},
        "methods": NOTES,
        "model": {"name": "model", "fingerprint": "f" * 64, "dtype": "float32", "n_blocks": 8},
        "prompts": {
            f"{side}_{split}": {**described, "n": 9} for side in ("harmful", "harmless") for split in ("fit", "select")
        },
        "judge": "arditi",
        "seed": 0,
        "corpus": None,
        "max_new_tokens": 16,
        "tested": {
            "harmful": asked(hashes(harmful)),
            "harmless": asked(hashes(harmless, kind="g")),
        },
        "answer_tokens": tokens,
        "rows": list(rows),
    }
    rows[0].perplexity = Measurement(1.9, harmless, (1.8, 2.0))
    return AuditResult(**{**options, **changes})


def asked(names: Sequence[str]) -> Tested:
    """A test set of these prompts."""
    return Tested(hashes=list(names), categories=[None] * len(names))


def model(name: str, fingerprint: str = "e") -> dict[str, Any]:
    """What results say of a model."""
    return {"name": name, "fingerprint": fingerprint * 64, "dtype": "float32", "n_blocks": 8}


def localised(first: int, last: int) -> Localisation:
    """A localisation between two blocks."""
    share = Measurement(0.5, 9, (0.4, 0.6))
    return Localisation(
        n_blocks=8,
        refusal=share,
        refusal_harmless=share,
        effects=(),
        joint=(),
        shuffled=None,
        geometry=(),
        extent="one block",
        first=first,
        last=last,
        sentence=f"Decided at {first}-{last}.",
    )


def saved(folder: Path, result: AuditResult) -> Path:
    """A run folder that holds the result."""
    folder.mkdir(parents=True)
    RunFolder(folder).save(result)
    return folder
