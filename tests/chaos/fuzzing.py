"""Changed inputs for every parser: only a `BuresError` of one line may come out.

    python tests/chaos/fuzzing.py --seconds 60 [WORDS...]    # executions and findings of each; `make fuzz`

Words choose the parsers whose names hold one of them. `test_fuzzing.py` does a little of it in the tests.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from bures.errors import BuresError
from chaos.parsers import Parser, parsers

LONGEST = 4000
"""Characters of a message."""

WORDS = tuple(
    word.encode()
    for word in (
        *("null", "true", "NaN", "1e999", "-1", "9" * 30, '""', "[]", "{}", "[" * 3000, '{"a":' * 3000),
        *("\\ud800", "\\u0000", "\n", "\r", "\t", ",", ":", '"', "'", "\\", "#", "=", "{{", "}}", "{%", "%}", "[["),
        *("/", "../", "~", "$", "\x1b[2J", "prompt", "messages", "role", "content", "schema_version", "format_version"),
        *("__metadata__", "data_offsets", "model", "blocks", "limit", "1970-01-01", "0x1f", "inf", "é", "\u202e"),
    )
)
"""Pieces that mean something to one parser or another."""

BYTES = (
    b"\x00",
    b"\xff",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    *(struct.pack("<Q", n) for n in (0, 1 << 62)),
    b"PAR1",
    b"GGUF",
)


def found(parser: Parser, folder: Path, content: bytes) -> str | None:
    """What is wrong with how a parser took an input, or None."""
    path = folder / parser.file
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser.read(path)
    except BuresError as error:
        said = str(error)
        if "\n" in said or not said.isprintable():
            return f"{parser.name}: more than a line of plain text: {said!r}"
        return f"{parser.name}: {len(said)} characters" if len(said) > LONGEST else None
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(frames) if "bures/" in frame.filename), frames[-1])
        return (
            f"{parser.name}: {type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {str(error)[:200]!r}"
        )
    return None


def mutated(random: Random, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few cuts, copies, words and random bytes."""
    content = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(content))
        until = min(len(content), at + random.choice((0, 1, 1, 2, 8, 64, 1024)))
        piece = random.choice(
            (b"", random.choice(WORDS + BYTES), random.randbytes(random.randint(1, 8)), bytes(content[at:until]) * 2)
        )
        content[at:until] = piece
    return bytes(content[: random.randint(0, len(content))] if random.random() < 0.05 else content)


def fuzzed(parser: Parser, random: Random, seconds: float) -> tuple[int, dict[str, tuple[str, bytes]]]:
    """Changed inputs for so long: how many, and of every fault the first input that shows it."""
    ends, n, faults = time.monotonic() + seconds, 0, dict[str, tuple[str, bytes]]()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / parser.file).parent.mkdir(exist_ok=True)
        while time.monotonic() < ends:
            content, n = mutated(random, parser.seeds), n + 1
            fault = found(parser, Path(folder), content)
            if fault is not None:
                faults.setdefault(" ".join(fault.split(": ")[:2]), (fault, content))
    return n, faults


def main() -> int:
    """Tries each parser for its share of the time; 1 where anything was found."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("words", nargs="*", help="parsers whose names hold one of them")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    chosen = [p for p in parsers() if not given.words or any(word in p.name for word in given.words)]
    tried, wrong = 0, 0
    for parser in chosen:
        n, faults = fuzzed(parser, Random(f"{given.seed} {parser.name}"), given.seconds / len(chosen))
        print(f"{parser.name:24} {n:8} executions  {len(faults)} findings", flush=True)
        for fault, content in faults.values():
            print(f"    {fault}\n    {content[:300]!r}")
        tried, wrong = tried + n, wrong + len(faults)
    print(f"{tried} executions, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
