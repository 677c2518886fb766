"""The README and the documentation say what the program does: commands, options, names and links exist.

Nothing is run here but parsers. `tests/readme_commands.py` runs the README's commands, and building the site runs the
examples.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

import bures
from bures.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)")
FOREIGN = {"--log-dir"}
"""Options of other programs that the text names."""

TOP: Any = typer.main.get_command(app)


def _hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = _hooks()
GENERATED = {*HOOKS.PAGES.values(), *HOOKS.FILES, HOOKS.COMMANDS, *(f"examples/{path.stem}.md" for path in EXAMPLES)}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", _text(page))


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Commands ---------------------------------------------------------------------------------------------------------


def commands_in(text: str) -> list[str]:
    """The `bures` command lines of the fenced blocks, continuation lines joined."""
    blocks = [code.replace("\\\n", " ") for _, language, code in FENCE.findall(text) if language != "python"]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("bures ")]


def parse(line: str) -> None:
    """Hands a command line to the program's own parsers, up to where it would run."""
    words = [word.strip("[]") for word in shlex.split(line, comments=True)[1:]]
    words = words[: next((i for i, word in enumerate(words) if word in {">", "|", "&&", ";"}), len(words))]
    command: Any = TOP
    name = "bures"
    try:
        while getattr(command, "commands", None) and words and not words[0].startswith("-"):
            if name == "bures judge" and words[0] not in command.commands:
                words.insert(0, "run")  # its folder stands where other groups have a command
            name, command = f"{name} {words[0]}", command.commands[words[0]]
            words = words[1:]
        command.make_context(name, words)
    except typer.Exit:  # --help
        return


COMMANDS = [pytest.param(line, id=f"{_name(page)}: {line}") for page in PAGES for line in commands_in(_text(page))]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_documentation_is_one_that_the_program_takes(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("line", ["bures audit MODEL --no-such-option 1", "bures audit MODEL --limit many"])
def test_an_option_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such option|valid integer"):
        parse(line)


def test_a_command_that_does_not_exist_is_found() -> None:
    with pytest.raises(KeyError):
        parse("bures no-such-command")


def test_commands_are_found_in_fences() -> None:
    text = "```sh run\nbures audit a \\\n  --limit 4 # few\n```\nbures search c\n\n  ```text\n  $ bures scan b\n  ```\n"
    found = [" ".join(line.split()) for line in commands_in(text)]
    assert found == ["bures audit a --limit 4 # few", "bures scan b"]


def _options(command: Any) -> Iterator[str]:
    for param in command.params:
        yield from (*param.opts, *param.secondary_opts)
    for child in getattr(command, "commands", {}).values():
        yield from _options(child)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_an_option_named_in_the_text_exists(page: Path) -> None:
    known = {*_options(TOP), "--help", *FOREIGN}
    # in code that names no other program: `--max-kl`, `--limit 4`, `bures audit --json`
    spans = re.findall(r"`((?:bures |--)[^`]*)`", _prose(page))
    assert {word for span in spans for word in re.findall(r"(?<!\S)--[\w-]+", span)} <= known


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_nothing_is_installed_from_an_index_that_does_not_have_it(page: Path) -> None:
    assert not re.findall(r"pip install (?:-U )?'?bures'?(?![\w\[/.])", _text(page))


# Links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_resolve(page: Path) -> None:
    for target in LINK.findall(_prose(page)):
        path, _, _ = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            continue
        found = (page.parent / path).resolve()
        # pages that only the site has may be linked from pages that only the site shows as they are meant
        of_site = page.is_relative_to(DOCS / "api") and str(found.relative_to(DOCS)) in GENERATED
        assert found.exists() or of_site, f"{_name(page)} links to {target}"


def _pages_of(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages_of(each)


def test_the_navigation_has_every_page_once() -> None:
    nav = list(_pages_of(yaml.safe_load(_text(ROOT / "mkdocs.yml"))["nav"]))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | {p for p in GENERATED if p.endswith(".md")}
    assert sorted(nav) == sorted(pages)


# Names ------------------------------------------------------------------------------------------------------------


def test_every_public_name_has_its_place_in_the_reference() -> None:
    text = "\n".join(map(_text, sorted((DOCS / "api").glob("*.md"))))
    documented = re.findall(r"^::: bures\.(\w+)$", text, flags=re.MULTILINE)
    assert sorted(documented) == sorted(bures.__all__)


def test_the_overview_links_every_public_name() -> None:
    linked = set(re.findall(r"\]\[bures\.(\w+)\]", _text(DOCS / "api" / "index.md")))
    assert linked == set(bures.__all__)


def check_names(code: str) -> None:
    """Every name of bures that the code imports or reads exists, and takes the keywords that it is called with."""
    tree = ast.parse(code)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in _ours(node.names)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bures":
            module = importlib.import_module(node.module or "")
            known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}

    def resolve(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Attribute) and (owner := resolve(node.value)) is not None:
            return getattr(owner, node.attr)
        return None

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolve(node)
        if isinstance(node, ast.Call) and (called := resolve(node.func)) is not None:
            taken = inspect.signature(called).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
                assert {k.arg for k in node.keywords if k.arg} <= set(taken), ast.unparse(node)


def _ours(names: list[ast.alias]) -> list[ast.alias]:
    return [alias for alias in names if alias.name.split(".")[0] == "bures"]


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=_name)
def test_python_in_the_documentation_uses_names_that_exist(page: Path) -> None:
    if page.suffix == ".py":
        check_names(_text(page))
    # pages show the import once and go on with it
    code = "\n".join(inspect.cleandoc(code) for _, language, code in FENCE.findall(_text(page)) if language == "python")
    check_names(code)


def test_names_and_keywords_that_do_not_exist_are_found() -> None:
    with pytest.raises(AttributeError):
        check_names("import bures\nbures.no_such_name")
    with pytest.raises(AttributeError):
        check_names("from bures.data.prompts import no_such_name")
    with pytest.raises(AssertionError):
        check_names("import bures as b\nb.fit_pca_ot(X, Y, rank=2, no_such_keyword=1)")


# Pages that the site is built with --------------------------------------------------------------------------------


@pytest.mark.parametrize("script", EXAMPLES, ids=_name)
def test_an_example_is_a_script_and_a_page(script: Path) -> None:
    code = _text(script)
    compile(code, str(script), "exec")
    notebook = HOOKS.notebook_of(script.name, code)
    page, shown = HOOKS.page_of(script.stem, notebook)
    assert page.startswith("# ")
    assert not shown
    cells = [code for _, language, code in FENCE.findall(page) if language == "python"]
    assert len(cells) == len(re.findall(r"^# %%$", code, flags=re.MULTILINE)) >= 2
    assert code.isascii()
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


def test_what_a_cell_shows_stands_below_it_and_html_is_no_markdown() -> None:
    notebook = HOOKS.notebook_of("x.py", "# %% [markdown]\n# # Title\n# Words.\n\n# %%\nprint(1)\n\n# %%\nshow()\n")
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1\n"}]
    table = {"text/html": ["<table>", "*1*</table>"], "text/plain": "1"}
    notebook["cells"][2]["outputs"] = [{"output_type": "execute_result", "data": table}]
    page, shown = HOOKS.page_of("x", notebook)
    assert page.startswith("# Title\nWords.\n\n*Run while this page was built. To run it yourself: [notebook](x.ipynb)")
    assert "```python\nprint(1)\n```\n\n```text\n1\n```\n" in page
    (mark,) = shown
    assert page.endswith(f"```python\nshow()\n```\n\n{mark}\n")
    HOOKS._outputs.update(shown)
    assert "<table>*1*</table>" in HOOKS.on_page_content(f"<p>{mark}</p>", None, None, None)


def test_a_script_that_is_no_notebook_is_refused() -> None:
    with pytest.raises(ValueError, match="first line"):
        HOOKS.notebook_of("x.py", "import bures\n# %%\nprint(1)\n")


def test_pages_of_the_repository_turn_their_links_to_the_site() -> None:
    text = "[a](docs/data.md#x) [b](CONTRIBUTING.md) [c](https://e.org/docs/)\n```sh run\nbures --help\n```\n"
    expected = "[a](data.md#x) [b](contributing.md) [c](https://e.org/docs/)\n```sh\nbures --help\n```\n"
    assert HOOKS.of_repository(text) == expected


def test_the_commands_page_has_every_command_and_option() -> None:
    page = HOOKS.of_commands()
    assert set(re.findall(r"^## `bures ([\w-]+)", page, flags=re.MULTILINE)) == set(TOP.commands)
    of_all = {"--version", "--install-completion", "--show-completion"}
    options = {option for option in _options(TOP) if option.startswith("--")} - of_all
    assert options <= set(re.findall(r"--[\w-]+", page))


@pytest.mark.parametrize(
    ("html", "warned"),
    [
        ('<a href="https://example.org">text</a> <script src="assets/x.js"></script>', 0),
        ('<script async src="https://example.org/x.js"></script>', 1),
        ("<link rel=stylesheet href=//example.org/x.css><img alt='' src='http://example.org/x.png'>", 2),
    ],
)
def test_a_page_that_loads_from_another_host_is_found(html: str, warned: int, caplog: pytest.LogCaptureFixture) -> None:
    class Page:
        class file:  # noqa: N801
            src_uri = "page.md"

    assert HOOKS.on_post_page(html, Page, None) == html
    assert len(caplog.records) == warned


def test_tables_of_the_pages_are_what_the_results_beside_them_say() -> None:
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    marked = [page for page in tables.PAGES if "<!-- export: " in _text(page) or "<!-- maps: " in _text(page)]
    assert marked
    for page in marked:
        assert tables.filled(_text(page)) == _text(page), f"{page.name}: run python docs/tables.py"
    some = tables.table(DOCS / "results" / "demo", ["row", "KL"]).splitlines()
    whole = tables.table(DOCS / "results" / "demo").splitlines()
    assert len(some) == len(whole)
    assert [line.split(" | ")[0] for line in some[2:]] == [line.split(" | ")[0] for line in whole[2:]]
    assert all(line.count("|") == 3 for line in some)
    wrong = _text(marked[0]).replace("| `none` |", "| `nine` |", 1)
    assert tables.filled(wrong) == _text(marked[0])
