"""Scores of tokens while a model computes them: the prompt's in one pass, the answer's one by one.

A threshold of the probe was set at one token of the prompt. At others the score is the same function of the activation,
but no false-positive rate is known there: set one on answers of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from bures.errors import ConfigError
from bures.jobs.probe.files import Probe
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of

OnScores = Callable[[Float64[Tensor, "rows tokens"]], object]
"""What is told the scores of a pass."""


@dataclass
class Watched:
    """The scores so far.

    Attributes:
        passes: one tensor (rows, tokens) a pass, on the CPU; padding is scored too.
    """

    passes: list[Float64[Tensor, "rows tokens"]] = field(default_factory=list[Tensor])

    def latest(self, window: int = 1) -> Float64[Tensor, " rows"]:
        """Each row's mean score over its last tokens: a single token's score is noisy.

        Args:
            window: how many; fewer where there are no more.

        Raises:
            ConfigError: there are none yet, the window is below 1, or the passes are not of the same rows.
        """
        if window < 1 or not self.passes:
            raise ConfigError(f"window {window} over {len(self.passes)} passes; expected at least one of each")
        if len({len(each) for each in self.passes}) > 1:
            raise ConfigError("the passes were of other numbers of rows; watch one generation at a time")
        return torch.cat(self.passes, dim=1)[:, -window:].mean(dim=1)


@contextmanager
def watching(probe: Probe, model: ChatModel, on_scores: OnScores | None = None) -> Generator[Watched]:
    """Inside, the probe scores every token that the model computes, in whatever way it is run.

    With left padding, as `model.hf.generate` wants it, the last column of every pass is each row's last token. An
    intervention that is applied around this context is seen; one that is applied inside it is not.

    Args:
        probe: what scores.
        model: the model that it was fitted on.
        on_scores: called with the scores of each pass; it may raise to stop the generation.

    Yields:
        The scores so far.

    Raises:
        ConfigError: the model is not the one that the probe was fitted on.
    """
    probe.require_same(model)
    watched = Watched()

    def score(_: Any, __: Any, output: Any) -> None:
        stream = tensor_of(output).detach()
        found = probe.detector.score(stream.reshape(-1, stream.shape[-1]).cpu()).reshape(stream.shape[:-1])
        watched.passes.append(found)
        if on_scores is not None:
            on_scores(found)

    handle = model.blocks[probe.block].register_forward_hook(score)
    try:
        yield watched
    finally:
        handle.remove()
