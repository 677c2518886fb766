"""What an audit or a scan will take on this machine, before its model is loaded.

Prompts, candidates and token passes are counted (`bures.jobs.foreseen_passes`), memory is that of
`bures.models.memory`, and seconds follow from the passes and three figures of the machine, measured for a few seconds
(`bures.models.costing`). Read are the model's configuration and its tokenizer; where there is none to be had, prompts
are counted by their characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bures.data.conversations import Prompt, messages_of
from bures.errors import ModelError
from bures.jobs.foreseen_passes import Forecast, Foreseen
from bures.jobs.foresight import passes_of, shape_foreseen
from bures.jobs.scan_config import ScanConfig
from bures.jobs.splits import Splits, load_splits
from bures.models.before_loading import tokenizer_before_loading
from bures.models.costing import Machine, probed, token_passes
from bures.models.foreseen_prompts import Prompts
from bures.models.memory import Need, Shape, free_memory, need
from bures.models.sources import place_of

_TEMPLATE, _CHARACTERS = 24, 4
"""Tokens of a chat template that all prompts share, and characters of a token, where there is no tokenizer."""

_DTYPES = {4: torch.float32, 2: torch.bfloat16}


@dataclass(frozen=True)
class Estimate:
    """What a job will take; nothing of it is measured but the machine's three figures.

    Attributes:
        model: what the user asked for.
        shape: the model's.
        prompts: of each set, how many.
        are_counted: whether the prompts' tokens were counted by the model's own tokenizer.
        job: its passes.
        machine: this one.
        place: the device.
        memory: what it needs.
        free: bytes that are free there; None: not known.
        where: the place in words.
    """

    model: str
    shape: Shape
    prompts: dict[str, int]
    are_counted: bool
    job: Foreseen
    machine: Machine
    place: str
    memory: Need
    free: int | None
    where: str

    @property
    def token_passes(self) -> float:
        """Positions computed, summed over the blocks, over the number of blocks."""
        return token_passes(self.job.passes)

    @property
    def seconds(self) -> float:
        """Of all passes; loading, judging and fits are not in it."""
        return self.machine.seconds(self.job.passes, self.shape)

    @property
    def stages(self) -> list[tuple[str, float, float]]:
        """Name, token passes and seconds of each stage."""
        return [(name, token_passes(p), self.machine.seconds(p, self.shape)) for name, p in self.job.stages.items()]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "model": self.model,
            "measured": False,
            "prompts": self.prompts,
            "prompts_counted_by_tokenizer": self.are_counted,
            "candidates": self.job.candidates,
            "trials": self.job.trials,
            "rows": self.job.rows,
            "stages": [{"stage": n, "token_passes": round(p), "seconds": round(s, 1)} for n, p, s in self.stages],
            "token_passes": round(self.token_passes),
            "token_passes_between": [round(end) for end in self.job.spread],
            "seconds": round(self.seconds, 1),
            "memory_bytes": self.memory.total,
            "free_bytes": self.free,
            "machine": {
                "device": self.place,
                "flops": self.machine.flops,
                "bandwidth": self.machine.bandwidth,
                "seconds_a_block_and_pass": self.machine.call,
            },
        }


def estimate(config: ScanConfig, machine: Machine | None = None) -> Estimate:
    """Counts and reckons; the model is not loaded.

    Args:
        config: the options of an audit or a scan.
        machine: its three figures; None: they are measured, for a few seconds.

    Raises:
        ModelError: there is no such model, or its configuration does not say what it will be.
        PromptError: a prompt set cannot be read.
    """
    splits = load_splits(config)
    shape = shape_foreseen(config)
    if shape is None:
        raise ModelError(
            f"the configuration of {config.model} does not say what the model will be once it is loaded; "
            "run a small audit instead (--limit 8) and see how long it takes"
        )
    place = place_of(config.device)
    free, where = free_memory(place)
    tokens = _tokens(config, splits)
    forecast = Forecast(config, shape, tokens or _by_characters(splits, config))
    dtype = torch.float16 if config.dtype == "float16" else _DTYPES.get(shape.itemsize, torch.float32)
    return Estimate(
        model=config.model,
        shape=shape,
        prompts={name: len(prompts) for name, prompts in splits.sets.items()},
        are_counted=tokens is not None,
        job=forecast.job(),
        machine=machine or probed(shape, place, dtype),
        place=place,
        memory=need(shape, passes_of(config, splits)),
        free=free,
        where=where,
    )


def _tokens(config: ScanConfig, splits: Splits) -> dict[str, Prompts] | None:
    """Every set as the model's tokenizer and template make it; None where there is none to be had."""
    chat = tokenizer_before_loading(config.model, config.revision, trust_remote_code=config.trust_remote_code)
    if chat is None:
        return None
    sets = {name: chat.encode(prompts, system=config.system) for name, prompts in splits.sets.items()}
    return {name: Prompts.of(ids, config.token_budget) for name, ids in sets.items()}


def _by_characters(splits: Splits, config: ScanConfig) -> dict[str, Prompts]:
    begin = _TEMPLATE + len(config.system or "") // _CHARACTERS

    def of(prompts: Sequence[Prompt]) -> Prompts:
        characters = [sum(len(turn["content"]) for turn in messages_of(p)) for p in prompts]
        return Prompts.of([[0] * (begin + 1 + n // _CHARACTERS) for n in characters], config.token_budget, begin=begin)

    return {name: of(list(prompts)) for name, prompts in splits.sets.items()}
