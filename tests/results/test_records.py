"""What the records of a result say of themselves."""

from __future__ import annotations

import pytest

from bures.results.records import BlockRange, open_ends


@pytest.mark.parametrize(
    ("inside", "scanned", "expected"),
    [
        ((3, 5), (2, 3, 4, 5, 6), (False, False)),
        ((2, 5), (2, 3, 4, 5, 6), (True, False)),
        ((3, 6), (2, 3, 4, 5, 6), (False, True)),
        ((4, 4), (4,), (True, True)),
        ((0, 9), (0, 3, 6, 9), (False, False)),  # the network's own ends hide nothing
        ((0, 6), (0, 3, 6), (False, True)),
    ],
)
def test_what_touches_the_end_of_the_scanned_blocks_may_go_on_behind_it(
    inside: tuple[int, int], scanned: tuple[int, ...], expected: tuple[bool, bool]
) -> None:
    assert open_ends(BlockRange(*inside), scanned, 10) == expected
