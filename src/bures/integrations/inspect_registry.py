"""What Inspect AI finds through the entry point `bures` of its group `inspect_ai`; torch is not imported here."""

from __future__ import annotations

from bures.errors import needs
from bures.integrations.inspect_task import FIGURES, bures_audit, refusal

with needs("inspect", "bures in Inspect AI"):
    from inspect_ai.model import ModelAPI, modelapi

__all__ = ["FIGURES", "bures", "bures_audit", "refusal"]


@modelapi(name="bures")
def bures() -> type[ModelAPI]:
    """The provider of `--model bures/MODEL`."""
    from bures.integrations.inspect_provider import BuresAPI

    return BuresAPI
