"""Options are written once: the command line, its help and TOML files have what the fields have, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import annotated_types
import pytest
import typer
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

import bures
from bures import cli
from bures.cli import app
from bures.cli.options import Given, command, help_of, shown
from bures.data.extensions import Registry
from bures.errors import ConfigError
from bures.jobs.config import PASSING, SECRET, AuditConfig, SearchConfig
from bures.jobs.defence.config import DefendConfig
from bures.jobs.probe.config import ProbeConfig
from bures.jobs.scan_config import ScanConfig
from bures.judges.by_name import JUDGE_NAMES, judge_by_name
from bures.models.methods import METHODS
from bures.results.asked import Asked, extra, options_of
from bures.results.names import METHOD_NAMES
from bures.results.questions import CompareConfig, GateConfig, HistoryConfig, PlanConfig
from bures.training.harden import HardenConfig
from bures.training.organism import OrganismConfig
from bures.transport.gaussian import DEFAULT_RIDGE
from helpers.interpreter import imported_by

NAMES = json.loads(Path(__file__).with_name("option_names.json").read_text())
"""Arguments and options of every command: a change here is a change of what users type."""

SCHEMAS: dict[str, type[BaseModel]] = {
    "audit": AuditConfig,
    "scan": ScanConfig,
    "search": SearchConfig,
    "probe": ProbeConfig,
    "compare": CompareConfig,
    "gate": GateConfig,
    "history": HistoryConfig,
    "plan": PlanConfig,
    "organism train": OrganismConfig,
    "harden": HardenConfig,
    "defend": DefendConfig,
}


def commands(found: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the program, by its words."""
    children = getattr(found, "commands", None)
    if children is None:
        yield name, found
    for child, each in (children or {}).items():
        yield from commands(each, f"{name} {child}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))
OPTIONS = [
    pytest.param(name, param, id=f"{name} {param.name}")
    for name, schema in SCHEMAS.items()
    for param in COMMANDS[name].params
    if param.name in options_of(schema)
]


def test_every_command_has_the_options_that_it_had() -> None:
    held = {
        name: sorted("/".join([*param.opts, *param.secondary_opts]) for param in each.params)
        for name, each in COMMANDS.items()
    }
    assert held == NAMES


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_an_option_of_its_command(name: str) -> None:
    if name != "organism train":  # its other options are for files
        assert set(options_of(SCHEMAS[name])) <= {param.name for param in COMMANDS[name].params}
    assert all(field.description for field in options_of(SCHEMAS[name]).values())


@pytest.mark.parametrize(("name", "param"), OPTIONS)
def test_help_shows_the_true_default_and_the_choices(name: str, param: Any) -> None:
    schema = SCHEMAS[name]
    field = options_of(schema)[param.name]
    context = COMMANDS[name].make_context(name, [], resilient_parsing=True)
    _, text = param.get_help_record(context)
    bracket = re.search(r" \[([^\]]*)\]\.$", text)
    if field.is_required() or (field.default is None and extra(field, "unset") is None):
        assert bracket is None
        return
    assert bracket is not None, text
    if field.default is None:
        assert bracket[1] == extra(field, "unset")
    elif isinstance(field.default, bool):
        assert bracket[1] == {True: "yes", False: "no"}[field.default]
    elif isinstance(field.default, tuple):
        read = [each for each in bracket[1].split(",") if each != "none" or "none" in field.default]
        assert tuple(type(value)(part) for value, part in zip(field.default, read, strict=True)) == field.default
    else:
        assert type(field.default)(bracket[1]) == field.default
    for choice in re.findall(r"Literal\[([^\]]*)\]", str(field.annotation)):
        assert all(each.strip(" '\"") in text for each in choice.split(","))


def test_named_choices_are_those_of_the_registries() -> None:
    assert isinstance(METHODS, Registry)
    assert list(METHOD_NAMES) == list(METHODS.built_in)
    assert all(judge_by_name(name) for name in JUDGE_NAMES if ":" not in name)
    assert all(judge_by_name(name.replace("MODEL", "m")) for name in JUDGE_NAMES if ":" in name)
    for name in METHOD_NAMES:
        assert name in help_of(ScanConfig.model_fields["methods"])
    assert float(extra(ScanConfig.model_fields["ridge"], "unset")) == DEFAULT_RIDGE


def test_help_is_made_without_torch() -> None:
    assert imported_by("import bures.cli, typer.main; typer.main.get_command(bures.cli.app)") == {"typer"}


def test_marks_are_those_of_the_fields() -> None:
    assert ({"storage"}, {"vllm_memory", "name"}) == (SECRET, PASSING)


# A new option is one field ------------------------------------------------------------------------------------------


class TeapotConfig(ScanConfig):
    """A job with options of its own."""

    job: ClassVar[str] = "teapot"

    cups: int = Field(default=3, ge=1, description="Cups to fill.")
    sorts: tuple[Literal["green", "black"], ...] = Field(default=("green",), description="Tea to brew.")
    milk: bool = Field(default=False, description="Add milk.")
    token: str | None = Field(default=None, description="A password.", json_schema_extra={"secret": True})


@pytest.fixture
def teapot() -> tuple[typer.Typer, list[TeapotConfig]]:
    """A program whose one command collects what it was given."""
    found: list[TeapotConfig] = []
    program = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    @program.command()
    @command(TeapotConfig)
    def brew(given: Given[TeapotConfig], quick: Annotated[bool, typer.Option(help="At once.")] = False) -> None:
        """Brew.

        Example: brew m --cups 2
        """
        found.append(given.settings())

    return program, found


def test_a_field_is_an_option(teapot: tuple[typer.Typer, list[TeapotConfig]], tmp_path: Path) -> None:
    program, found = teapot
    toml = tmp_path / "a.toml"
    toml.write_text('cups = 5\nsorts = ["black"]\nmilk = true\n')
    program(["m"], standalone_mode=False)
    program(["m", "--config", str(toml)], standalone_mode=False)
    program(["m", "--config", str(toml), "--cups", "2", "--no-milk", "--sorts", "green, black"], standalone_mode=False)
    assert [(c.cups, c.sorts, c.milk) for c in found] == [
        (3, ("green",), False),
        (5, ("black",), True),
        (2, ("green", "black"), False),
    ]
    assert found[2].command == "bures teapot m --cups 2 --sorts green,black"
    with pytest.raises(ConfigError, match=r"^cups: "):
        program(["m", "--cups", "0"], standalone_mode=False)
    with pytest.raises(ConfigError, match=r"^sorts\.0: .*green.*black"):
        program(["m", "--sorts", "white"], standalone_mode=False)


def test_help_shows_a_field(teapot: tuple[typer.Typer, list[TeapotConfig]], capsys: pytest.CaptureFixture[str]) -> None:
    teapot[0](["--help"], standalone_mode=False)
    text = " ".join(capsys.readouterr().out.split())
    assert "Cups to fill [3]." in text
    assert "Tea to brew: green, black [green]." in text
    assert "--milk / --no-milk Add milk [no]." in text
    assert "Example: brew m --cups 2" in text


def test_a_secret_field_is_not_written_down() -> None:
    assert TeapotConfig.make(model="m", token="x").command == "bures teapot m"


def test_a_type_that_cannot_be_typed_is_refused() -> None:
    class Bad(Asked):
        table: dict[str, int] = Field(default={}, description="A table.")

    with pytest.raises(TypeError, match=r"table: .* cannot be an option"):
        command(Bad)(lambda given: None)


# The command of a configuration -------------------------------------------------------------------------------------


def values(field: FieldInfo) -> st.SearchStrategy[Any]:
    """Values that a field takes."""
    return _of(field.annotation, field.metadata)


def _of(kind: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _of(parts[0], [*bounds, *_bounds(parts[1:])])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin is tuple and parts[-1] is ...:
        least = max((b.min_length for b in bounds if isinstance(b, annotated_types.MinLen)), default=0)
        return st.lists(_of(parts[0], []), min_size=least, max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*(_of(part, []) for part in parts))
    if parts:
        return st.one_of(*(_of(part, bounds) for part in parts))
    low: Any = next(
        (getattr(b, "ge", None) or getattr(b, "gt", 0) for b in bounds if hasattr(b, "ge") or hasattr(b, "gt")), 0
    )
    high: Any = next((b.le for b in bounds if isinstance(b, annotated_types.Le)), low + 1000)
    return {
        bool: st.booleans(),
        int: st.integers(low, high),
        float: st.floats(low, high, exclude_min=any(isinstance(b, annotated_types.Gt) for b in bounds)),
        str: st.text(min_size=1),
        type(None): st.none(),
    }[kind]


def _bounds(parts: Any) -> Iterator[Any]:
    for part in parts:
        yield from part.metadata if isinstance(part, FieldInfo) else [part]


NAMED = {
    "methods": st.lists(st.sampled_from(METHOD_NAMES), min_size=1).map(tuple),
    "judge": st.sampled_from(("arditi", "gcg", "bures", "llm:some model")),
    "depth": st.tuples(st.floats(0, 0.49), st.floats(0.5, 1)),
    "tasks": st.lists(st.from_regex(r"[a-z_]+", fullmatch=True), max_size=3).map(tuple),
    "metrics": st.just(()),
    "system": st.text(),
    "corpus": st.none() | st.text(min_size=1),
}
"""Options of which not every value of their type is one."""


@pytest.mark.parametrize("schema", [ScanConfig, AuditConfig, SearchConfig])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_command_of_any_configuration_means_the_same(schema: type[ScanConfig], data: st.DataObject) -> None:
    fields = {name: field for name, field in schema.model_fields.items() if name not in schema.without}
    some = data.draw(st.sets(st.sampled_from(sorted({*fields} - {"model"})), max_size=6))
    options = {
        name: data.draw(NAMED[name] if name in NAMED else values(fields[name]), label=name)
        for name in ("model", *sorted(some))
    }
    try:
        config = schema.make(**options)
    except ConfigError:
        assume(False)
        raise
    words = shlex.split(config.command)
    assert words[:2] == ["bures", schema.job]
    with pytest.MonkeyPatch.context() as patch:
        found: list[ScanConfig] = []
        patch.setattr(f"bures.cli.{schema.job}.carry_out", lambda _, settings, *__, **___: found.append(settings))
        app(words[1:], standalone_mode=False)
    assert found[0].model_dump(exclude=set(SECRET)) == config.model_dump(exclude=set(SECRET))


@pytest.mark.parametrize("name", ["strength", "shrinkage", "max_kl"])
def test_a_search_refuses_what_it_would_ignore(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: not of a search"):
        SearchConfig.make(model="m", **{name: "oas" if name == "shrinkage" else 2.0})


@pytest.mark.parametrize(("text", "blocks"), [("3,8-10", (3, 8, 9, 10)), ("7", (7,)), (" 1 , 2-2", (1, 2))])
def test_block_numbers_are_read_alike_everywhere(text: str, blocks: tuple[int, ...], tmp_path: Path) -> None:
    assert ScanConfig.make(model="m", blocks=text).blocks == blocks
    assert ScanConfig.make(model="m", blocks=list(blocks)).blocks == blocks
    assert ScanConfig.make(**tomllib.loads(f'model = "m"\nblocks = "{text}"')).blocks == blocks


@pytest.mark.parametrize("text", ["", "x", "8-", "-3", "12-8", "1,,2"])
def test_bad_block_numbers_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="block numbers"):
        ScanConfig.make(model="m", blocks=text)


def test_a_corpus_is_left_out_by_name() -> None:
    assert AuditConfig.make(model="m", corpus="none").corpus is None
    assert "--corpus none" in AuditConfig.make(model="m", corpus=None).command


def test_defaults_are_shown_as_they_are_typed() -> None:
    assert [shown(each) for each in (True, False, (), (0.5, 1.0), 1e-06, "a.0", None, 3)] == [
        "yes", "no", "none", "0.5,1", "1e-06", "a.0", "", "3",
    ]  # fmt: skip


@pytest.mark.parametrize("depth", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.5), (0.5,), (0.5, float("nan"))])
def test_a_bad_depth_names_the_option(depth: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^depth"):
        ScanConfig.make(model="m", depth=depth)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "Is this checkpoint's refusal robust?"), (["--version"], f"bures {bures.__version__}"), (["-h"], "harden")],
)
def test_bures_alone_says_which_command_one_wants(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert not end.value.code
    out = capsys.readouterr().out
    assert said in out
    assert not any(line.endswith("...") for line in out.splitlines()[1:])  # no sentence is cut
    assert max(map(len, out.splitlines())) <= 120
