"""Padded `generate` against transformers' continuous batching: seconds, processor seconds, and whether tokens agree.

    python benchmarks/generation.py [MODEL] [--prompts 64] [--tokens 32] [--dtype float32] [--rounds 3]

Both run in one process, in turns, on the same prompts; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bures.data.prompts import load_prompts
from bures.models.generation import generate_ids
from bures.models.loading import ChatModel, load_model


def padded(model: ChatModel, prompts: list[str], tokens: int) -> list[list[int]]:
    """What bures does."""
    return generate_ids(model, prompts, max_new_tokens=tokens)


def continuous(model: ChatModel, prompts: list[str], tokens: int) -> list[list[int]]:
    """transformers' `generate_batch`, with a cache sized for the job."""
    inputs = model.encode(prompts)
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=list(model.eos_ids), pad_token_id=model.pad_id
    )
    batching = ContinuousBatchingConfig(num_blocks=256, max_batch_tokens=1024)
    hf: Any = model.hf  # transformers adds `generate` and its like to the class of the model, not to PreTrainedModel
    outputs = hf.generate_batch(
        inputs=inputs,
        generation_config=config,
        continuous_batching_config=batching,
        progress_bar=False,
        warmup=False,
    )
    ordered = sorted(outputs.values(), key=lambda o: int(str(o.request_id).rsplit("_", 1)[-1]))
    return [_ended(list(o.generated_tokens), model.eos_ids) for o in ordered]


def _ended(ids: list[int], eos: tuple[int, ...]) -> list[int]:
    places = [i for i, token in enumerate(ids) if token in eos]
    return ids[: places[0] + 1] if places else ids


def main() -> None:
    """Runs both in turns and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="organism")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = load_model(options.model, dtype=options.dtype)
    prompts = [*load_prompts("advbench").texts, *load_prompts("alpaca:test").texts][:: max(1, 687 // options.prompts)]
    prompts = prompts[: options.prompts]
    ways: dict[str, Callable[[ChatModel, list[str], int], list[list[int]]]] = {
        "padded": padded,
        "continuous": continuous,
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[list[int]]] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            answers[name] = way(model, prompts, options.tokens)
            wall[name].append(time.perf_counter() - began)
    same = sum(a == b for a, b in zip(answers["padded"], answers["continuous"], strict=True))
    medians = {name: statistics.median(seconds) for name, seconds in wall.items()}
    for name, seconds in medians.items():
        print(f"{name:10s} {seconds:8.2f} s (median of {options.rounds})")
    print(f"continuous / padded: {medians['continuous'] / medians['padded']:.2f}")
    print(
        f"answers with the same tokens: {same} of {len(prompts)} ({options.dtype}, {torch.get_num_threads()} threads)"
    )


if __name__ == "__main__":
    main()
