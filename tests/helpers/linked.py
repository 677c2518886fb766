"""Sets that no package index carries: they are read from an address on the open network, once, and cached."""

from __future__ import annotations

import pytest

from bures.data.assets import asset_status
from bures.judges.human_labels import XSTEST, XSTEST_MODELS, Labelled, load_labelled


def is_cached(on: str) -> bool:
    """Whether a labelled set can be read without that network."""
    names = [f"{XSTEST}-{model}" for model in XSTEST_MODELS] if on == XSTEST else [on]
    states = {status.asset.name: status.state for status in asset_status()}
    return all(states.get(name) == "cached" for name in names if name.startswith(XSTEST))


def labelled(on: str) -> list[Labelled]:
    """The set; the test is skipped where it is not cached."""
    if not is_cached(on):
        pytest.skip(f"{on} is not cached: bures assets --fetch brings it, on an open network")
    return load_labelled(on)
