"""Options that results carry: typed, and one line where they are missing or of another type."""

from __future__ import annotations

from typing import Any

import pytest

from bures.errors import RunError
from bures.results.options import Options

HELD = Options("runs/a", {"judge": "arditi", "n_fit": 8, "strength": 1, "all_blocks": True, "system": None})


def test_values_have_the_type_that_is_asked_for() -> None:
    assert HELD.value("judge", str) == "arditi"
    assert HELD.value("n_fit", int) == 8
    assert HELD.value("all_blocks", bool) is True
    assert HELD.value_or_none("system", str) is None
    strength = HELD.value("strength", float)
    assert (strength, type(strength)) == (1.0, float)


@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        ("absent", str, "nothing"),
        ("system", str, "nothing"),
        ("judge", int, "str"),
        ("all_blocks", int, "bool"),
        ("n_fit", bool, "int"),
        ("n_fit", str, "int"),
    ],
)
def test_what_is_missing_or_of_another_type_is_one_line(name: str, kind: Any, found: str) -> None:
    with pytest.raises(RunError) as error:
        HELD.value(name, kind)
    expected = (
        f"the results in runs/a hold {found} for the option '{name}', expected {kind.__name__}; run the job again"
    )
    assert str(error.value) == expected
    if name == "absent":
        with pytest.raises(RunError, match="hold nothing"):
            HELD.value_or_none(name, kind)
