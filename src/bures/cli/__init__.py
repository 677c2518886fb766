"""Command line: arguments and wiring only."""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import typer

from bures.cli import assets, audit, compare, gate, harden, history, judge, organism, plan, report, scan, search
from bures.errors import BuresError, plain

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = typer.Typer(
    name="bures",
    help="Measure, localise and harden refusal in open-weight language models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(audit.audit)
app.command()(scan.scan)
app.command()(search.search)
app.command()(harden.harden)
app.command()(report.report)
app.command()(compare.compare)
app.command()(gate.gate)
app.command()(plan.plan)
app.command()(history.history)
app.command()(assets.assets)
app.add_typer(judge.app, name="judge")
app.add_typer(organism.app, name="organism")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: a user's mistake is one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path or a name may hold what the locale's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the loaders' own bars; ours show the stage
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    strange = [each for each in sys.argv[1:] if any("\ud800" <= char <= "\udfff" for char in each)]
    if arguments is None and strange:
        _fail(f"{plain(strange[0])} is no text in the encoding of this locale; set PYTHONUTF8=1 for names in UTF-8", 2)
    try:
        code = app(args=arguments, prog_name="bures", standalone_mode=False)
    except BuresError as error:
        _fail(str(error), error.exit_code)
    except typer.Exit as end:
        if end.exit_code == INTERRUPTED:
            _fail("interrupted; give the same command to continue", INTERRUPTED)
        sys.exit(end.exit_code)
    except Exception as error:
        from bures.models.room import is_out_of_memory

        if is_out_of_memory(error):
            _fail("out of memory; lower --token-budget, use --dtype bfloat16 or --device auto, then continue", 2)
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            _fail(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
        raise
    if code == INTERRUPTED:
        _fail("interrupted; give the same command to continue", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"bures: {message}", err=True)
    sys.exit(code)
