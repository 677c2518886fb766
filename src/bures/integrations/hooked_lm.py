"""lm-eval's Hugging Face model with an intervention in every pass. Importing this module needs lm-eval."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, cast

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from bures.errors import ConfigError
from bures.models.batching import pad
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.tokens import kinds_of, token_kinds

Request = tuple[Any, list[int], list[int]]
"""What lm-eval hands over: a cache key, the context's tokens and the continuation's."""


_Plain = cast("Any", HFLM)  # a registering decorator hides its type


class HookedLM(_Plain):
    """A loaded model as lm-eval takes it.

    Without maps every request takes lm-eval's own road. With maps, log-likelihoods take the same road step by step (the
    same batches, pads and arithmetic, so that a map that does nothing changes no digit), except that here the end of
    every context is known, which the token scopes need and lm-eval tells nobody. Generation is lm-eval's own.
    """

    def __init__(self, model: ChatModel, intervention: Intervention, *, batch_size: int = 8) -> None:
        with intervention.applied(model):
            pass  # maps that do not fit are refused before anything runs
        if model.parts.pads_matter:
            batch_size = 1
        # A copy, because lm-eval gives a tokenizer without pads one, and sets the side that it pads on.
        super().__init__(pretrained=model.hf, tokenizer=copy.deepcopy(model.tokenizer), batch_size=batch_size)
        self.chat = model
        self.intervention = intervention

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if not self.intervention.maps:
            return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, override_bs=override_bs)
        served: dict[tuple[tuple[int, ...], int], list[int]] = {}  # one pass serves all that differ only in the end
        for i, (_, context, continuation) in enumerate(requests):
            whole = [*context, *continuation][-(self.max_length + 1) :]
            served.setdefault((tuple(whole[:-1]), len(whole) - len(continuation)), []).append(i)
        passes = sorted(served, key=lambda each: _order(requests[served[each][0]]))
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for start in range(0, len(passes), self.batch_size):
            chunk = passes[start : start + self.batch_size]
            for (ids, known), scores in zip(chunk, self._scores(chunk), strict=True):
                for i in served[ids, known]:
                    found[i] = _judged(scores[known - 1 : len(ids)], requests[i][2])
        for (key, _, __), answer in zip(requests, found, strict=True):
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answer)
        return found

    def _scores(self, passes: Sequence[tuple[tuple[int, ...], int]]) -> Tensor:
        """Log-probabilities at every position of token sequences whose first so many tokens are the prompt."""
        ids, attended = pad([ids for ids, _ in passes], pad_id=0, side="right")
        kinds = kinds_of(attended, torch.tensor([known for _, known in passes]))
        with self.intervention.applied(self.chat), token_kinds(kinds.to(self.device)):
            logits = self._model_call(ids.to(self.device))
        return torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype)

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """lm-eval's, without its bars where tqdm is switched off."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or _barless())

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Whole texts, which have neither a prompt nor an answer.

        Raises:
            ConfigError: the intervention moves only some tokens.
        """
        if self.intervention.maps and self.intervention.tokens != "all":
            raise ConfigError(
                f"a task that scores whole texts has no prompt and no answer, so token scope "
                f"{self.intervention.tokens!r} means nothing there; use scope 'all', or tasks with questions"
            )
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm or _barless())

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """lm-eval's generation; what is cached before the first new token is the prompt."""
        with self.intervention.applied(self.chat):
            return super().generate_until(requests, disable_tqdm=disable_tqdm or _barless())


def _barless() -> bool:
    """tqdm's own switch, which lm-eval overrides."""
    return bool(os.environ.get("TQDM_DISABLE"))


def _order(request: Request) -> tuple[int, tuple[int, ...]]:
    """lm-eval's order: the longest first."""
    tokens = (*request[1], *request[2])
    return -len(tokens), tokens


def _judged(scores: Tensor, continuation: Sequence[int]) -> tuple[float, bool]:
    """Log-probability of a continuation, and whether it is the greedy one, from the scores at its places."""
    target = torch.tensor(list(continuation), device=scores.device)
    return float(scores.gather(1, target[:, None]).sum()), bool((scores.argmax(dim=1) == target).all())
