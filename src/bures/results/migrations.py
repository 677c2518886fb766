"""Results of older schema versions, brought to the present one: a chain of functions of the plain JSON.

Each step knows the version that it reads and nothing of what came later, so a step once written stays as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]


def is_older(data: Json) -> bool:
    """Whether there is a step that reads this version."""
    return isinstance(version := data.get("schema_version"), int) and version in _STEPS


def migrated(data: Json, config: Mapping[str, Any] | None) -> Json:
    """The same results in the present schema.

    Args:
        data: what `results.json` holds.
        config: what `config.json` beside it holds; None where there is none.

    Raises:
        ValueError: the version before has no step, or the results are not what its schema says.
    """
    while is_older(data):
        data = _STEPS[data["schema_version"]](data, config)
    return data


# Version 2 to 3: results carry the command, and what the judge said of every prompt ------------------------------


def _to_3(data: Json, config: Mapping[str, Any] | None) -> Json:
    """The command is made of the options; the prompts' marks, costs and hashes, which nobody kept, stay empty."""
    if config is None:
        raise ValueError("version 2 kept its options in config.json, and there is none beside it")
    words = ["bures", str(data.get("job")), str(config.get("model"))]
    for name, value in config.items():
        option = name.replace("_", "-")
        if name == "model" or name in _LEFT_OUT_3:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None or name == "corpus":
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{option}", "none" if value is None else text]
    return {**data, "schema_version": 3, "command": shlex.join(words)}


# Version 3 to 4: results carry their options ---------------------------------------------------------------------


def _to_4(data: Json, config: Mapping[str, Any] | None) -> Json:
    """Options from `config.json`, else from the command line; names that say one thing each."""
    found = {**data, "schema_version": 4}
    if config is None:
        found["options"] = _options_of_command(str(data.get("command", "")))
    else:
        found["options"] = {**_defaults_3(data.get("job")), **config}
    if "comparisons" in found:
        found["row_comparisons"] = found.pop("comparisons")
    _methods_to_4(found)
    where = found.get("localisation")
    if isinstance(where, dict):
        found["localisation"] = _localisation_to_4(where)
    return found


_METHODS_3 = {
    "pca-ot": ["PCA-OT", True, False],
    "rfa": ["RFA", False, True],
    "act": ["Linear-AcT", False, True],
    "mean-act": ["Mean-AcT", False, True],
    "rfa-mean": ["RFA + harmless mean", False, True],
    "act-interval": ["Linear-AcT, source interval", False, True],
}
"""Label, whether it has a rank, whether it is a baseline; in the order in which plots draw them."""


def _methods_to_4(found: Json) -> None:
    """What was tried, by name; `rfa-sites` is a placement of `rfa`."""
    tried = found["options"].get("methods", [])
    found["methods"] = {
        name: {"label": label, "ranked": ranked, "baseline": baseline, "order": order}
        for order, (name, (label, ranked, baseline)) in enumerate(_METHODS_3.items())
        if name in tried
    }
    rows = [row for row in found.get("rows", []) if isinstance(row, dict)]
    trials = [t for t in (*found.get("trials", []), *(row.get("selection") for row in rows)) if isinstance(t, dict)]
    for holder in (*rows, *(t["candidate"] for t in trials if isinstance(t.get("candidate"), dict))):
        if holder.get("method") == "rfa-sites":
            holder["method"] = "rfa"
            if "key" not in holder:
                holder["sites"] = True


def _localisation_to_4(where: Mapping[str, Any]) -> Json:
    found = dict(where)
    if "verdict" in found:
        found["extent"] = found.pop("verdict")
    if isinstance(pair := found.get("shuffled"), list) and len(pair) == 2:
        found["shuffled"] = {"largest": pair[0], "fits": pair[1]}
    return found


class _Scan3(BaseModel):
    """The options of `bures scan` and their defaults, as version 3 had them."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str
    adapter: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    trust_remote_code: bool = False
    system: str | None = None
    harmful_fit: str = "advbench"
    harmful_select: str = "harmbench:select"
    harmless_fit: str = "alpaca:fit"
    harmless_select: str = "alpaca:select"
    column: str | None = None
    n_fit: int = 128
    n_select: int = 32
    limit: int | None = None
    methods: list[str] = ["rfa", "rfa-mean", "act", "mean-act", "pca-ot"]
    ranks: list[int] = [1, 2, 4, 8, 16]
    scopes: list[str] = ["all"]
    depth: list[float] = [0.0, 1.0]
    blocks: list[int] | None = None
    strength: float = 1.0
    ridge: float | None = None
    shrinkage: str | None = None
    max_kl: float = 0.5
    judge: str = "arditi"
    seed: int = 0
    token_budget: int = 4096


class _Audit3(_Scan3):
    harmful_test: str = "harmbench:test"
    harmless_test: str = "alpaca:test"
    corpus: str | None = "wikipedia"
    corpus_tokens: int = 8192
    n_test: int | None = None
    n_harmless_test: int = 100
    methods: list[str] = ["rfa", "act", "mean-act", "pca-ot"]
    ranks: list[int] = [1, 2, 8]
    scopes: list[str] = ["all", "last"]
    all_blocks: bool = True
    max_perplexity_ratio: float = 1.10
    max_new_tokens: int = 64
    select_tokens: int = 24
    tasks: list[str] = []
    n_task: int | None = None
    metrics: list[str] = []
    backend: str = "transformers"
    tensor_parallel: int = 1


class _Search3(_Scan3):
    scopes: list[str] = ["all", "last"]
    strengths: list[float] = [0.5, 0.75, 1.0, 1.25, 1.5]
    shrinkages: list[str] = ["none", "ledoit-wolf"]
    max_band: int = 4
    trials: int = 200
    short_tokens: int = 12
    long_tokens: int = 48
    study: str = "bures"


_JOBS_3: Mapping[str, type[_Scan3]] = {"scan": _Scan3, "audit": _Audit3, "search": _Search3}
_LEFT_OUT_3 = {"vllm_memory", "storage"}


def _defaults_3(job: object) -> Json:
    """What options did that an earlier bures did not have yet."""
    fields = _JOBS_3[job].model_fields if isinstance(job, str) and job in _JOBS_3 else {}
    return {name: deepcopy(field.default) for name, field in fields.items() if not field.is_required()}


def _options_of_command(command: str) -> Json:
    """The options of a command line that version 3 wrote (`bures JOB MODEL --option value ...`)."""
    words = iter(shlex.split(command))
    program, job, model = (next(words, "") for _ in range(3))
    if program != "bures" or job not in _JOBS_3:
        raise ValueError(f"its command is that of no job ({job or 'none'})")
    schema = _JOBS_3[job]
    given: Json = {"model": model}
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        field = schema.model_fields.get(name)
        off = schema.model_fields.get(name.removeprefix("no_"))
        if field is not None and field.annotation is bool:
            given[name] = True
        elif off is not None and off.annotation is bool:
            given[name.removeprefix("no_")] = False
        else:
            given[name] = _value(next(words, ""), None if field is None else field.annotation)
    return schema.model_validate(given).model_dump(mode="json", exclude=_LEFT_OUT_3)


def _value(text: str, annotation: Any) -> Any:
    """What an option of this type was, before pydantic makes numbers of it."""
    kinds = [annotation, *get_args(annotation)]
    if any(getattr(kind, "__origin__", None) is list for kind in kinds):
        return text.split(",")
    return None if text == "none" and type(None) in kinds else text


_STEPS: Mapping[int, Callable[[Json, Mapping[str, Any] | None], Json]] = {2: _to_3, 3: _to_4}
