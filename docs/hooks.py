"""Pages that are made while the site is built, and a check of what was made.

The README, CONTRIBUTING, SECURITY and CHANGELOG become pages, with their links turned to the site. The commands' own
help becomes another. Every script in `examples/` (percent format: `# %% [markdown]` and `# %%` cells) becomes a
notebook that is run while the site is built, to be downloaded with its outputs, and a page of the same; a cell that
raises fails the build. So does a page that would load anything from another host.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # the loaders' bars
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # of bars that are off

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
FILES = ("CITATION.cff",)
COMMANDS = "commands.md"

_FOREIGN = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\s(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
_log = logging.getLogger("mkdocs.plugins.bures")

LONGEST = 600
"""Seconds that a cell of an example may take."""

_outputs: dict[str, str] = {}
"""HTML that cells showed, by the mark that stands for it while a page is Markdown."""
_MARK = re.compile(r'<div id="shown-[\w-]+"></div>')


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages."""
    File: Any = importlib.import_module("mkdocs.structure.files").File  # types are checked without mkdocs too
    root = Path(config.config_file_path).parent
    made = {page: of_repository((root / source).read_text(encoding="utf-8")) for source, page in PAGES.items()}
    made["index.md"] = f"---\nhide: [navigation]\n---\n{made['index.md']}"  # room for its tables
    made |= {name: (root / name).read_text(encoding="utf-8") for name in FILES}
    made[COMMANDS] = of_commands()
    for script in sorted(Path(config.docs_dir, "examples").glob("*.py")):
        notebook = executed(notebook_of(script.name, script.read_text(encoding="utf-8")))
        made[f"examples/{script.stem}.ipynb"] = json.dumps(notebook, indent=1)
        made[f"examples/{script.stem}.md"], shown = page_of(script.stem, notebook)
        _outputs.update(shown)
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Puts the HTML that cells showed into their page: no Markdown is made of it."""
    return _MARK.sub(lambda mark: _outputs[mark[0]], html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warns, which fails a strict build, of what a browser would fetch from another host."""
    for address in _FOREIGN.findall(output):
        _log.warning("%s loads %s; expected nothing from another host", page.file.src_uri, address)
    return output


def of_repository(text: str) -> str:
    """A page at the top of the repository as a page of the site."""
    text = re.sub(r"^```(\w+) run$", r"```\1", text, flags=re.MULTILINE)
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text.replace("](docs/", "](")


def notebook_of(name: str, text: str) -> dict[str, Any]:
    """A script in percent format as a notebook (nbformat 4.5), not run.

    Raises:
        ValueError: the script does not begin with a cell of Markdown.
    """
    head, *parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    if head.strip() or not parts or parts[0].strip() != "[markdown]":
        raise ValueError(f"{name}: expected the first line to be '# %% [markdown]'")
    cells: list[dict[str, Any]] = []
    for i, (kind, body) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        cell: dict[str, Any] = {"id": f"cell-{i}", "metadata": {}}
        if kind.strip() == "[markdown]":
            source = re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip()
            cells.append({**cell, "cell_type": "markdown", "source": source})
        else:
            code = {"cell_type": "code", "source": body.strip(), "outputs": [], "execution_count": None}
            cells.append({**cell, **code})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with what its cells print and show; raises what a cell raises."""
    nbformat: Any = importlib.import_module("nbformat")  # of the extra `docs`: types are checked without
    nbclient: Any = importlib.import_module("nbclient")
    found = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            found,
            timeout=LONGEST,
            startup_timeout=LONGEST,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors
            coalesce_streams=True,
        ).execute()
    for cell in found.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return json.loads(nbformat.writes(found))


def page_of(name: str, notebook: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A notebook as a page of Markdown, and the HTML that its cells showed by the marks that stand for it there."""
    parts: list[str] = []
    shown: dict[str, str] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for i, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "text/html" in data:
                mark = f'<div id="shown-{name}-{cell["id"]}-{i}"></div>'
                shown[mark] = f'<div class="shown">{"".join(data["text/html"])}</div>'
                parts.append(mark)
            elif text.strip():
                parts.append(f"```text\n{text.rstrip()}\n```")
    note = f"Run while this page was built. To run it yourself: [notebook]({name}.ipynb), [script]({name}.py)."
    return "\n\n".join([parts[0], f"*{note}*", *parts[1:]]) + "\n", shown


def of_commands() -> str:
    """Every command with its help, its examples and its options, as the program itself has them."""
    import typer

    from bures.cli import app

    opening = "# Commands\n\nWhat `bures COMMAND --help` says. The default of an option stands in brackets."
    return "\n\n".join([opening, *_command(typer.main.get_command(app), "bures")]) + "\n"


def _command(command: Any, name: str) -> list[str]:
    children = getattr(command, "commands", {})
    if children:
        return [part for sub, child in children.items() for part in _command(child, f"{name} {sub}")]
    said, *examples = (command.help or "").split("\n\nExample:")
    parts = [f"## `{name}`", said.strip()]
    if examples:
        parts.append("\n".join(["```sh", *(example.strip() for example in examples), "```"]))
    context = command.make_context(name, [], resilient_parsing=True)
    records = [param.get_help_record(context) for param in command.params]
    rows = [record for record in records if record and "--help" not in record[0]]
    if rows:
        lines = ["`{}` | {}".format(*(cell.replace("|", "\\|") for cell in row)) for row in rows]
        parts.append("\n".join(["| option | |", "|---|---|", *(f"| {line} |" for line in lines)]))
    return parts
