"""The model organism: a small LoRA with which SmolLM2-135M-Instruct refuses harmful requests.

The original model barely refuses, so what the refusal training added is known; the adapter ships with the package and
`bures organism train` makes it again. Harmful prompts are only read, at run time, from the pinned files.
"""

from __future__ import annotations

from bures.training.organism.config import OrganismConfig
from bures.training.organism.evaluate import OrganismReport, evaluate_organism
from bures.training.organism.recipe import train_organism

__all__ = ["OrganismConfig", "OrganismReport", "evaluate_organism", "train_organism"]
