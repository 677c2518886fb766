"""Some three hundred malformed inputs, each given to the command line as a user would.

    python tests/chaos/bad_inputs.py [WORDS...]

Each has to end with exit code 2 and one line, in bounded time and memory, with nothing overwritten. Words choose the
cases whose names hold one of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.processes import context
from helpers import scripted

SECONDS, MEGABYTES = 60.0, 2000.0
"""Bounds of one case, on a machine that does other things too."""

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A malformed input.

    Attributes:
        name: what is wrong.
        arguments: the command line; {w} stands for the folder of the case.
        prepare: writes the input into that folder.
    """

    name: str
    arguments: Sequence[str]
    prepare: Prepare = lambda _: None


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    wrong: list[str] = field(default_factory=list[str])
    said: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


# The good inputs, of which each case spoils one --------------------------------------------------------------------

SIDES = [(side, split) for side in ("harmful", "harmless") for split in ("fit", "select")]


def scan(*more: str, model: str = "{w}/model", **files: str) -> list[str]:
    """A scan of a hand-made model, with one prompt file exchanged."""
    given = {f"{side}_{split}": f"{{w}}/{side}_{split}.txt" for side, split in SIDES} | files
    prompts = [x for name, file in given.items() for x in (f"--{name.replace('_', '-')}", file)]
    return ["scan", model, "--out", "{w}/run", "--methods", "mean-act", "--scopes", "all", *prompts, *more]


def audit(*more: str) -> list[str]:
    """The same as an audit."""
    tests = [x for s in ("harmful", "harmless") for x in (f"--{s}-test", f"{{w}}/{s}_test.txt")]
    return ["audit", *scan()[1:], *tests, "--corpus", "none", "--max-new-tokens", "4", *more]


def write_good(folder: Path) -> None:
    """The model, its adapter, a finished audit and the prompts."""
    from bures.jobs.audit import audit as run_audit
    from bures.jobs.config import AuditConfig

    scripted.folder(folder / "model")
    for side in ("harmful", "harmless"):
        for i, split in enumerate(("fit", "select", "test")):
            lines = scripted.prompts(6, bad=side == "harmful", seed=10 + i)
            (folder / f"{side}_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits: dict[str, Any] = {
        f"{side}_{split}": str(folder / f"{side}_{split}.txt")
        for side in ("harmful", "harmless")
        for split in ("fit", "select", "test")
    }
    config = AuditConfig.make(
        model=str(folder / "model"), methods=("mean-act",), scopes=("all",), corpus=None, max_new_tokens=4, **splits
    )
    run_audit(config, folder / "audit")
    write_adapter(folder)


def write_adapter(folder: Path) -> None:
    """An adapter of the model."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        tuned = get_peft_model(scripted.network(scripted.Script()), LoraConfig(r=2, target_modules=["q_proj"]))
    cast("Any", tuned).save_pretrained(folder / "adapter")


def _file(name: str, content: bytes) -> Prepare:
    """Writes a file into the folder of the case."""
    return lambda folder: (folder / name).write_bytes(content)


# Prompt files -------------------------------------------------------------------------------------------------------


def prompt_cases() -> Iterator[Case]:
    """Every format, spoiled."""
    long = "word1 " * 100_000
    files: dict[str, bytes] = {
        "empty.txt": b"",
        "blank.txt": b"\n\n  \n",
        "one.txt": b"word1\n",
        "nul.txt": b"word1\0word2\nword3\n",
        "binary.txt": bytes(range(256)) * 8,
        "latin1.txt": "déjà vu\nword2\n".encode("latin-1"),
        "utf7.txt": b"\xff\xfe\xfd\nword1\n",
        "utf16-odd.txt": b"\xff\xfew\0o\0r",
        "utf16-half-pair.txt": b"\xff\xfe\x00\xd8w\0\n\0",
        "utf32-cut.txt": b"\xff\xfe\0\0w\0\0",
        "bom-only.txt": b"\xef\xbb\xbf",
        "long.txt": (long + "\nword2\nword3\nword4\nword5\nword6\n").encode(),
        "empty.csv": b"",
        "header.csv": b"prompt\n",
        "no-column.csv": b"a,b\n1,2\n",
        "two-columns.csv": b"prompt,prompt\nx,y\n",
        "open-quote.csv": b'prompt\n"word1\nword2\n',
        "too-many.csv": b"prompt,category\nword1,a,b\n",
        "too-few.csv": b"category,prompt\na\n",
        "empty-cells.csv": b'prompt\n""\n""\n',
        "nul.csv": b"prompt\nwo\0rd\n",
        "latin1.csv": "prompt\ncafé\n".encode("latin-1"),
        "huge-field.csv": b"prompt\n" + b"x" * 300_000 + b"\n",
        "semicolons.csv": b"id;text2\n1;word1\n",
        "html.csv": b"<!doctype html><html><body>Not found</body></html>",
        "lfs.csv": b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
        "tabs.tsv": b"prompt,category\nword1,a\n",
        "open-quote.tsv": b'prompt\n"word1\n',
        "empty.jsonl": b"",
        "cut.jsonl": b'{"prompt": "word1"}\n{"prompt": "wo',
        "array.jsonl": b'["word1"]\n',
        "numbers.jsonl": b'{"prompt": 3}\n',
        "null.jsonl": b'{"prompt": null}\n',
        "nan.jsonl": b'{"prompt": NaN}\n',
        "nested.jsonl": b'{"prompt": {"a": {"b": 1}}}\n',
        "deep.jsonl": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "surrogate.jsonl": b'{"prompt": "\\ud800 word1"}\n',
        "surrogates.jsonl": b'{"prompt": "\\ud83d"}\n{"prompt": "\\ude00"}\n',
        "twice-key.jsonl": b'{"prompt": "a", "prompt": "b"}\n',
        "other-key.jsonl": b'{"frage": "word1"}\n',
        "bad-utf8.jsonl": b'{"prompt": "\xff"}\n',
        "single-quotes.jsonl": b"{'prompt': 'word1'}\n",
        "comments.jsonl": b'// prompts\n{"prompt": "a"}\n',
        "mixed.jsonl": b'{"prompt": "a"}\n{"instruction": "b"}\n',
        "no-user.jsonl": b'{"messages": [{"role": "assistant", "content": "x"}]}\n',
        "no-role.jsonl": b'{"messages": [{"content": "x"}]}\n',
        "odd-role.jsonl": b'{"messages": [{"role": "oracle", "content": "x"}]}\n',
        "no-content.jsonl": b'{"messages": [{"role": "user"}]}\n',
        "image.jsonl": b'{"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}\n',
        "no-turns.jsonl": b'{"messages": []}\n',
        "turns-text.jsonl": b'{"messages": "word1"}\n',
        "empty.json": b"",
        "open.json": b'[{"prompt": "a"}',
        "object.json": b'{"prompt": "a"}',
        "text.json": b'"word1"',
        "number.json": b"3",
        "null.json": b"null",
        "nulls.json": b"[null, null]",
        "lists.json": b'[["a"], ["b"]]',
        "mixed.json": b'["a", {"prompt": "b"}]',
        "trailing.json": b'["a"] ["b"]',
        "huge-number.json": b"[" + b"9" * 5000 + b"]",
        "infinite.json": b"[Infinity]",
        "deep.json": b"[" * 100_000,
        "empty.parquet": b"",
        "text.parquet": b"prompt\nword1\n",
        "magic.parquet": b"PAR1PAR1",
        "cut.parquet": b"PAR1" + b"\0" * 40 + struct.pack("<I", 1 << 30) + b"PAR1",
        "page.xlsx": b"PK\x03\x04",
        "page.pdf": b"%PDF-1.4",
        "rows.pkl": b"\x80\x04\x95",
        "packed.csv.gz": b"\x1f\x8b",
        "noext": b"word1\n",
        "strange.yaml": b"- word1\n",
    }
    for name, content in files.items():
        yield Case(f"prompts {name}", scan(harmful_fit=f"{{w}}/{name}"), _file(name, content))
    yield Case("prompts a folder", scan(harmful_fit="{w}/model"))
    yield Case("prompts nowhere", scan(harmful_fit="{w}/nothing.txt"))
    yield Case("prompts no rights to see", scan(harmful_fit="/proc/1/mem"))
    yield Case("prompts a device", scan(harmful_fit="/dev/zero.txt"))
    yield Case("prompts a pipe", scan(harmful_fit="{w}/pipe.txt"), lambda w: os.mkfifo(w / "pipe.txt"))
    yield Case(
        "prompts a link to itself", scan(harmful_fit="{w}/l.txt"), lambda w: (w / "l.txt").symlink_to(w / "l.txt")
    )
    yield Case("prompts the same on both sides", scan(harmless_fit="{w}/harmful_fit.txt"))
    yield Case("prompts the same in two splits", scan(harmful_select="{w}/harmful_fit.txt"))
    yield Case("prompts column of a text file", scan("--column", "prompt"))
    for share in ("#", "#fit#fit", "#train", "#fit,select"):
        yield Case(f"prompts share {share}", scan(harmful_fit="{w}/harmful_fit.txt" + share))
    yield Case("prompts hub name without the package or the net", scan(harmful_fit="nobody/none@main"))
    yield Case("prompts long name", scan(harmful_fit="x" * 5000))
    yield Case("prompts name with a NUL", scan(harmful_fit="a\0b.txt"))


# Options and configurations ----------------------------------------------------------------------------------------


def option_cases() -> Iterator[Case]:
    """Values that no option takes, on the command line and in files."""
    values = {
        "--methods=pca-ot --ranks": ("", "0", "-1", "x", "1.5", "999999999999999999999", "1000"),
        "--depth": ("", "2", "0.7,0.3", "x", "nan", "inf", "-0.1,0.5", "0.5,0.5,0.5"),
        "--blocks": ("", "x", "-1", "9", "2-1", "0-999999999", "1-"),
        "--strength": ("nan", "inf", "-inf", "x", "1e400"),
        "--ridge": ("-1", "nan", "x"),
        "--shrinkage": ("x", "-1", "nan"),
        "--max-kl": ("nan", "-1", "x"),
        "--seed": ("-1", "x", "1e9", "99999999999999999999999"),
        "--token-budget": ("0", "-5", "x", "1.5"),
        "--n-fit": ("0", "1", "-1", "x"),
        "--n-select": ("0", "-1", "x"),
        "--limit": ("0", "-3", "x"),
        "--methods": ("", "x", "pca-ot rfa"),
        "--scopes": ("", "x", "all,all,nothing"),
        "--dtype": ("int8", "", "float64x"),
        "--device": ("cuda:99", "tpu", ""),
        "--judge": ("", "nobody", "llm:", "classifier:", "llm:x@y@z"),
        "--system": ("\0",),
        "--thinking-tokens": ("x",),
        "--out": ("/proc/none", "/dev/null/x", "a\0b"),
        "--quantization": ("4", "bnb-1bit"),
        "--revision": ("\0", "nothing"),
        "--adapter": ("{w}/nothing", "{w}/model", "{w}/harmful_fit.txt"),
    }
    for option, tried in values.items():
        for value in tried:
            yield Case(f"option {option} {value!r}", scan(*option.split(), value))
    configs = {
        "empty key": '"" = 1',
        "unknown key": "colour = 3",
        "wrong type": "n_fit = 'x'",
        "list": "n_fit = [1]",
        "table": "[n_fit]\na = 1",
        "open string": "judge = 'x",
        "twice": "seed = 1\nseed = 2",
        "a date": "seed = 2020-01-01",
        "nan": "strength = nan",
        "huge integer": "seed = " + "9" * 400,
        "deep": "ranks = " + "[" * 3000 + "]" * 3000,
        "control character": "judge = '\x01'",
        "json": '{"seed": 1}',
        "yaml": "seed: 1",
        "ini": "[audit\nseed=1",
    }
    for name, text in configs.items():
        yield Case(f"config {name}", scan("--config", "{w}/c.toml"), _file("c.toml", text.encode()))
    for name, content in {
        "latin1": b"judge = '\xe9'",
        "binary": bytes(range(256)),
        "utf16": "seed=1".encode("utf-16"),
    }.items():
        yield Case(f"config {name}", scan("--config", "{w}/c.toml"), _file("c.toml", content))
    yield Case("config nowhere", scan("--config", "{w}/nothing.toml"))
    yield Case("config a folder", scan("--config", "{w}"))


# Models -------------------------------------------------------------------------------------------------------------


def _tensors(edit: Callable[[dict[str, Any]], object]) -> Prepare:
    def prepare(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model" / "model.safetensors"
        tensors = load_file(file)
        edit(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return prepare


def _spoil(name: str, change: Callable[[bytes], bytes]) -> Prepare:
    def prepare(folder: Path) -> None:
        file = folder / "model" / name
        file.write_bytes(change(file.read_bytes() if file.exists() else b""))

    return prepare


def _json(name: str, **changes: Any) -> Prepare:
    def prepare(folder: Path) -> None:
        file = folder / "model" / name
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        held |= changes
        file.write_text(json.dumps({k: v for k, v in held.items() if v is not ...}), encoding="utf-8")

    return prepare


def _template(text: str) -> Prepare:
    def prepare(folder: Path) -> None:
        model = folder / "model"
        if (model / "chat_template.jinja").exists():
            (model / "chat_template.jinja").write_text(text, encoding="utf-8")
        else:
            _json("tokenizer_config.json", chat_template=text)(folder)

    return prepare


def _header(length: int, header: bytes) -> Prepare:
    return _spoil("model.safetensors", lambda _: struct.pack("<Q", length) + header)


def model_cases() -> Iterator[Case]:
    """Folders and files that are no model, or a hostile one."""

    def fill(value: float) -> Callable[[dict[str, Any]], object]:
        return lambda t: [each.fill_(value) for name, each in t.items() if "layers.1" in name]

    head = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}).encode()
    overlap = json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in ("a", "b")}).encode()
    safetensors: dict[str, Prepare] = {
        "empty": _spoil("model.safetensors", lambda _: b""),
        "cut": _spoil("model.safetensors", lambda b: b[: len(b) // 2]),
        "a byte short": _spoil("model.safetensors", lambda b: b[:-1]),
        "huge header": _header(1 << 60, b"{}"),
        "negative header": _spoil("model.safetensors", lambda _: b"\xff" * 64),
        "header no json": _header(4, b"{{{{"),
        "shape beyond the file": _header(len(head), head + b"\0" * 4),
        "overlapping": _header(len(overlap), overlap + b"\0" * 4),
        "a pickle": _spoil("model.safetensors", lambda _: b"\x80\x04\x95\x00"),
        "lfs pointer": _spoil("model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\n"),
        "missing": lambda w: (w / "model" / "model.safetensors").unlink(),
        "a folder": lambda w: [
            (w / "model" / "model.safetensors").unlink(),
            (w / "model" / "model.safetensors").mkdir(),
        ],
        "no tensors": _tensors(lambda t: t.clear()),
        "a tensor missing": _tensors(lambda t: t.pop("model.layers.1.self_attn.q_proj.weight")),
        "a tensor transposed": _tensors(
            lambda t: t.update({"model.embed_tokens.weight": t["model.embed_tokens.weight"].T.contiguous()})
        ),
        "nan": _tensors(fill(float("nan"))),
        "infinite": _tensors(fill(float("inf"))),
    }
    for name, prepare in safetensors.items():
        yield Case(f"weights {name}", scan(), prepare)
    configs: dict[str, Prepare] = {
        "empty": _spoil("config.json", lambda _: b""),
        "no json": _spoil("config.json", lambda _: b"{"),
        "a list": _spoil("config.json", lambda _: b"[]"),
        "missing": lambda w: (w / "model" / "config.json").unlink(),
        "unknown type": _json("config.json", model_type="nothing-such", architectures=["Nothing"]),
        "no type": _json("config.json", model_type=..., architectures=...),
        "no layers": _json("config.json", num_hidden_layers=0),
        "more layers": _json("config.json", num_hidden_layers=9),
        "negative layers": _json("config.json", num_hidden_layers=-1),
        "wide": _json("config.json", hidden_size=1 << 30),
        "text for width": _json("config.json", hidden_size="wide"),
        "encoder": _json("config.json", model_type="bert", architectures=["BertModel"]),
        "remote code": _json("config.json", auto_map={"AutoModelForCausalLM": "evil.Evil"}, model_type="evil"),
        "quantised oddly": _json("config.json", quantization_config={"quant_method": "nothing"}),
        "deep": _spoil("config.json", lambda _: b'{"a":' * 50_000),
    }
    for name, prepare in configs.items():
        yield Case(f"configuration {name}", scan(), prepare)
    tokenizers: dict[str, Prepare] = {
        "missing": lambda w: [f.unlink() for f in (w / "model").glob("tokenizer*")],
        "cut": _spoil("tokenizer.json", lambda b: b[: len(b) // 2]),
        "empty": _spoil("tokenizer.json", lambda _: b""),
        "of a larger vocabulary": _tensors(
            lambda t: t.update({k: t[k][:20].contiguous() for k in ("model.embed_tokens.weight", "lm_head.weight")})
        ),
        "configuration no json": _spoil("tokenizer_config.json", lambda _: b"{"),
        "remote code": _json(
            "tokenizer_config.json", tokenizer_class="Evil", auto_map={"AutoTokenizer": ["e.E", None]}
        ),
    }
    for name, prepare in tokenizers.items():
        yield Case(f"tokenizer {name}", scan(), prepare)
    templates = {
        "empty": "",
        "open": "{% for m in messages %}",
        "raises": "{{ raise_exception('no') }}",
        "raises strangely": "{{ 1 // 0 }}",
        "swallows the prompt": "hello{% if add_generation_prompt %} you{% endif %}",
        "swallows all but the first word": "{{ messages[-1]['content'].split()[0][:2] }}",
        "private": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
        "grows": "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "multiplies": "{{ 'x' * 9999999999 }}",
        "range": "{{ range(10**12) | list }}",
        "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "calls": "{{ messages.append(1) }}",
        "imports": "{% include '/etc/passwd' %}",
        "a megabyte": "{{ 'x' }}" * 130_000,
        "not text": "\x00\x01",
        "numbers": "{{ messages[-1]['content'] | length }}",
    }
    for name, text in templates.items():
        yield Case(f"template {name}", scan(), _template(text))
    ggufs = {
        "empty.gguf": b"",
        "magic.gguf": b"GGUF",
        "version.gguf": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
        "tensors.gguf": b"GGUF" + struct.pack("<IQQ", 3, 1 << 50, 0),
        "keys.gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 50),
        "string.gguf": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + b"a",
        "nothing.gguf": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
        "text.gguf": b"this is no model at all, whatever its name says",
        "big-endian.gguf": b"FUGG" + bytes(40),
    }
    for name, content in ggufs.items():
        yield Case(f"gguf {name}", scan(model=f"{{w}}/{name}"), _file(name, content))
    for name in (
        "",
        " ",
        "{w}/nothing",
        "{w}/harmful_fit.txt",
        "x" * 4000,
        "a\0b",
        "../../..",
        "/",
        "organism.gguf",
        "a/b/c",
    ):
        yield Case(f"model {name[:20]!r}", scan(model=name))
    yield Case("model a pickle", scan(model="{w}/model"), _pickled)


def _pickled(folder: Path) -> None:
    import torch

    (folder / "model" / "model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, folder / "model" / "pytorch_model.bin")


def adapter_cases() -> Iterator[Case]:
    """Adapters."""

    def spoil(name: str, content: bytes | None) -> Prepare:
        return lambda w: (
            (w / "adapter" / name).unlink() if content is None else (w / "adapter" / name).write_bytes(content)
        )

    for name, content in (("cut", b"\x10\0\0\0\0\0\0\0{"), ("empty", b""), ("missing", None), ("pickle", b"\x80\x04")):
        given = scan("--adapter", "{w}/adapter")
        yield Case(f"adapter weights {name}", given, spoil("adapter_model.safetensors", content))
    for name, content in (
        ("empty", b""),
        ("no json", b"{"),
        ("a list", b"[]"),
        ("missing", None),
        ("unknown", b'{"peft_type": "NOTHING"}'),
        ("prompt tuning", b'{"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}'),
        ("other modules", b'{"peft_type": "LORA", "r": 2, "target_modules": ["nothing"]}'),
        ("huge rank", b'{"peft_type": "LORA", "r": 99999999, "target_modules": ["q_proj"]}'),
    ):
        yield Case(
            f"adapter configuration {name}", scan("--adapter", "{w}/adapter"), spoil("adapter_config.json", content)
        )


# Run folders --------------------------------------------------------------------------------------------------------

READERS: dict[str, list[str]] = {
    "report": ["report", "{w}/audit"],
    "gate": ["gate", "{w}/audit", "--max-asr", "0.5"],
    "compare": ["compare", "{w}/whole", "{w}/audit"],
    "history": ["history", "{w}/audit"],
    "judge": ["judge", "run", "{w}/audit", "--judge", "gcg"],
    "label": ["judge", "label", "{w}/audit", "--n", "2"],
}


def _results(edit: Callable[[dict[str, Any]], object]) -> Prepare:
    def prepare(folder: Path) -> None:
        file = folder / "audit" / "results.json"
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        edit(held)
        file.write_text(json.dumps(held), encoding="utf-8")

    return prepare


def _in_run(name: str, content: bytes | None) -> Prepare:
    def prepare(folder: Path) -> None:
        file = folder / "audit" / name
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)

    return prepare


def run_cases() -> Iterator[Case]:
    """Run folders that are damaged, half written, of another job or from the future."""
    damaged: dict[str, Prepare] = {
        "no results": _in_run("results.json", None),
        "empty results": _in_run("results.json", b""),
        "half results": _in_run("results.json", b'{"schema_version": 4, "status": "com'),
        "results no object": _in_run("results.json", b"[]"),
        "results null": _in_run("results.json", b"null"),
        "results binary": _in_run("results.json", bytes(range(256))),
        "results deep": _in_run("results.json", b"[" * 100_000),
        "from the future": _results(lambda r: r.update(schema_version=99)),
        "version text": _results(lambda r: r.update(schema_version="four")),
        "version missing": _results(lambda r: r.pop("schema_version")),
        "version null": _results(lambda r: r.update(schema_version=None)),
        "version huge": _results(lambda r: r.update(schema_version=10**30)),
        "ancient": _results(lambda r: r.update(schema_version=1)),
        "job unknown": _results(lambda r: r.update(job="dance")),
        "job a list": _results(lambda r: r.update(job=[])),
        "rows text": _results(lambda r: r.update(rows="none")),
        "row unknown key": _results(lambda r: r["rows"][0].update(colour="red")),
        "row marks": _results(lambda r: r["rows"][0].update(refused={"bures": "0x1"})),
        "row infinite": _results(lambda r: r["rows"][0].update(nll_each=["Infinity"])),
        "options missing": _results(lambda r: r.pop("options")),
    }
    for what, prepare in damaged.items():
        for reader in ("report", "gate", "compare", "judge"):
            yield Case(f"run {what}: {reader}", READERS[reader], prepare)
    for reader in ("history", "label"):
        for what in ("half results", "from the future", "results null"):
            yield Case(f"run {what}: {reader}", READERS[reader], damaged[what])
    running = _results(lambda r: r.update(status="running"))
    for reader in ("gate", "judge", "label"):
        yield Case(f"run unfinished: {reader}", READERS[reader], running)
    for reader in ("judge", "label"):
        yield Case(f"run without completions: {reader}", READERS[reader], _in_run("completions.jsonl", None))
        yield Case(
            f"run with half completions: {reader}", READERS[reader], _in_run("completions.jsonl", b'{"row": "no')
        )
        yield Case(f"run with other lines: {reader}", READERS[reader], _in_run("completions.jsonl", b"[]\n3\nnull\n"))
    for reader, arguments in READERS.items():
        nothing = [each.replace("{w}/audit", "{w}/nothing") for each in arguments]
        yield Case(f"run nowhere: {reader}", nothing)
        other = [each.replace("{w}/audit", "{w}/model") for each in arguments]
        yield Case(f"run a model folder: {reader}", other)
    yield Case("run of other options", [*audit("--seed", "5"), "--out", "{w}/audit"])
    yield Case("run of a damaged config", [*audit(), "--out", "{w}/audit"], _in_run("config.json", b"{"))
    yield Case("run whose config is a list", [*audit(), "--out", "{w}/audit"], _in_run("config.json", b"[]"))
    yield Case("out is a file", [*scan(), "--out", "{w}/harmful_fit.txt"])
    yield Case(
        "out has a file for maps",
        [*scan(), "--out", "{w}/o"],
        lambda w: [(w / "o").mkdir(), (w / "o/maps").write_text("x")],
    )
    for option, values in {
        "--max-asr": ("nan", "2", "-1", "x", "inf"),
        "--row": ("nothing", ""),
        "--judge": ("nobody", ""),
        "--against": ("{w}/nothing", "{w}/model"),
        "--junit": ("{w}/no/such/folder.xml", "{w}"),
    }.items():
        for value in values:
            yield Case(f"gate {option} {value!r}", ["gate", "{w}/audit", "--max-asr", "0.5", option, value])
    yield Case("gate with nothing to check", ["gate", "{w}/audit"])


def cases() -> list[Case]:
    """All of them."""
    made = [*prompt_cases(), *option_cases(), *model_cases(), *adapter_cases(), *run_cases()]
    names = [case.name for case in made]
    assert len(names) == len(set(names)), "two cases of one name"
    return made


# Trying them --------------------------------------------------------------------------------------------------------


def _run(arguments: list[str], log: str) -> None:
    from bures import cli

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    try:
        cli.main(arguments)
    finally:
        Path(log + ".memory").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _seen(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size < 1 << 24:
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def attempt(case: Case, good: Path, folder: Path) -> Outcome:
    """Gives one input to the command line, in a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    shutil.copytree(good / "audit", folder / "whole")
    case.prepare(folder)
    before, log = _seen(folder), folder.with_suffix(".log")
    log.unlink(missing_ok=True)
    began = time.monotonic()
    process = context.Process(target=_run, args=([a.replace("{w}", str(folder)) for a in case.arguments], str(log)))
    process.start()
    process.join(SECONDS)
    seconds, late = time.monotonic() - began, process.is_alive()
    process.kill()
    process.join()
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    memory = log.with_name(log.name + ".memory")
    megabytes = float(memory.read_text()) if memory.exists() else 0.0
    memory.unlink(missing_ok=True)
    lines = [line for line in said.splitlines() if line.startswith("bures: ")]
    after = _seen(folder)
    wrong = [f"still running after {SECONDS:.0f} s"] if late else []
    if not late and process.exitcode != 2:
        wrong.append(f"exit code {process.exitcode}")
    if not late and (len(lines) != 1 or "Traceback" in said):
        wrong.append(f"{len(lines)} lines")
    if any(len(line) > 1000 for line in lines):
        wrong.append("a line of more than 1,000 characters")
    if megabytes > MEGABYTES:
        wrong.append(f"{megabytes:.0f} MB")
    changed = [name for name, digest in before.items() if after.get(name) != digest and not name.endswith(".html")]
    wrong += [f"changed {name}" for name in changed]
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said.replace("\r", "")):
        wrong.append("control characters")
    return Outcome(case, wrong, lines[0] if lines else said[-600:], seconds, megabytes)


def main() -> None:
    """Tries all cases, or those whose names hold one of the words."""
    words, tried, bad = sys.argv[1:], 0, 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bad-") as name:
        good = Path(name) / "good"
        good.mkdir()
        write_good(good)
        slowest, largest = 0.0, 0.0
        for case in cases():
            if words and not any(word in case.name for word in words):
                continue
            outcome = attempt(case, good, Path(name) / "w")
            tried, bad = tried + 1, bad + bool(outcome.wrong)
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
            mark = f"WRONG ({'; '.join(outcome.wrong)})" if outcome.wrong else "ok"
            print(f"{mark}\t{case.name}\t{outcome.seconds:.1f} s\t{outcome.said[:300]!r}", flush=True)
    print(f"{tried} tried, {tried - bad} clean; slowest {slowest:.1f} s, at most {largest:.0f} MB")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
