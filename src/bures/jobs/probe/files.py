"""A probe: a detector, where in which model it reads, and from which score on it speaks; one safetensors file.

The file's metadata hold everything but the tensors as JSON. A probe is of the weights that it was fitted on and of no
others, so loading it for another model is an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from bures import durable
from bures.data.conversations import PromptLike, prompts_of
from bures.errors import ConfigError, RunError
from bures.jobs.probe.detectors import KINDS, Detector
from bures.models.activations import read
from bures.models.loading import ChatModel
from bures.models.positions import places_of
from bures.results.names import Position

FORMAT, FORMAT_VERSION = "bures-probe", 1

_TENSORS = ("mean", "direction", "basis", "matrix")


class _Header(BaseModel):
    """What the metadata hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format_version: int
    kind: str
    block: int = Field(ge=0)
    position: Position
    thresholds: dict[str, float]
    isotropic: float
    bias: float
    fingerprint: str
    template: str
    system: str | None


@dataclass(frozen=True, eq=False)
class Probe:
    """A detector of harmful prompts for one model.

    Attributes:
        detector: what scores an activation.
        block: after which block it reads.
        position: at which token.
        thresholds: false-positive rate (`0.01`) -> the score above which a prompt is flagged.
        fingerprint: of the model's weights.
        template: sha256 of its chat template.
        system: the system prompt under which it was fitted.
    """

    detector: Detector
    block: int
    position: Position
    thresholds: Mapping[str, float]
    fingerprint: str
    template: str
    system: str | None = None

    def __repr__(self) -> str:
        """One line without tensors."""
        return f"Probe({self.detector.kind} after block {self.block}, {self.position} token)"

    def score(self, model: ChatModel, prompts: Sequence[PromptLike]) -> Float64[Tensor, " n"]:
        """The score of every prompt, the higher the more harmful; an intervention applied around the call is seen.

        Raises:
            ConfigError: the model is not the one that the probe was fitted on.
        """
        self.require_same(model)
        given = prompts_of(prompts)
        places = places_of(model, given, [self.position], system=self.system)
        rows = read(model, model.encode(given, system=self.system), [self.block], places)
        return self.detector.score(rows[self.block][:, 0])

    def flags(self, model: ChatModel, prompts: Sequence[PromptLike], *, rate: float = 0.05) -> list[bool]:
        """Which prompts score above the threshold of a false-positive rate.

        Raises:
            ConfigError: another model, or there is no threshold for that rate.
        """
        if f"{rate:g}" not in self.thresholds:
            known = ", ".join(self.thresholds) or "none"
            raise ConfigError(f"the probe has no threshold for the false-positive rate {rate:g}; it has {known}")
        return [bool(flag) for flag in self.score(model, prompts) > self.thresholds[f"{rate:g}"]]

    def require_same(self, model: ChatModel) -> None:
        """Refuses a model with other weights or another chat template.

        Raises:
            ConfigError: it is another.
        """
        of = {"weights": (self.fingerprint, model.fingerprint()), "chat template": (self.template, model.chat.sha256)}
        for what, (own, given) in of.items():
            if own != given:
                raise ConfigError(
                    f"the probe was fitted on a model with another {what} ({own[:12]}) than {model.name} "
                    f"({given[:12]}): its scores would mean nothing; run bures probe on this model"
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file whole or not at all.

        Raises:
            ConfigError: the name does not end in .safetensors.
            RunError: it cannot be written.
        """
        target = Path(path)
        if target.suffix != ".safetensors":
            raise ConfigError(f"a probe is saved as .safetensors, got {target.name}; use {target.name}.safetensors")
        header = _Header(
            format_version=FORMAT_VERSION,
            kind=self.detector.kind,
            block=self.block,
            position=self.position,
            thresholds=dict(self.thresholds),
            isotropic=self.detector.isotropic,
            bias=self.detector.bias,
            fingerprint=self.fingerprint,
            template=self.template,
            system=self.system,
        )
        tensors = {name: getattr(self.detector, name).contiguous().clone() for name in _TENSORS}
        content = to_bytes(tensors, metadata={FORMAT: header.model_dump_json()})  # one key: the same bytes every time
        try:
            durable.write(target, content)
        except OSError as error:
            raise RunError(f"cannot write {target} ({error.strerror}); choose another folder") from error


def load_probe(path: str | os.PathLike[str], model: ChatModel | None = None) -> Probe:
    """Reads a probe, bit for bit.

    Args:
        path: the file.
        model: the model that it is to score for, which is checked at once.

    Raises:
        RunError: there is no such file, it is damaged, or it is no probe.
        ConfigError: the model is not the one that the probe was fitted on.
    """
    file = Path(path)
    if not file.is_file():
        raise RunError(f"there is no probe {file}; expected a .safetensors file of bures probe")
    try:
        with cast("Any", safetensors).safe_open(file, framework="pt", device="cpu") as held:
            metadata: dict[str, str] = dict(held.metadata() or {})
            tensors: dict[str, Tensor] = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        if FORMAT not in metadata:
            raise RunError(f"{file} is no probe; expected a .safetensors file of bures probe")
        header = _Header.model_validate(json.loads(metadata[FORMAT]))
    except (SafetensorError, OSError, ValueError, RecursionError, ValidationError) as error:
        raise _damaged(file, str(error).splitlines()[0]) from error
    if header.format_version != FORMAT_VERSION:
        raise RunError(f"{file} has format version {header.format_version}; this bures reads {FORMAT_VERSION}")
    if header.kind not in KINDS:
        raise _damaged(file, f"unknown detector {header.kind[:40]!r}")
    _require_whole(file, tensors)
    detector = Detector(header.kind, **tensors, isotropic=header.isotropic, bias=header.bias)
    known = (header.thresholds, header.fingerprint, header.template, header.system)
    probe = Probe(detector, header.block, header.position, *known)
    if model is not None:
        probe.require_same(model)
    return probe


def _require_whole(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuses tensors that are missing, not finite, or of shapes that do not fit each other."""
    if set(tensors) != {*_TENSORS}:
        raise _damaged(file, "other tensors than a probe has")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float64 or not bool(torch.isfinite(tensor).all()):
            raise _damaged(file, f"{name} is not finite float64")
    d, k = tensors["mean"].numel(), tensors["matrix"].shape[-1] if tensors["matrix"].ndim else 0
    expected = {"mean": (d,), "direction": (d,), "basis": (d, k), "matrix": (k, k)}
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise _damaged(file, f"{name} has shape {tuple(tensors[name].shape)}; expected {shape}")


def _damaged(file: Path, reason: str) -> RunError:
    return RunError(f"the probe {file} is damaged ({reason}); run bures probe again")
