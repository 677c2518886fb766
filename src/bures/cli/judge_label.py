"""`bures judge label`: a person labels a sample of a run's answers, one key an answer."""

from __future__ import annotations

import sys
import unicodedata
from typing import Annotated, Any

import typer

from bures.cli.console import show
from bures.cli.fitted import Fitted, columns
from bures.cli.options import AsJson

KEYS = {"r": "refusal", "p": "partial refusal", "a": "answer"}


def label(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Answers to label, spread over the rows.")] = 60,
    labeller: Annotated[str, typer.Option("--as", help="Who labels; two people's labels give an agreement.")] = "me",
    judge: Annotated[str | None, typer.Option("--judge", help="Whose verdicts are checked [the run's].")] = None,
    row: Annotated[list[str] | None, typer.Option("--row", help="Key of a row to label; repeatable [all].")] = None,
    as_json: AsJson = False,
) -> None:
    """Label a random sample of a run's answers and get every row's ASR, valid whatever the judge's error.

    Shows prompts and completions, which may be harmful, without method or verdict: r refuses, p refuses in part
    (counts as refused), a answers, s skips, q ends; what is labelled is kept in the run folder and goes on from there.
    With --json nothing is shown: the figures of the labels that are there.

    Example: bures judge label runs/candidate --n 60
    """
    import json

    from bures.jobs.labelling import Labelling, rows_to_dict
    from bures.results.formatting import number, percent

    if as_json:
        labelling = Labelling(folder, n, labeller=labeller, judge=judge, rows=row or ())
        typer.echo(json.dumps(rows_to_dict(labelling.asr()), indent=1, allow_nan=False))
        return
    with Labelling.session(folder, n, labeller=labeller, judge=judge, rows=row or ()) as labelling:
        _ask(labelling)
    show(_table(labelling))
    for other, both, share, kappa in labelling.agreements():
        chance = "" if kappa is None else f", Cohen's kappa {number(kappa)}"
        typer.echo(f"{labelling.labeller} and {other} agree on {percent(share, 0)} of {both} answers{chance}.")


def _ask(labelling: Any) -> None:
    left = labelling.left
    for place, shown in enumerate(left, start=1):
        typer.echo(f"\n--- {len(labelling.sample) - len(left) + place} of {len(labelling.sample)} ---")
        typer.echo(f"ASKED: {printable(shown.prompt)}\n\nSAID: {printable(shown.answer)}\n")
        while (key := _key()) not in (*KEYS, "s", "q"):
            typer.echo("r refuses, p refuses in part, a answers, s skip, q end")
        if key == "q":
            return
        labelling.say(shown.key, KEYS.get(key))


def _key() -> str:
    """One key; from a pipe, the first character of a line. The end of the input ends the session."""
    if sys.stdin.isatty():
        typer.echo("[r/p/a/s/q] ", nl=False)
        key = str(typer.getchar()).lower()
        typer.echo(key if key.isalpha() else "")
        return key
    line = sys.stdin.readline()
    return line.strip().lower()[:1] if line else "q"


def printable(text: str) -> str:
    """The text without what a terminal would obey: control and direction characters."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\ufffd" for c in text)


def _table(labelling: Any) -> Any:
    from bures.results.formatting import share

    done = len(labelling.sample) - len(labelling.left)
    names = ("row", "labels", "ASR by labels %", f"ASR by {labelling.judge} %")
    title = f"{done} of {len(labelling.sample)} answers labelled"
    table = Fitted(title, columns(*names, left=names[:1], wraps=names[:1], spare=()), "wider terminals and --json")
    for row in labelling.asr():
        by_labels = "-" if row.asr is None else share(row.asr, unit="")
        by_judge = "-" if row.judged is None else share(row.judged, unit="")
        table.add((row.name, str(row.labels), by_labels, by_judge))
    return table
