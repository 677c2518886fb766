"""The attack that learns a direction by gradient; for the defence table alone."""

from __future__ import annotations

from bures.jobs.learned.course import Learned, learned_direction
from bures.jobs.learned.objective import Learning

__all__ = ["Learned", "Learning", "learned_direction"]
