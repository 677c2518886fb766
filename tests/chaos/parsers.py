"""What reads files that may be from somebody else, with inputs that it takes; `fuzzing.py` changes them."""

from __future__ import annotations

import io
import json
import re
import struct
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

WRITTEN = Path(__file__).parents[1] / "results" / "written" / "3" / "audit"


@dataclass(frozen=True)
class Parser:
    """What is fuzzed.

    Attributes:
        name: of the parser.
        file: the name under which it is given an input.
        read: reads that file; what it returns is dropped.
        seeds: inputs that it takes.
        costs: how many times as long as most it takes for one; it is tried that much less often.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: tuple[bytes, ...]
    costs: int = 1


def _parquet() -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    held = io.BytesIO()
    parquet.write_table(pa.table({"prompt": ["How?", "Why?"], "category": ["a", None]}), held)
    return held.getvalue()


@cache
def _map() -> bytes:
    import torch

    import bures

    with tempfile.TemporaryDirectory() as folder:
        generator = torch.Generator().manual_seed(0)
        sides = (torch.randn(12, 4, generator=generator, dtype=torch.float64) + shift for shift in (0.0, 1.0))
        bures.fit_pca_ot(*sides, rank=2).save(path := Path(folder) / "map.safetensors")
        return path.read_bytes()


def _probe() -> bytes:
    from safetensors.numpy import save

    return save({}, metadata={"bures-probe": json.dumps({"format_version": 1, "kind": "lda", "block": 1})})


def _prompt_files() -> Iterator[Parser]:
    from bures.data.corpora import load_corpus
    from bures.data.prompts import load_prompts

    turns = [("user", "How?"), ("assistant", "So."), ("user", "Why?")]
    chat = json.dumps([{"role": role, "content": content} for role, content in turns])
    rows = '{"prompt": "How?", "category": "a"}\n{"prompt": "Why?"}\n'
    seeds = {
        "csv": ('prompt,category\n"How, then?",a\nWhy?,\n', "text;x\n1;2\n", 'prompt\n"[{""role"": ""user""}]"\n'),
        "tsv": ("goal\tsemantic_category\nHow?\tb\n",),
        "jsonl": (rows, f'{{"messages": {chat}}}', '"How?"\n"Why?"\n'),
        "json": ('["How?", "Why?"]', '[{"prompt": "How?"}]', '{"prompt": ["a", "b"]}', f'[{{"messages": {chat}}}]'),
        "txt": ("How?\nWhy?\n",),
    }
    for suffix, texts in seeds.items():
        encoded = (*(text.encode() for text in texts), texts[0].encode("utf-16"))
        yield Parser(f"prompts {suffix}", f"p.{suffix}", load_prompts, encoded)
    yield Parser("prompts parquet", "p.parquet", load_prompts, (_parquet(),))
    yield Parser("corpus", "text.txt", load_corpus, (b"A text.\n\nOf two parts.\n",))


def _options() -> Iterator[Parser]:
    from bures.jobs.config import AuditConfig, SearchConfig
    from bures.jobs.options import layered, read_options, template
    from bures.jobs.saved_interventions import load_config
    from bures.results.questions import GateConfig

    def spelled(text: str) -> bytes:
        """A file of all options, those with a default too."""
        lines = (re.sub(r"^# (?=[a-z-]+ = [^ ])", "", line) for line in text.splitlines())
        return "\n".join(lines).encode()

    for schema, job in ((AuditConfig, "audit"), (SearchConfig, "search"), (GateConfig, "gate")):
        seed = spelled(template(schema, job))
        tomllib.loads(seed.decode())
        yield Parser(
            f"options {job}", "o.toml", lambda path, s=schema: layered(s, read_options(path)), (seed, b"seed = 1")
        )
    kept = (WRITTEN / "config.json").read_bytes()
    yield Parser(
        "options json", "config.json", lambda path: layered(AuditConfig, read_options(path)), (kept, b'{"model": "m"}')
    )
    yield Parser("options of a run", "config.json", lambda path: load_config(path.parent), (kept, b'{"model": "m"}'))


def _run_folders() -> Iterator[Parser]:
    from bures.jobs.rejudge import answer_lines
    from bures.jobs.saved_interventions import read_intervention
    from bures.results.finished_audits import load_runs
    from bures.results.labels import read_file
    from bures.results.run_folder import RunFolder, load_result
    from bures.results.schema import AuditResult, RunResult

    results = (WRITTEN / "results.json").read_bytes()
    newer = load_result(WRITTEN, AuditResult).to_json().encode()
    yield Parser("results", "results.json", lambda path: load_result(path.parent, RunResult), (results, newer))
    yield Parser("finished audits", "results.json", lambda path: load_runs([path.parent] * 2), (newer,), costs=2)
    label = {
        "judge": "j",
        "finished": None,
        "said": {"a": "answer"},
        "rows": {"r": {"marks": "01", "drawn": {"h": ["a", 0]}}},
    }
    labels = json.dumps(label).encode()
    yield Parser("labels", "labels/me.json", lambda path: read_file(path.parents[1], "me", None), (labels,))
    result = load_result(WRITTEN, AuditResult)
    keys = [
        (row.key, which, h)
        for row in result.rows
        for which in ("harmful", "harmless")
        for h in result.tested[which].hashes
    ]
    told = [json.dumps({"row": r, "set": w, "hash": h, "prompt": "p", "completion": "c"}) for r, w, h in keys]
    lines = "\n".join(told).encode()
    site = '{"block": 1, "where": "output", "map": "m"}'
    saved = f'{{"strength": 1.0, "tokens": "last", "sites": [{site}]}}'.encode()

    def saved_one(path: Path) -> None:
        (path.parent / "m.safetensors").write_bytes(_map())
        read_intervention(RunFolder(path.parents[1]), "r")

    yield Parser("saved intervention", "maps/r.json", saved_one, (saved,))
    yield Parser(
        "completions", "completions.jsonl", lambda path: answer_lines(RunFolder(path.parent), result), (lines,)
    )


def _models() -> Iterator[Parser]:
    from bures.jobs.probe.files import load_probe
    from bures.models.chat import Chat
    from bures.models.checkpoints import adapter_folder, trained_on
    from bures.models.loading import wrap
    from bures.transport import load_map
    from helpers import tiny

    yield Parser("map", "m.safetensors", load_map, (_map(),))
    yield Parser("probe", "p.safetensors", load_probe, (_probe(),))

    def adapter(path: Path) -> None:
        (path.parent / "adapter_model.safetensors").touch()
        adapter_folder(path.parent)
        trained_on(path.parent)

    config = json.dumps({"base_model_name_or_path": "m", "peft_type": "LORA", "r": 8}).encode()
    yield Parser("adapter", "adapter_config.json", adapter, (config,))

    @cache
    def rendering() -> Chat:
        return wrap(tiny.network("llama"), tiny.tokenizer(), "tiny").chat

    def template(path: Path) -> None:
        text = path.read_bytes().decode(errors="replace")
        replace(rendering(), template=text).render([[{"role": "user", "content": "How?"}]])

    yield Parser(
        "template", "t.jinja", template, (tiny.TEMPLATE.encode(), b"{% set x = namespace(a=1) %}{{ x.a + 1 }}")
    )


def _checkpoints() -> Iterator[Parser]:
    from bures.models.loading import load_model
    from helpers import tiny

    text = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5) + b"llama"
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text + bytes(32)

    def in_a_model(path: Path) -> None:
        content = path.read_bytes()
        tiny.folder(path.parent)
        path.write_bytes(content)
        load_model(path.parent)

    with tempfile.TemporaryDirectory() as folder:
        tiny.folder(Path(folder))
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
            content = (Path(folder) / name).read_bytes()
            yield Parser(f"a model's {name}", name, in_a_model, (content,), costs=20)
    yield Parser("gguf", "m.gguf", load_model, (gguf,), costs=20)


def parsers() -> tuple[Parser, ...]:
    """All of them."""
    return tuple(parser for each in (_prompt_files, _options, _run_folders, _models, _checkpoints) for parser in each())
