"""Collecting after all blocks beside the bare decoder, steering-vectors and repeng; `side_by_side.py` runs it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from turns import Row, arguments, in_turns, keep

from bures.data.prompts import load_prompts
from bures.models.activations import collect
from bures.models.batching import Batches, positions
from bures.models.loading import ChatModel, load_model

Rows = dict[int, Tensor]
APART = 1e-2
"""Largest relative difference of a row in float32, through all blocks."""


def main() -> None:
    """Checks, times and keeps."""
    given = arguments()
    torch.set_num_threads(1)
    model = load_model(given.model, dtype="float32")
    prompts = list(load_prompts("advbench").texts)[: given.prompts]
    peers: dict[str, Callable[[ChatModel, list[str]], Callable[[], Rows]]] = {
        "bare forward passes, same batches": bare,
        "steering-vectors, batches of 8": steering_vectors,
        "repeng, batches of 32": repeng,
    }

    def ours() -> Rows:
        return collect(model, prompts)

    rows: list[Row] = []
    mine, about = ours(), {"ours": f"collect, {len(prompts)} prompts, all {len(model.blocks)} blocks"}
    for name, made in peers.items():
        about = {**about, "theirs": name}
        try:
            theirs = made(model, prompts)
            worst = apart(model, mine, theirs())
        except Exception as error:  # noqa: BLE001  (what a peer raises is a line of the table)
            rows.append({**about, "failed": f"{type(error).__name__}: {str(error)[:80]}"})
            continue
        if worst > APART:
            raise SystemExit(f"{name}: rows differ by {worst:.1e}: nothing is compared")
        rows.append({**about, "equal": f"rows, within {worst:.0e}", **in_turns(ours, theirs, given.rounds)})
    keep("collect", rows, versions=("steering-vectors", "repeng"), note=f"{model.name} in float32. {given.note}")


@torch.inference_mode()
def apart(model: ChatModel, mine: Rows, rows: Rows) -> float:
    """Largest relative difference. Behind the last block, a bare decoder and repeng read after the final norm."""
    last = len(model.blocks) - 1
    behind = cast("Any", model.decoder).norm(mine[last])
    pairs = [(behind if block == -1 else mine[block], each) for block, each in rows.items() if block != last]
    return max(float(((a - b).abs() / (1 + b.abs())).max()) for a, b in pairs)


def bare(model: ChatModel, prompts: list[str]) -> Callable[[], Rows]:
    """The decoder alone; block -1 stands for what it returns."""

    @torch.inference_mode()
    def run() -> Rows:
        rows = torch.empty(len(prompts), model.d_model)
        for batch in Batches(model.encode(prompts), pad_id=model.pad_id, room=model.room):
            places = {"attention_mask": batch.attended.long(), "position_ids": positions(batch.attended)}
            returned = cast("Any", model.decoder)(input_ids=batch.ids, **places, use_cache=False)
            rows[list(batch.index)] = returned.last_hidden_state[:, -1]
        return {-1: rows}

    return run


def steering_vectors(model: ChatModel, prompts: list[str]) -> Callable[[], Rows]:
    """`record_activations`, which keeps every position."""
    record = import_module("steering_vectors").record_activations
    tokenizer, texts = spoken(model, prompts)

    @torch.no_grad()
    def run() -> Rows:
        found: dict[int, list[Tensor]] = {block: [] for block in range(len(model.blocks))}
        for first in range(0, len(texts), 8):
            encoded = tokenizer(texts[first : first + 8], return_tensors="pt", padding=True)
            with record(model.hf, layer_type="decoder_block") as kept:
                cast("Any", model.hf)(**encoded)
            for block, rows in found.items():
                rows.append(kept[block][-1][:, -1].float())
        return {block: torch.cat(rows) for block, rows in found.items()}

    return run


def repeng(model: ChatModel, prompts: list[str]) -> Callable[[], Rows]:
    """`batched_get_hiddens`, which reads `hidden_states`."""
    read = import_module("repeng.extract").batched_get_hiddens
    tokenizer, texts = spoken(model, prompts)

    def run() -> Rows:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            rows = read(model.hf, tokenizer, texts, list(range(len(model.blocks))), batch_size=32)
        return {block: torch.from_numpy(each) for block, each in rows.items()}

    return run


def spoken(model: ChatModel, prompts: list[str]) -> tuple[Any, list[str]]:
    """The tokenizer and the prompts as text with the template, as peers take them; both make the same tokens.

    Raises:
        ValueError: the tokenizer adds tokens to what the template says.
    """
    tokenizer = cast("Any", model.tokenizer)
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    texts = [tokenizer.apply_chat_template(t, tokenize=False, add_generation_prompt=True) for t in turns]
    if tokenizer(texts)["input_ids"] != model.encode(prompts):
        raise ValueError("the tokenizer adds tokens to the template")
    return tokenizer, texts


if __name__ == "__main__":
    main()
