"""Where a training stands, on disk: a killed one goes on from it and ends with the same weights.

`checkpoint/` holds one folder a step, `step-000120`, and the maps of the pool beside them. A step's folder appears by
renaming, so it is whole or not there; those of earlier steps, and maps that nobody draws any more, are removed after.
Numbers are safetensors and JSON: nothing is unpickled. On a CPU a training that was killed at any moment and continued
ends bit for bit where an undisturbed one does (same machine, same number of threads).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from bures import durable
from bures.errors import RunError
from bures.results.run_folder import RunFolder
from bures.training.loop import Trainer
from bures.training.lora import make_folder

_TENSORS, _STATE = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training, in `checkpoint/` of its folder."""

    path: Path

    @property
    def maps(self) -> RunFolder:
        """Where a pool keeps its maps."""
        return RunFolder(self.path)

    def steps(self) -> list[Path]:
        """The folders of whole checkpoints, first to last."""
        return sorted(self.path.glob("step-*"))

    def write(self, trainer: Trainer, keep: Callable[[RunFolder], dict[str, Any]], names: Collection[str]) -> None:
        """Writes where a training stands.

        Args:
            trainer: the weights.
            keep: writes what else there is to keep, and returns the rest as JSON.
            names: of the interventions that are still needed.

        Raises:
            RunError: the folder cannot be written.
        """
        make_folder(self.path / "maps")
        state = {"step": trainer.step, "losses": trainer.losses, "objective": keep(self.maps)}
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in trainer.tensors().items()}
        target = self.path / f"step-{trainer.step:06d}"
        part = self.path / ".step.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            (part / _TENSORS).write_bytes(safetensors.torch.save(tensors))
            (part / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            durable.sync_tree(part)
            part.rename(target)
            durable.sync_folder(self.path)
            for old in self.steps():
                if old != target:
                    shutil.rmtree(old)
            self._forget(names)
        except OSError as error:
            raise RunError(f"cannot write {self.path} ({error.strerror}); choose another folder with --out") from error

    def _forget(self, names: Collection[str]) -> None:
        """Removes the maps of interventions that are not needed any more."""
        for manifest in (self.path / "maps").glob("*.json"):
            if "-block" not in manifest.stem and manifest.stem not in names:
                for file in (self.path / "maps").glob(f"{manifest.stem}-block*"):
                    file.unlink()
                manifest.unlink()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the last checkpoint; None: there is none.

        Raises:
            RunError: it is damaged.
        """
        found = self.steps()
        if not found:
            return None
        try:
            tensors = safetensors.torch.load((found[-1] / _TENSORS).read_bytes())
            return tensors, durable.read_object(found[-1] / _STATE)
        except (OSError, ValueError, SafetensorError) as error:
            raise RunError(f"the checkpoint {found[-1]} cannot be read; remove {self.path} to begin anew") from error

    def resume(self, trainer: Trainer, restore: Callable[[RunFolder, dict[str, Any]], object]) -> bool:
        """Puts a fresh training where the last checkpoint stands; False: there is none.

        Raises:
            RunError: it is damaged, or of another training.
        """
        held = self.read()
        if held is None:
            return False
        tensors, state = held
        try:
            trainer.restore(tensors, state["step"], state["losses"])
            restore(self.maps, state["objective"])
        except (KeyError, RuntimeError) as error:
            raise RunError(f"{self.path} is of another training ({error}); choose another folder with --out") from error
        return True

    def remove(self) -> None:
        """Removes all of them, once the training is done."""
        shutil.rmtree(self.path, ignore_errors=True)
