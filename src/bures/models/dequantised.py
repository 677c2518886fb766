"""GGUF files, dequantised once: reading one takes many times as long as reading the same numbers as safetensors.

What is kept lies in bures's cache, under the checksum of the file, the type of the numbers and the version of the
library that read it, and appears whole or not at all. `bures assets --clean` removes it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from bures import durable
from bures.data.assets import cache_dir
from bures.errors import AssetError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FOLDER = "dequantised"

SPARE = 4
"""How many times what is kept has to be free on the disk: a cache must not fill it."""


@dataclass(frozen=True)
class Kept:
    """Where the numbers of a GGUF file are kept as safetensors, or would be."""

    path: Path

    @staticmethod
    def of(file: Path, dtype: torch.dtype) -> Kept | None:
        """The place of a file read in a type; None where there is no cache.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            root = cache_dir() / FOLDER
        except AssetError:
            return None
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return Kept(root / f"{digest[:32]}-{str(dtype).removeprefix('torch.')}-transformers-{version('transformers')}")

    @property
    def is_there(self) -> bool:
        """Whether it holds a model."""
        return (self.path / "config.json").is_file()

    def write(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keeps a model that was read from the file, if there is room and the cache can be written."""
        size = sum(p.numel() * p.element_size() for p in hf.parameters())
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.path.parent).free < SPARE * size:
                return
            with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".partial-") as part:
                made = Path(part) / "model"
                cast("Any", hf).save_pretrained(made)
                cast("Any", tokenizer).save_pretrained(made)
                durable.sync_tree(made)
                made.rename(self.path)  # another process may have been quicker: then this one is dropped


def kept() -> Iterator[tuple[Path, int]]:
    """Every model that is kept, and its size in bytes.

    Raises:
        AssetError: there is no cache.
    """
    root = cache_dir() / FOLDER
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        yield folder, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def clean() -> int:
    """Removes every model that is kept; how many bytes they had.

    Raises:
        AssetError: there is no cache.
    """
    freed = 0
    for folder, size in kept():
        shutil.rmtree(folder)
        freed += size
    return freed
