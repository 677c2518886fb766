"""The house keeps its measure: modules, functions and parameter lists stay short, or stand in a list with a reason."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "src" / "bures"
MODULE, FUNCTION, PARAMETERS = 300, 50, 6

STRICT = ("jobs", "models", "transport")
"""Packages in which functions are measured too."""

EXCEPTIONS = {
    "models.activations.collect": "public: independent keyword options, each with a default",
    "models.activations.gather": "as collect",
    "models.loading.load_model": "public: independent keyword options, each with a default",
    "jobs.metrics.answer_costs": "public: independent keyword options, each with a default",
    "jobs.metrics.corpus_perplexity": "public: independent keyword options, each with a default",
}


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{node.name}", node
            yield from _functions(node, f"{prefix}.{node.name}")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}.{node.name}")


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in given)


def _code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    spent = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - spent


def test_no_module_is_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > MODULE} == {}


def test_functions_are_short_and_take_few_parameters() -> None:
    found: dict[str, tuple[int, int]] = {}
    for package in STRICT:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for full, node in _functions(ast.parse(path.read_text()), name):
                if _code(node) > FUNCTION or _parameters(node) > PARAMETERS:
                    found[full] = _code(node), _parameters(node)
    assert {name: figures for name, figures in found.items() if name not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(found), "an exception that is none any more"


def test_the_top_of_the_house_has_few_rooms() -> None:
    rooms = [p for p in ROOT.iterdir() if (p.suffix == ".py" or p.is_dir()) and p.name != "__pycache__"]
    assert len(rooms) <= 14


def test_the_contract_has_few_floors() -> None:
    text = (ROOT.parent.parent / ".importlinter").read_text()
    layers = text.split("layers =")[1].split("\n\n")[0].split("\n")
    assert sum(bool(line.strip()) for line in layers) <= 8


def test_the_map_of_the_house_shows_the_floors_that_the_import_contract_has() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT.parents[1] / ".importlinter")
    layers = contracts["importlinter:contract:floors"]["layers"].split("\n")
    built = [[name.strip() for name in layer.split("|")] for layer in reversed(layers) if layer.strip()]
    expected = {name: floor for floor, names in enumerate(built, start=1) for name in names if name != "__main__"}
    text = (ROOT.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d) \| `(\w+)` \|", text, flags=re.MULTILINE)
    assert {name: int(floor) for floor, name in shown} == expected
    assert len(shown) == len(expected) == 12
