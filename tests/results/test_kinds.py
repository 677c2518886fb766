"""Over-refusal by kind of prompt."""

from __future__ import annotations

import pytest

from bures.results.kinds import refused_by_kind
from bures.results.stats import proportion


def test_every_kind_has_its_own_share() -> None:
    kinds = ["homonyms", "homonyms", "privacy", None, "privacy", "homonyms", "history"]
    assert refused_by_kind("1001-1-", kinds) == {"homonyms": proportion(2, 3), "privacy": proportion(0, 1)}
    assert [*refused_by_kind("10", ["b", "a"])] == ["a", "b"]
    assert refused_by_kind("", []) == {}
    with pytest.raises(ValueError, match="zip"):
        refused_by_kind("1", [])
