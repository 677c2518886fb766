"""Options from TOML files and keywords, checked by pydantic, with one line for a mistake."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bures.errors import ConfigError

Options = TypeVar("Options", bound=BaseModel)


def validated(schema: type[Options], options: Mapping[str, Any]) -> Options:
    """An instance of the schema.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """
    try:
        return schema(**options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        hint = "; known options: " + ", ".join(schema.model_fields) if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{where + ': ' if where else ''}{message}{hint}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Options from a TOML file whose keys are the options (dashes or underscores).

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give an existing TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; expected lines such as n-fit = 128") from error
    return {key.replace("-", "_"): value for key, value in data.items()}
