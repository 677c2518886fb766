"""Hardening trains every supported family: all linear modules of the adapted blocks, in two steps of a tiny model."""

from __future__ import annotations

import random

import pytest
import torch

from bures.jobs.progress import Silent
from bures.models.intervention import count_hooks
from bures.training.harden.objective import MovingMaps, Streams
from bures.training.harden.plan import linear_names
from bures.training.harden.pool import Pool
from bures.training.harden.rows import Rows, with_streams
from bures.training.loop import Trainer, train
from bures.training.lora import attach
from helpers import hardening, tiny

LINEAR = {"phi3": ("down_proj", "gate_up_proj", "o_proj", "qkv_proj")}
OTHERS = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_family_is_trained_under_attack(family: str) -> None:
    model = hardening.model(family)
    assert linear_names(model) == LINEAR.get(family, OTHERS)
    plan = hardening.plan(model, steps=4, refit_every=2, attack_share=0.5)
    kept = hardening.kept(model)
    rows = with_streams(model, Rows(hardening.refusals(model), kept[:3], kept[3:]), plan, Silent())
    assert rows.entry == 1
    hooks = count_hooks(model)
    trainer = Trainer(model, attach(model, plan), plan)
    before = [p.clone() for p in trainer.master]
    pool = Pool(model, plan.attacks, range(1, 3), hardening.ASKED, tiny.PROMPTS, random.Random(0))
    streams = Streams.of(rows, plan)
    train(trainer, MovingMaps(model, streams, plan, pool, rows.entry), Silent())
    assert all({"refusal", "attacked", "KL"} <= each.keys() for each in trainer.losses)
    assert pool.failed == 0
    assert count_hooks(model) == hooks
    moved = [float((p - old).abs().max()) for p, old in zip(trainer.master, before, strict=True)]
    assert len(moved) == 2 * 2 * len(plan.targets)
    assert min(moved) > 0
    assert all(bool(torch.isfinite(p).all()) for p in trainer.master)
