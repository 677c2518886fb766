"""Interventions in a run folder: `maps/ROW.json` says where each map goes, and with which scope and strength.

The maps lie beside it as `ROW-blockN.safetensors` (`-input`, `-attention` or `-mlp` where it is not the block's
output). A map that serves several sites is kept once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bures import durable
from bures.errors import RunError
from bures.jobs.config import AuditConfig
from bures.jobs.scan_config import ScanConfig
from bures.models.intervention import Intervention, Site, Where
from bures.models.methods import METHODS
from bures.results.records import Scope
from bures.results.run_folder import RunFolder, load_result
from bures.transport import TransportMap, load_map

Config = TypeVar("Config", bound=ScanConfig)


class _Placed(BaseModel):
    """One site, and the name of the file whose map it has (never a path)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    block: int = Field(ge=0)
    where: Where
    map: str = Field(pattern=r"^[\w+-][\w.+-]*$")


class _Saved(BaseModel):
    """What `maps/ROW.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: Scope
    strength: float = Field(ge=0.0, allow_inf_nan=False)
    sites: list[_Placed]


def save_intervention(folder: RunFolder, row: str, intervention: Intervention) -> None:
    """Keeps a row's maps in the run folder; nothing where there are none.

    Raises:
        RunError: the folder cannot be written.
    """
    if not intervention.maps:
        return
    names: dict[int, str] = {}
    placed: list[_Placed] = []
    for site, map_ in zip(intervention.sites, intervention.maps.values(), strict=True):
        if id(map_) not in names:
            names[id(map_)] = f"{row}-block{site.block}" + ("" if site.where == "output" else f"-{site.where}")
            map_.save(folder.map_path(names[id(map_)]))
        placed.append(_Placed(block=site.block, where=site.where, map=names[id(map_)]))
    saved = _Saved(tokens=intervention.tokens, strength=intervention.strength, sites=placed)
    folder.write_json(_manifest(folder, row), saved.model_dump(mode="json"))


def load_intervention(run_folder: str | Path, row: str = "pca-ot-1") -> Intervention:
    """The intervention of one row of an audit, bit for bit as it was measured.

    Args:
        run_folder: the folder of a `bures audit` run.
        row: the row's key in `results.json`, for example `pca-ot-1`, `rfa-all` or `none`.

    Raises:
        RunError: no audit there, no such row, one that failed, or files that are missing or damaged.
    """
    rows = {each.key: each for each in load_result(run_folder).rows}
    if row not in rows:
        raise RunError(f"{run_folder} has no row {row!r}; expected one of {', '.join(rows) or '(none is finished)'}")
    if rows[row].error is not None:
        raise RunError(f"row {row} of {run_folder} failed ({rows[row].error}); there is no intervention to load")
    if rows[row].method == "none":
        return Intervention()
    method = METHODS.get(rows[row].method)
    return read_intervention(RunFolder(Path(run_folder)), row, load_map if method is None else method.load)


def read_intervention(folder: RunFolder, row: str, load: Callable[[Path], TransportMap] = load_map) -> Intervention:
    """What `save_intervention` kept under a name, bit for bit.

    Args:
        folder: where it is.
        row: the name.
        load: reads a map of its method.

    Raises:
        RunError: files are missing or damaged.
    """
    file = _manifest(folder, row)
    try:
        saved = _Saved.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"cannot read {file}: {reason}; run the audit again in another folder") from error
    maps = {name: load(folder.map_path(name)) for name in {p.map for p in saved.sites}}
    return Intervention({Site(p.block, p.where): maps[p.map] for p in saved.sites}, saved.tokens, saved.strength)


def load_config(run_folder: str | Path, schema: type[Config] = AuditConfig) -> Config:
    """The options of an audit, or of another job.

    Raises:
        RunError: there is no `config.json`, or it is damaged.
        ConfigError: it holds options that this bures does not know.
    """
    file = Path(run_folder) / "config.json"
    try:
        options = durable.read_object(file)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {file}: {error}; expected the folder of a bures {schema.job} run") from error
    return schema.make(**options)


def _manifest(folder: RunFolder, row: str) -> Path:
    return folder.path / "maps" / f"{row}.json"
