"""What is read off the distribution of an answer's first token: how likely refusal is, and how far it was moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bures.errors import ConfigError, NumericsError


@dataclass(frozen=True)
class FirstToken:
    """Log-probabilities at the answer's first token, or the first that is not forced, one row a prompt."""

    log_probs: Float[Tensor, "n vocabulary"]

    def log_odds(self, tokens: Sequence[int]) -> Float[Tensor, " n"]:
        """Per prompt, log p(refusal tokens) - log p(all others) in float64; the lower, the less refusal.

        Raises:
            ConfigError: no tokens are given.
        """
        if not tokens:
            raise ConfigError("no refusal tokens; expected those of the model's own refusals")
        inside = torch.logsumexp(self.log_probs[:, list(tokens)].double(), dim=1).clamp(min=-100.0, max=-1e-12)
        return inside - torch.log(-torch.expm1(inside))

    def kl_each(self, other: FirstToken) -> Float[Tensor, " n"]:
        """Per prompt, KL(self || other) in nats.

        Raises:
            NumericsError: it is infinite.
        """
        p, q = self.log_probs, other.log_probs
        each = torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(dim=-1).double()
        if not bool(torch.isfinite(each).all()):
            raise NumericsError("a token that the one allows has probability 0 under the other: their KL is infinite")
        return each

    def kl_to(self, other: FirstToken) -> float:
        """Mean over prompts of `kl_each`, at least 0."""
        return float(self.kl_each(other).mean().clamp(min=0.0))
