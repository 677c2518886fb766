"""Scores while a model answers: those of whole passes, token by token, and of the prompt's own score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch

import bures
from bures.errors import ConfigError
from bures.jobs.probe.detectors import Detector, fit_detector
from bures.jobs.probe.files import Probe
from bures.models.batching import pad
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.results.names import DETECTOR_NAMES
from bures.transport import fit_mean_shift
from helpers import tiny

BLOCK = 1
PROMPTS = ["Name a river.", "Paint the old gate green and white", "Count to three, please"]


def detector(model: ChatModel, kind: str) -> Detector:
    harmful, harmless = torch.randn(2, 40, model.d_model, generator=torch.Generator().manual_seed(0))
    return fit_detector(kind, harmful + 0.5, harmless)


def probe_of(model: ChatModel, kind: str = "lda") -> Probe:
    return Probe(detector(model, kind), BLOCK, "last", {"0.05": 0.0}, model.fingerprint(), model.chat.sha256)


def answered(model: ChatModel, prompts: list[str], tokens: int) -> torch.Tensor:
    """transformers' own generation, prompts padded on the left."""
    ids, attended = pad(model.encode(prompts), pad_id=model.pad_id, side="left")
    generate = cast("Callable[..., Any]", model.hf.generate)
    return generate(
        input_ids=ids, attention_mask=attended.long(), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
    )


def whole(model: ChatModel, probe: Probe, row: list[int]) -> torch.Tensor:
    """The score at every token of one row, by the hidden states that transformers returns."""
    ids = torch.tensor([row])
    with torch.no_grad():
        states = model.hf(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
    return probe.detector.score(states[BLOCK + 1][0])


@pytest.mark.parametrize("kind", DETECTOR_NAMES)
def test_every_token_of_an_answer_is_scored_as_in_a_whole_pass(llama: ChatModel, kind: str) -> None:
    probe = probe_of(llama, kind)
    told: list[torch.Tensor] = []
    with bures.watching(probe, llama, told.append) as watched:
        ids = answered(llama, PROMPTS, 6)
    assert [each.shape[1] for each in watched.passes[1:]] == [1] * 5
    assert all(a is b for a, b in zip(told, watched.passes, strict=True))
    scores = torch.cat(watched.passes, dim=1)
    assert scores.shape == (3, ids.shape[1] - 1)  # the last token is not computed any more
    for row, prompt in enumerate(PROMPTS):
        start = ids.shape[1] - 6 - len(llama.encode([prompt])[0])
        expected = whole(llama, probe, ids[row, start:-1].tolist())
        torch.testing.assert_close(scores[row, start:], expected, rtol=1e-4, atol=1e-4)
    prompts_own = probe.score(llama, PROMPTS)
    torch.testing.assert_close(watched.passes[0][:, -1], prompts_own, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(watched.latest(), scores[:, -1])
    torch.testing.assert_close(watched.latest(4), scores[:, -4:].mean(dim=1))
    torch.testing.assert_close(watched.latest(999), scores.mean(dim=1))


def test_an_intervention_around_it_is_seen_and_the_hook_is_gone_behind_it(llama: ChatModel) -> None:
    probe, before = probe_of(llama), len(llama.blocks[BLOCK]._forward_hooks)
    source, target = torch.randn(2, 9, llama.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shift = Intervention({BLOCK: fit_mean_shift(source, target + 3.0)})
    with bures.watching(probe, llama) as plain:
        answered(llama, PROMPTS[:1], 1)
    with shift.applied(llama), bures.watching(probe, llama) as moved:
        answered(llama, PROMPTS[:1], 1)
    gap = next(iter(shift.maps.values()))(torch.zeros(1, llama.d_model, dtype=torch.float64))
    expected = plain.passes[0] + float((gap @ probe.detector.direction).item())
    torch.testing.assert_close(moved.passes[0], expected, rtol=1e-4, atol=1e-4)
    assert len(llama.blocks[BLOCK]._forward_hooks) == before


def test_what_is_told_may_stop_the_generation(llama: ChatModel) -> None:
    class StopError(Exception):
        pass

    def stop(scores: torch.Tensor) -> None:
        if scores.shape[1] == 1:
            raise StopError

    before = len(llama.blocks[BLOCK]._forward_hooks)
    with pytest.raises(StopError), bures.watching(probe_of(llama), llama, stop) as watched:
        answered(llama, PROMPTS[:1], 50)
    assert len(watched.passes) == 2
    assert len(llama.blocks[BLOCK]._forward_hooks) == before


def test_another_model_and_windows_without_meaning_are_refused_in_one_line(llama: ChatModel) -> None:
    with (
        pytest.raises(ConfigError, match="another weights"),
        bures.watching(replace(probe_of(llama), fingerprint="0" * 64), llama),
    ):
        pass
    with bures.watching(probe_of(llama), llama) as watched:
        with pytest.raises(ConfigError, match="over 0 passes"):
            watched.latest()
        answered(llama, PROMPTS[:1], 1)
        with pytest.raises(ConfigError, match="window 0"):
            watched.latest(0)
        answered(llama, list(tiny.PROMPTS[:2]), 1)
        with pytest.raises(ConfigError, match="one generation at a time"):
            watched.latest()
