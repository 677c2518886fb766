"""Inputs for every parser that libFuzzer makes from which lines of bures they reach; needs atheris.

    python tests/chaos/coverage_fuzzing.py --seconds 600 [WORDS...]    # `make fuzz-atheris`

The libraries are imported first and stay as they are: with torch and transformers in it, atheris instruments for
minutes. bures is instrumented whole. Each parser has a process of its own, forked with everything imported, so that one
that ends or hangs is a finding and not the end. Like `fuzzing.py`, only a `BuresError` of one line may come out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from chaos.parsers import Parser

LIBRARIES = (
    *("numpy", "scipy", "scipy.stats", "pandas", "pyarrow.parquet", "torch", "transformers", "tokenizers", "peft"),
    *("accelerate", "safetensors.torch", "gguf", "pydantic", "typer", "rich.console", "huggingface_hub", "jinja2"),
    *("yaml", "httpx2", "unearth", "jaxtyping", "filelock"),
)
"""What bures imports: all of this is left as it is."""

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # what has threads cannot be forked
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}

ALARMED = ("template", "a model's")
"""Beginnings of the names of parsers that render templates, whose time is bounded by SIGALRM. So is that of an input by
atheris, and a process has one such clock: `fuzzing.py` alone tries these."""

LATE = 120
"""Seconds that an input may take, and a process after it should have ended."""


def instrumented(words: Sequence[str]) -> list[Parser]:
    """The parsers whose names hold one of the words (none: all), with bures instrumented; each has read its seeds."""
    for name in LIBRARIES:
        importlib.import_module(name)
    transformers: Any = importlib.import_module("transformers")
    _ = transformers.AutoModelForCausalLM, transformers.PreTrainedTokenizerFast, transformers.LlamaForCausalLM
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["bures"]), contextlib.redirect_stderr(io.StringIO()):
        from chaos.fuzzing import found
        from chaos.parsers import parsers

        able = [each for each in parsers() if not each.name.startswith(ALARMED)]
        chosen = [each for each in able if not words or any(word in each.name for word in words)]
        with tempfile.TemporaryDirectory() as folder:
            for parser in chosen:
                (Path(folder) / parser.file).parent.mkdir(exist_ok=True)
                for seed in parser.seeds:
                    found(parser, Path(folder), seed)  # what is imported only now is instrumented too
    return chosen


def dictionary() -> str:
    """Words of the parsers, as libFuzzer reads them."""
    from chaos.fuzzing import BYTES, WORDS

    pieces = [piece for piece in (*WORDS, *BYTES) if 0 < len(piece) <= 64]
    spelled = ("".join(f"\\x{byte:02x}" for byte in piece) for piece in pieces)
    return "".join(f'"{each}"\n' for each in spelled)


def fuzz(parser: Parser, folder: Path, seconds: int) -> None:
    """Tries one parser, in this process, which ends here."""
    from chaos.fuzzing import found

    atheris: Any = importlib.import_module("atheris")
    seen: set[str] = set()

    def once(content: bytes) -> None:
        fault = found(parser, folder, content)
        kind = " ".join((fault or "").split(": ")[:2])
        if fault is not None and kind not in seen:
            seen.add(kind)
            with (folder / "faults.jsonl").open("a") as file:
                file.write(json.dumps([fault, repr(content[:300])]) + "\n")

    (folder / "corpus").mkdir()
    for number, seed in enumerate(parser.seeds):
        (folder / "corpus" / str(number)).write_bytes(seed)
    (folder / "words").write_text(dictionary())
    limits = [f"-max_total_time={seconds}", f"-timeout={LATE}", "-rss_limit_mb=0", "-max_len=100000"]
    given = ["-seed=1", f"-dict={folder / 'words'}", f"-artifact_prefix={folder}/", str(folder / "corpus")]
    atheris.Setup([sys.argv[0], *limits, *given], once)
    atheris.Fuzz()


def told(parser: Parser, folder: Path, status: int) -> tuple[int, str, list[tuple[str, str]]]:
    """Executions, what libFuzzer says of the coverage, and the findings of a process that has ended."""
    said = (folder / "log").read_text(errors="replace")
    done = re.search(r"^Done (\d+) runs", said, flags=re.MULTILINE)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    file = folder / "faults.jsonl"
    faults = [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    if status != 0 or done is None:
        faults.append((f"{parser.name}: the process ended with {status}", said[-2000:]))
    covered = f"{reached[0][0]} to {reached[-1][0]} edges" if reached else "no coverage"
    return int(done[1]) if done else 0, covered, faults


def tried(parser: Parser, seconds: int) -> tuple[int, str, list[tuple[str, str]]]:
    """One parser in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / parser.file).parent.mkdir(exist_ok=True)
        child = os.fork()
        if child == 0:
            log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(log, stream)
            fuzz(parser, folder, seconds)
            os._exit(0)
        ends = time.monotonic() + seconds + 2 * LATE
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                break
            time.sleep(0.1)
        return told(parser, folder, os.waitstatus_to_exitcode(ended[1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Tries each parser for its share of the time; 1 where anything was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("words", nargs="*", help="parsers whose names hold one of them")
    options.add_argument("--seconds", type=float, default=600.0)
    given = options.parse_args(arguments)
    chosen = instrumented(given.words)
    total, wrong = 0, 0
    for parser in chosen:
        n, covered, faults = tried(parser, max(1, round(given.seconds / len(chosen))))
        print(f"{parser.name:24} {n:8} executions  {covered:22} {len(faults)} findings", flush=True)
        for fault, content in faults:
            print(f"    {fault}\n    {content}")
        total, wrong = total + n, wrong + len(faults)
    print(f"{total} executions, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
