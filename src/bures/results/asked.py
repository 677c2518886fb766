"""Options as frozen models, and what is said where one is wrong: a single line that names it.

What a field of options may say of itself is told in `bures.jobs.options`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from bures.errors import ConfigError


class Asked(BaseModel):
    """Options of a job or of a question. Unknown ones are refused, and shorthands are spelled out."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    if not TYPE_CHECKING:  # checkers know the fields from pydantic

        def __init__(self, *unnamed: Any, **options: Any) -> None:
            """Options that are left out have their defaults.

            Raises:
                ConfigError: an option is missing, unknown, without its name or out of range; the message names it.
            """
            if unnamed:
                first = next(iter(type(self).model_fields))
                raise ConfigError(
                    f"{type(self).__name__} takes options by name; expected such as {first}={unnamed[0]!r}"
                )
            spelled_out = getattr(type(self), "spelled_out", dict)
            try:
                BaseModel.__init__(self, **spelled_out(options))
            except ValidationError as error:
                raise mistake(type(self), error) from error

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What is not the default, and no secret."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.default and not extra(field, "secret"):
                yield name, value


def extra(field: FieldInfo, key: str) -> Any:
    """What `json_schema_extra` says of a field, or None."""
    held = field.json_schema_extra
    return held.get(key) if isinstance(held, dict) else None


def options_of(schema: type[BaseModel]) -> dict[str, FieldInfo]:
    """The options of a configuration: its fields, and the shorthands that stand for several of them.

    Those whose names begin with the same word stand together, where the first of the fields is declared.
    """
    without = getattr(schema, "without", ())
    fields = {name: field for name, field in schema.model_fields.items() if name not in without}
    words = list(dict.fromkeys(name.partition("_")[0] for name in fields))
    found: Mapping[str, FieldInfo] = {**getattr(schema, "shorthands", {}), **fields}
    return dict(sorted(found.items(), key=lambda option: words.index(option[0].partition("_")[0])))


def mistake(schema: type[BaseModel], error: ValidationError) -> ConfigError:
    """The first thing that is wrong with options, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing" and where in schema.model_fields:
        wanted = (schema.model_fields[where].description or "a value").removesuffix(".").replace("`", "'")
        return ConfigError(f"no {where} given; expected: {wanted}")
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{where}: there is no such option{_near(where, options_of(schema))}")
    message = str(first["msg"]).removeprefix("Value error, ")
    largest = [limit for name, limit in first.get("ctx", {}).items() if name in ("le", "lt")]
    hint = f", got {first['input']!r}; a share: 0.10 is 10 %" if largest == [1.0] else ""
    return ConfigError(f"{where + ': ' if where else ''}{message}{hint}")


def _near(unknown: str, known: Iterable[str]) -> str:
    """Options whose names are like one that there is not, or all of them."""
    names = [name.replace("_", "-") for name in known]
    close = difflib.get_close_matches(unknown.replace("_", "-"), names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known options: {', '.join(names)}"
