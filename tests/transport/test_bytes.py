"""The same map is the same file, whoever writes it and however often."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import safetensors
import torch

from bures.transport import fit_mean_shift

_ELSEWHERE = """
import sys, torch
from bures.transport import fit_mean_shift
x = torch.arange(32, dtype=torch.float32).reshape(8, 4).sin()
fit_mean_shift(x, x.flip(0)).save(sys.argv[1])
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    x = torch.arange(32, dtype=torch.float32).reshape(8, 4).sin()
    map_ = fit_mean_shift(x, x.flip(0))
    digests: set[str] = set()
    for i in range(6):  # the library's own order changes from file to file
        map_.save(tmp_path / f"{i}.safetensors")
        digests.add(hashlib.sha256((tmp_path / f"{i}.safetensors").read_bytes()).hexdigest())
    subprocess.run([sys.executable, "-c", _ELSEWHERE, str(tmp_path / "e.safetensors")], check=True)
    digests.add(hashlib.sha256((tmp_path / "e.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_file_is_safetensors_with_aligned_data(tmp_path: Path) -> None:
    x = torch.arange(32, dtype=torch.float32).reshape(8, 4).sin()
    fit_mean_shift(x, x.flip(0)).save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert (file.metadata() or {})["format"] == "bures-map"
