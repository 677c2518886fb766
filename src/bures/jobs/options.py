"""Options: each is written once, as a field of a pydantic model, and everything else is made of it.

The field has the name, the type, the default, the bounds and, as its description, the sentence that `--help` and the
API pages show. TOML files are read by the same names, with dashes or underscores; `bures.cli.options` makes the command
line. What a field cannot say by itself stands in its `json_schema_extra`:

positional   it is the command's argument, not an option
repeatable   the option is given once a value, instead of once with values between commas
choices      names that the help lists; those of a `Literal` are listed anyway
group        entry points of installed packages whose names the help lists too
unset        what None means, in words
secret       it may hold a password, and is never written down
passing      no figure depends on it: a run may be continued with another value
stage        the stage before which nothing depends on it (`rows`): another value costs no more than that stage

A schema may have besides: `shorthands`, options that stand for several fields, with `spelled_out`, which puts the
fields in their place; `without`, inherited fields that are no options of it; and `presets`, options whose values stand
for defaults of others (name -> value -> those defaults). `ScanConfig` and its heirs do.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel

from bures.errors import ConfigError
from bures.results.asked import Asked, extra, options_of

Options = TypeVar("Options", bound=Asked)


def marked(schema: type[BaseModel], key: str) -> frozenset[str]:
    """Names of the options that have a mark, such as `secret`."""
    return frozenset(name for name, field in schema.model_fields.items() if extra(field, key))


def preset(schema: type[BaseModel], options: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of other options that some of those given stand for; an unknown value stands for none."""
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]] = getattr(schema, "presets", {})
    given = ((known, options.get(name)) for name, known in presets.items())
    return {k: v for known, value in given if isinstance(value, str) for k, v in known.get(value, {}).items()}


def command_line(config: BaseModel, job: str) -> str:
    """A command line that fills the same configuration of a job: every option that is not its default."""
    defaults = preset(type(config), dict(config))
    words: list[str] = []
    positional: list[str] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        option = f"--{name.replace('_', '-')}"
        if extra(field, "positional"):
            positional += map(str, cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,))
        elif extra(field, "secret") or value == defaults.get(name, field.default):
            continue
        elif isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [option, ",".join(map(str, cast("tuple[object, ...]", value)))]
        else:
            words += [option, "none" if value is None else str(value)]
    is_plain = not any(value.startswith("-") for value in positional)
    return shlex.join(["bures", job, *positional, *words] if is_plain else ["bures", job, *words, "--", *positional])


def layered(schema: type[Options], *layers: Mapping[str, Any]) -> Options:
    """An instance of the schema from layers of options, the later ones above the earlier.

    Shorthands are spelled out in each layer by itself, so that `--harmful` is above `harmful-fit` of a file.

    Raises:
        ConfigError: an option is missing, unknown or out of range; the message names it.
    """
    spelled_out = getattr(schema, "spelled_out", dict)
    return schema(**{name: value for layer in layers for name, value in spelled_out(layer).items()})


def read_options(path: Path) -> dict[str, Any]:
    """Options from a TOML file whose keys are the options (dashes or underscores), or the `config.json` of a run.

    Raises:
        ConfigError: no such file, or neither TOML nor, where it is called .json, a JSON object.
    """
    is_json = path.suffix == ".json"
    wanted = "the config.json of a run" if is_json else "lines such as n-fit = 128"
    try:
        text = path.read_text(encoding="utf-8")
        data = dict(json.loads(text).items()) if is_json else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give an existing TOML file") from error
    except (ValueError, RecursionError, AttributeError) as error:
        raise ConfigError(f"{path} is not valid {'JSON' if is_json else 'TOML'}: {error}; expected {wanted}") from error
    return {key.replace("-", "_"): value for key, value in data.items()}


def template(schema: type[BaseModel], job: str) -> str:
    """A TOML file with every option of a job, its sentence and its default; those that have one are commented out."""
    lines = [f"# bures {job} --config {job}.toml: every option, its sentence and its default.", ""]
    for name, field in options_of(schema).items():
        if name in getattr(schema, "shorthands", {}) or extra(field, "secret"):
            continue
        sentence = (field.description or "").removesuffix(".").replace("\n", " ")
        names = extra(field, "choices") or [n for n in get_args(field.annotation) if isinstance(n, str)]
        lines.append(f"# {sentence}{': ' + ', '.join(map(str, names)) if names else ''}.")
        key = name.replace("_", "-")
        if field.is_required():
            lines.append(f"{key} = {json.dumps('organism' if name == 'model' else '')}")
        elif field.default is None:
            lines.append(f"# {key} =    (not given: {extra(field, 'unset') or 'none'})")
        else:
            lines.append(f"# {key} = {json.dumps(field.default)}")
        lines.append("")
    return "\n".join(lines)
