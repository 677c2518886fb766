"""The command of a configuration: read back by the command line, it is the same configuration."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from bures.cli import app
from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.scan_config import ScanConfig

CASES: list[tuple[type[ScanConfig], dict[str, Any]]] = [
    (ScanConfig, {"model": "a b/c"}),
    (ScanConfig, {"model": "m", "blocks": (3, 8, 9), "depth": (0.25, 0.75), "shrinkage": "oas"}),
    (AuditConfig, {"model": "m", "corpus": None, "all_blocks": False, "limit": 12, "ranks": (1, 2)}),
    (AuditConfig, {"model": "m", "system": "Say 'no'; $HOME", "trust_remote_code": True, "scopes": ("last",)}),
    (SearchConfig, {"model": "m", "strengths": (0.5, 2.0), "shrinkages": ("oas",), "storage": "postgresql://u:p@h/d"}),
]


@pytest.mark.parametrize(("schema", "options"), CASES)
def test_the_command_means_the_same(
    schema: type[ScanConfig], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = schema.make(**options)
    words = shlex.split(config.command)
    assert words[:2] == ["bures", schema.job]
    given: list[ScanConfig] = []
    monkeypatch.setattr(f"bures.cli.{schema.job}.carry_out", lambda _, settings, *__, **___: given.append(settings))
    app(words[1:], standalone_mode=False)
    assert given[0].model_dump(exclude={"storage"}) == config.model_dump(exclude={"storage"})
    assert "u:p" not in config.command
