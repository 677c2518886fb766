"""Commands made of configurations: the fields of a pydantic model become the options of a command.

A command says which configuration it fills and gets what was given; its signature, and so `--help`, is made of the
fields (see `bures.jobs.options` for what a field holds):

    @command(ScanConfig)
    def scan(given: Given[ScanConfig], out: Out = None) -> None: ...
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from bures.cli.console import Bars, show, stdout_kept
from bures.data.extensions import offered_in
from bures.jobs.options import layered, read_options
from bures.results.asked import Asked, extra, options_of

Config = TypeVar("Config", bound=Asked)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file whose keys are these options (bures init), or a run's config.json."),
]
Out = Annotated[Path | None, typer.Option(help="Run folder; default runs/MODEL-HASH. The same command continues it.")]
Estimating = Annotated[
    bool,
    typer.Option("--estimate", help="Say what it will take here (prompts, passes, time, memory) and load no model."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")]


@dataclass(frozen=True)
class Given(Generic[Config]):
    """What the user gave a command.

    Attributes:
        schema: the configuration's class.
        typed: options of the command line, those that were given.
        file: a TOML file with others.
    """

    schema: type[Config]
    typed: Mapping[str, Any]
    file: Path | None = None

    def settings(self) -> Config:
        """The options of the TOML file, and over them those of the command line.

        Raises:
            ConfigError: an option is missing, unknown, cannot be read or is out of range.
        """
        return layered(self.schema, {} if self.file is None else read_options(self.file), self.typed)


def command(
    schema: type[Asked], *, only: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command of a function: it takes the options of the schema, besides its own.

    Args:
        schema: the configuration that the command fills.
        only: names of the fields that are options of the command; None: all. TOML files set the others too.

    Returns:
        A decorator of functions whose first parameter takes a `Given`, and whose others are the command's own.
    """

    def made(act: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(act, eval_str=True).parameters.values()
        fields = {name: field for name, field in options_of(schema).items() if only is None or name in only}

        def run(**arguments: Any) -> None:
            typed = {
                name: _read(field, value)
                for name, field in fields.items()
                if (value := arguments.pop(name)) is not None and value != []
            }
            act(Given(schema, typed, arguments.pop("config")), **arguments)

        arguments = [p for p in own if any(isinstance(a, typer.models.ArgumentInfo) for a in get_args(p.annotation))]
        parameters = [
            *(_parameter(name, field) for name, field in fields.items() if extra(field, "positional")),
            *arguments,
            inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile),
            *(_parameter(name, field) for name, field in fields.items() if not extra(field, "positional")),
            *(p for p in own if p not in arguments),
        ]
        signature = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters])
        run.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__, run.__module__ = act.__name__, act.__doc__, act.__module__
        return run

    return made


def help_of(field: FieldInfo) -> str:
    """A field's sentence, with the names to choose from and the default in brackets."""
    text = (field.description or "").removesuffix(".").replace("`", "'")
    if choices := choices_of(field):
        text += f": {', '.join(choices)}"
    default = "" if field.is_required() else shown(field.default) or extra(field, "unset")
    return f"{text} [{default}]." if default else f"{text}."


def choices_of(field: FieldInfo) -> list[str]:
    """The names that a field takes, where it says so or its type does, and those of installed packages."""
    known = extra(field, "choices") or [str(name) for name in _literals(field.annotation)]
    group = extra(field, "group")
    return [*known, *(name for name in (_installed(group) if group else ()) if name not in known)]


_installed = cache(offered_in)
"""Read once a process: several commands have the same options, and their help is made at every start."""


def shown(default: Any) -> str:
    """A default as it would be given; nothing for None."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ",".join(map(shown, default)) or "none"
    if isinstance(default, float):
        return str(default).removesuffix(".0")
    return "" if default is None else str(default)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    make = typer.Argument if extra(field, "positional") else typer.Option
    kind = _typed(name, field)
    annotation = Annotated[kind | None, make(help=help_of(field))]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _typed(name: str, field: FieldInfo) -> Any:
    """What the command line takes for a field: a plain type, or text where values stand between commas."""
    kind = _plain(field.annotation)
    if extra(field, "repeatable"):
        return list[str]
    if kind in (bool, int, float, str, Path):
        return kind
    if get_origin(kind) in (tuple, Literal) or kind is None:
        return str
    raise TypeError(f"{name}: {kind} cannot be an option; expected a bool, number, text, Path, Literal or tuple")


def _read(field: FieldInfo, value: Any) -> Any:
    """What was typed for a field, as the schema takes it; it checks the parts."""
    if isinstance(value, str) and get_origin(_plain(field.annotation)) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _plain(annotation: Any) -> Any:
    """A type without `None` beside it and without what is annotated."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def _literals(annotation: Any) -> Iterator[Any]:
    """The names of a `Literal`, or of a tuple of them."""
    kind = _plain(annotation)
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif get_origin(kind) is tuple:
        yield from _literals(get_args(kind)[0])


def carry_out(run: Callable[..., Any], settings: Any, out: Path | None, *, as_json: bool, table: Any) -> Path:
    """Runs a job under progress bars, prints its table, or its results as JSON, and writes its page.

    Returns:
        The run folder.
    """
    from bures.jobs.beginning import default_out
    from bures.report.build import write_report

    target, notice = out or default_out(settings), Console(stderr=True)
    bars = Bars(notice)
    with stdout_kept(), bars:
        result = run(settings, target, progress=bars)
    if as_json:
        typer.echo(result.to_json())
    else:
        show(table(result))
        bars.say(f"run folder: {target}")
    with stdout_kept():
        page = write_report(target)  # last: what was measured is said whatever becomes of the page
    if not as_json:
        bars.say(f"report: {page}")
    return target


def say_estimate(settings: Any, *, as_json: bool) -> None:
    """Prints what a job will take on this machine; nothing is run and nothing written."""
    from bures.cli.estimates import estimate_table
    from bures.jobs.estimate import estimate

    with stdout_kept():
        found = estimate(settings)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        show(estimate_table(found))
