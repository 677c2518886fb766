"""Pages that are made while the site is built, and a check of what was made.

The README, CONTRIBUTING, SECURITY and CHANGELOG become pages, with their links turned to the site. The commands' own
help becomes another. Every script in `examples/` (percent format: `# %% [markdown]` and `# %%` cells, which editors and
Jupyter open as a notebook) becomes a page whose code markdown-exec runs, so that what stands under a cell is what it
printed; a cell that raises fails a strict build. So does a page that would load anything from another host.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # the loaders' bars
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

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


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages."""
    File: Any = importlib.import_module("mkdocs.structure.files").File  # types are checked without mkdocs too
    root = Path(config.config_file_path).parent
    made = {page: of_repository((root / source).read_text(encoding="utf-8")) for source, page in PAGES.items()}
    made["index.md"] = f"---\nhide: [navigation]\n---\n{made['index.md']}"  # room for its tables
    made |= {name: (root / name).read_text(encoding="utf-8") for name in FILES}
    made[COMMANDS] = of_commands()
    for script in sorted(Path(config.docs_dir, "examples").glob("*.py")):
        made[f"examples/{script.stem}.md"] = of_script(script.name, script.read_text(encoding="utf-8"))
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


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


def of_script(name: str, text: str) -> str:
    """A script in percent format as a page with executable fences."""
    head, *cells = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    if head.strip() or not cells or cells[0].strip() != "[markdown]":
        raise ValueError(f"{name}: expected the first line to be '# %% [markdown]'")
    session = name.removesuffix(".py")
    parts: list[str] = []
    for kind, body in zip(cells[::2], cells[1::2], strict=True):
        if kind.strip() == "[markdown]":
            parts.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip())
        else:
            result = ' result="text"' if "print(" in body else ""  # nothing printed, no box for it
            parts.append(f'```python exec="on" source="above"{result} session="{session}"\n{body.strip()}\n```')
    note = f"Run while this page was built. As a script, and a notebook in percent format: [{name}]({name})."
    return "\n\n".join([parts[0], f"*{note}*", *parts[1:]]) + "\n"


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
