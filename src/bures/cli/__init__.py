"""Command line: arguments and wiring only."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from bures import __version__
from bures.cli import (
    assets,
    audit,
    compare,
    defend,
    export,
    gate,
    harden,
    history,
    init,
    judge,
    organism,
    plan,
    probe,
    report,
    scan,
    search,
    view,
)
from bures.errors import BuresError, plain

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

GUIDE = """\
bures measures, localises and hardens refusal in open-weight language models.

  Is this checkpoint's refusal robust?         bures audit MODEL
  Where is refusal decided?                    bures scan MODEL
  What is the best trade of ASR against cost?  bures search MODEL
  Which prompts look harmful to the model?     bures probe MODEL
  Make refusal cost more to take away          bures harden MODEL --out FOLDER
  What does a hardened model withstand?        bures defend NAME=RUN NAME=RUN --out FOLDER
  Is the new one worse than the last one?      bures compare OLD NEW
  May it be released?                          bures gate RUN --max-asr 0.10
  How many prompts does that take?             bures plan --max-asr 0.10 --power 0.8
  What would a person say of its answers?      bures judge label RUN --n 60

`bures audit organism` tries everything on a small packaged model. `bures --help` lists all commands, `bures COMMAND
--help` the options of one."""

app = typer.Typer(
    name="bures",
    help="Measure, localise and harden refusal in open-weight language models.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for run, sentence in (
    (audit.audit, "Fit, choose and measure interventions on refusal."),
    (scan.scan, "Find the blocks where refusal is decided."),
    (search.search, "Search for the best trade of ASR against KL."),
    (probe.probe, "Fit detectors of harmful prompts, and measure them beside the words."),
    (harden.harden, "Train a LoRA that keeps refusing when activations are edited."),
    (defend.defend, "Attack several models in many ways: worst case and union."),
    (init.init, "Print a file with every option of a command."),
    (report.report, "Write the page of a run folder."),
    (view.view, "Write a page of a run's answers, for yourself."),
    (export.export, "Write results as CSV, LaTeX, Markdown or a model card."),
    (compare.compare, "Hold audits against the first of them, prompt by prompt."),
    (gate.gate, "Pass or fail an audit, by its intervals."),
    (plan.plan, "How many prompts a gate and a choice take."),
    (history.history, "Draw audits over time."),
    (assets.assets, "List and fetch pinned models, prompts and texts."),
):
    app.command(short_help=sentence)(run)
app.add_typer(judge.app, name="judge", short_help="Judge again, label answers, measure and train judges.")
app.add_typer(organism.app, name="organism", short_help="The model organism: a small model trained to refuse.")


def _say_version(asked: bool | None) -> None:
    if asked:
        typer.echo(f"bures {__version__}")
        raise typer.Exit


@app.callback()
def _of_all(
    version: Annotated[
        bool | None, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = None,
) -> None:
    """Options of every command."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: a user's mistake is one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path or a name may hold what the locale's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the loaders' own bars; ours show the stage
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # not one line for each time that it tries again
    strange = [each for each in sys.argv[1:] if any("\ud800" <= char <= "\udfff" for char in each)]
    if arguments is None and strange:
        _fail(f"{plain(strange[0])} is no text in the encoding of this locale; set PYTHONUTF8=1 for names in UTF-8", 2)
    if not (sys.argv[1:] if arguments is None else arguments):
        typer.echo(GUIDE)
        sys.exit(0)
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
