"""The cost model of `--estimate`: fitted on small models, held against larger ones, and what it says of large ones.

    python benchmarks/scaling.py measure --out docs/results/scaling.json     # CPU seconds of passes, interleaved rounds
    python benchmarks/scaling.py growth --figure docs/assets/scaling.svg     # token passes by prompts, blocks and K
    python benchmarks/scaling.py tables                                      # 7B to 400B, by published figures of GPUs

`measure` makes random Llamas of several widths and depths, times passes along prompts and steps of decoding in each
(CPU seconds of this process, which other processes change less than the clock), fits the machine's three figures on the
smaller ones, and prints how far its predictions of the larger ones are off. Times that stand in the file are not
measured again. The other two count passes as `--estimate` does and load nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares

from bures.data.conversations import messages_of
from bures.jobs.config import AuditConfig
from bures.jobs.foreseen_passes import Forecast, Foreseen
from bures.jobs.splits import load_splits
from bures.models.costing import Machine, Pass, token_passes
from bures.models.foreseen_prompts import Prompts
from bures.models.memory import Shape, shape_of

SMALL = ((128, 4), (192, 4), (256, 6), (256, 3))
LARGE = ((320, 8), (448, 6))
ROUNDS = 3

MODELS: dict[str, tuple[int, int, int, int, int, float]] = {  # width, inner, blocks, vocabulary, kv width, active share
    "7B (Qwen2.5-7B)": (3584, 18944, 28, 152064, 512, 1.0),
    "13B (Llama-2-13B)": (5120, 13824, 40, 32000, 5120, 1.0),
    "32B (Qwen2.5-32B)": (5120, 27648, 64, 152064, 1024, 1.0),
    "70B (Llama-3.1-70B)": (8192, 28672, 80, 128256, 1024, 1.0),
}
GPUS = {
    "24 GB, 165 TFLOP/s, 1.0 TB/s": (24, 165e12, 1.0e12),
    "80 GB, 312 TFLOP/s, 2.0 TB/s": (80, 312e12, 2.0e12),
    "80 GB, 989 TFLOP/s, 3.3 TB/s": (80, 989e12, 3.3e12),
    "141 GB, 989 TFLOP/s, 4.8 TB/s": (141, 989e12, 4.8e12),
}
OF_PEAK, OF_BANDWIDTH, CALL = 0.4, 0.6, 4e-4
"""Assumed of every GPU: the share of its published figures that passes reach, and seconds a block and pass besides."""


def llama(width: int, layers: int) -> tuple[Any, Shape]:
    """A random Llama and its shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    network = LlamaForCausalLM(config).eval()
    return network, shape_of(config, network, dtype=torch.float32)


def passes() -> dict[str, tuple[Pass, int, int]]:
    """Name -> the pass, its rows, and tokens of each."""
    return {
        "prompts": (Pass(16 * 40, logits=16), 16, 40),
        "one token": (Pass(1, logits=1), 1, 1),
        "tokens of 16 rows": (Pass(16, logits=16), 16, 1),
    }


@torch.inference_mode()
def timed(network: Any, rows: int, tokens: int) -> float:
    """CPU seconds of a pass; single tokens stand behind 40 others."""
    ids = torch.ones((rows, tokens), dtype=torch.long)
    cache = (
        network(input_ids=torch.ones((rows, 40), dtype=torch.long), use_cache=True).past_key_values
        if tokens == 1
        else None
    )
    times = 1 if tokens > 1 else 5
    begun = time.process_time()
    for _ in range(times):
        network(input_ids=ids, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)
    return (time.process_time() - begun) / times


def fitted(rows: list[tuple[Shape, Pass, float]]) -> Machine:
    """The machine whose predictions are nearest to the measured seconds, by squared log ratios."""

    def off(logs: Any) -> Any:
        machine = Machine(*np.exp(logs))
        return [np.log(machine.seconds([one], shape) / seconds) for shape, one, seconds in rows]

    found = least_squares(off, np.log([2e10, 5e9, 3e-4]))
    return Machine(*map(float, np.exp(found.x)))


def measure(out: Path) -> None:
    """Times all models in turn, fits on the small ones and predicts the large ones."""
    torch.set_num_threads(1)
    held: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    found = {((c["width"], c["blocks"]), c["pass"]): c["cpu_seconds"] for c in held.get("cells", ())}
    models = {size: llama(*size) for size in (*SMALL, *LARGE)}
    seen: dict[tuple[tuple[int, int], str], list[float]] = {}
    for turn in range(0 if found else ROUNDS + 1):
        for size, (network, _) in models.items():
            for name, (_, rows, tokens) in passes().items():
                took = timed(network, rows, tokens)
                if turn:  # the first round warms up
                    seen.setdefault((size, name), []).append(took)
    kinds = passes()
    found |= {key: statistics.median(each) for key, each in seen.items()}
    rows = [(models[size][1], kinds[name][0], took) for (size, name), took in found.items() if size in SMALL]
    machine = fitted(rows)
    cells = []
    for (size, name), took in found.items():
        said = machine.seconds([kinds[name][0]], models[size][1])
        cells.append(
            {
                "width": size[0],
                "blocks": size[1],
                "pass": name,
                "cpu_seconds": round(took, 5),
                "predicted": round(said, 5),
                "fitted_on": size in SMALL,
                "ratio": round(said / took, 3),
            }
        )
        print(cells[-1])
    held = {
        "machine": {"flops": machine.flops, "bandwidth": machine.bandwidth, "call": machine.call},
        "rounds": ROUNDS,
        "torch": torch.__version__,
        "threads": 1,
        "cells": cells,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")


def job(config: AuditConfig, shape: Shape) -> Foreseen:
    """The passes of an audit over the default prompts, a token being four characters and a template 24 tokens."""
    sets = {}
    for name, prompts in load_splits(config).sets.items():
        lengths = [25 + sum(len(turn["content"]) for turn in messages_of(p)) // 4 for p in prompts]
        sets[name] = Prompts.of([[0] * n for n in lengths], config.token_budget, begin=24)
    return Forecast(config, shape, sets).job()


def large(name: str) -> Shape:
    """The shape of a model in half precision, from its published configuration."""
    width, inner, blocks, vocabulary, kv, share = MODELS[name]
    each = width * (2 * width + 2 * kv) + 3 * width * inner
    return Shape(
        weights=2 * (blocks * each + 2 * vocabulary * width),
        while_loading=0,
        itemsize=2,
        vocabulary=vocabulary,
        width=width,
        inner=inner,
        blocks=blocks,
        cached=2 * kv * blocks,
        resident=blocks * each,
        active=int(blocks * each * share),
    )


def growth(path: Path) -> None:
    """Draws token passes over what they grow with, each alone, the other options being the default."""
    import vl_convert as vlc

    base, shape = AuditConfig(model="organism"), replace(large("7B (Qwen2.5-7B)"), blocks=28)
    rows: list[dict[str, Any]] = []

    def add(what: str, x: float, config: AuditConfig, of: Shape = shape) -> None:
        rows.append({"what": what, "x": x, "passes": token_passes(job(config, of).passes) / 1e6})
        print(rows[-1])

    for n in (16, 32, 64, 152):
        add("test prompts a side", n, base.model_copy(update={"n_test": n, "n_harmless_test": n}))
    for n in (8, 16, 32, 64):
        add("selection prompts a side", n, base.model_copy(update={"n_select": n}))
    for k in (1, 2, 4, 8):
        add("ranks tried", k, base.model_copy(update={"ranks": tuple(range(1, k + 1))}))
    for n in (16, 28, 48, 80):
        add("blocks of the model", n, base, replace(shape, blocks=n))
    for n in (16, 64, 128, 256):
        add("tokens of an answer", n, base.model_copy(update={"max_new_tokens": n}))
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": rows},
        "columns": 3,
        "facet": {"field": "what", "title": None},
        "spec": {
            "width": 170,
            "height": 130,
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "x", "type": "quantitative", "title": None},
                "y": {"field": "passes", "type": "quantitative", "title": "million token passes"},
            },
        },
        "resolve": {"scale": {"x": "independent"}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vlc.vegalite_to_svg(spec) + "\n", encoding="utf-8")


def hours(seconds: float) -> str:
    """`12 min` or `3.5 h`."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tables() -> None:
    """Prints what audits take on GPUs that one can rent: estimated, not measured."""
    ours, paper = AuditConfig(model="organism"), AuditConfig(model="organism", protocol="paper")
    print("| model | weights | token passes, default / paper | " + " | ".join(GPUS) + " |")
    print("|---" * (3 + len(GPUS)) + "|")
    for name in MODELS:
        shape = large(name)
        jobs = [job(config, shape) for config in (ours, paper)]
        cells = []
        for memory, flops, bandwidth in GPUS.values():
            machine = Machine(flops * OF_PEAK, bandwidth * OF_BANDWIDTH, CALL)
            n = -(-shape.weights * 1.15 // (memory * 1e9))
            took = " / ".join(hours(machine.seconds(each.passes, shape)) for each in jobs)
            cells.append(f"{n:.0f} GPU{'s' if n > 1 else ''}: {took}")
        sizes = " / ".join(f"{token_passes(each.passes) / 1e6:.2f} M" for each in jobs)
        print(f"| {name} | {shape.weights / 1e9:.0f} GB | {sizes} | " + " | ".join(cells) + " |")
    machine = Machine(989e12 * OF_PEAK, 3.3e12 * OF_BANDWIDTH, CALL)
    dense = large("70B (Llama-3.1-70B)")
    mixture = Shape(
        weights=800_000_000_000,
        while_loading=0,
        itemsize=2,
        vocabulary=202048,
        width=5120,
        inner=16384,
        blocks=48,
        cached=2 * 1024 * 48,
        resident=395_000_000_000,
        active=15_000_000_000,
    )
    for name, shape in (("70B dense", dense), ("400B mixture, 17B active", mixture)):
        found = job(ours, shape)
        stages = {stage: machine.seconds(each, shape) for stage, each in found.stages.items()}
        print(name, {stage: hours(each) for stage, each in stages.items()}, "all", hours(sum(stages.values())))
        one = stages["trials"] / found.trials
        eight = Machine(8 * machine.flops * 0.7, 8 * machine.bandwidth * 0.7, CALL / 4)
        print(
            "  a trial",
            f"{one:.0f} s",
            "rows by 8 shards",
            hours(eight.seconds(found.stages["rows"], shape)),
            "200 trials: one worker",
            hours(200 * one),
            "eight",
            hours(25 * one),
        )


def main() -> None:
    """One of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "growth", "tables"])
    parser.add_argument("--out", type=Path, default=Path("docs/results/scaling.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/assets/scaling.svg"))
    given = parser.parse_args()
    {"measure": lambda: measure(given.out), "growth": lambda: growth(given.figure), "tables": tables}[given.what]()


if __name__ == "__main__":
    main()
