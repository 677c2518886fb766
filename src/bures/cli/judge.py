"""`bures judge`: judge a finished audit again, measure judges against people, train the packaged one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from bures.cli.console import Bars, show, stdout_kept
from bures.cli.fitted import Fitted, columns, words
from bures.cli.judge_label import label
from bures.cli.options import AsJson
from bures.judges.by_name import JUDGE_NAMES


class RunByDefault(TyperGroup):
    """`bures judge FOLDER ...` means `bures judge run FOLDER ...`, also where FOLDER has the name of a subcommand."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The subcommand of the first argument where it is one, and no run folder; else `run`."""
        named = (args[0] in self.commands and not _is_run(args)) or args[0].startswith("-")
        return TyperGroup.resolve_command(self, ctx, args if named else ["run", *args])


def _is_run(args: list[str]) -> bool:
    """Whether arguments begin with a run folder: its results are there, and only options of `run` follow."""
    rest = args[1:]
    while rest and rest[0].partition("=")[0] in ("--judge", "--json"):
        rest = rest[2 if rest[0] == "--judge" else 1 :]
    return not rest and (Path(args[0]) / "results.json").is_file()


app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Judge a finished audit again; label its answers; measure judges against people; train the packaged judge. "
    "'bures judge RUN' means 'bures judge run RUN', also for a folder named run, evaluate, label or train that holds "
    "results.json, where no more than --judge and --json follows.",
)

app.command()(label)

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        help=f"Repeatable: {', '.join(JUDGE_NAMES)}, or a judge of an installed package.",
    ),
]


@app.command()
def run(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    judge: Names = None,
    as_json: AsJson = False,
) -> None:
    """Ask further judges about a finished audit's completions; nothing is generated again.

    Example: bures judge runs/candidate --judge bures-lm
    """
    from bures.cli.tables import audit_table
    from bures.errors import ConfigError
    from bures.jobs.rejudge import rejudge

    if not judge:
        raise ConfigError("no judge given; expected for example --judge bures-lm")
    bars = Bars(Console(stderr=True))
    with stdout_kept(), bars:
        result = rejudge(folder, judge, progress=bars)
    if as_json:
        typer.echo(result.to_json())
    else:
        show(audit_table(result.model_copy(update={"judge": judge[-1]})))


@app.command()
def evaluate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE.csv]...",
            help="xstest, refusal-labels, refusal-labels-extra (the last two without any name), or a file with columns "
            "objective, assistant_response, human_score.",
        ),
    ] = None,
    judge: Names = None,
    cut: Annotated[int | None, typer.Option(min=1, help="Judge the first CUT characters of the answers only.")] = None,
    record: Annotated[bool, typer.Option(help="Keep the figures: tables of these judges show them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold judges against human labels: precision, recall, F1 and accuracy for "refused", with 95 % intervals.

    The judge `bures` was trained on refusal-labels and xstest: there its figures flatter; docs/judges.md has those of
    answers and models that it did not see. Partial refusals, which xstest has, are left out.

    Example: bures judge evaluate

    Example: bures judge evaluate mine.csv --judge bures --judge llm:gpt-4o-mini --record
    """
    import json

    from bures.judges.by_name import OFFLINE, judge_by_name
    from bures.judges.human_labels import CHOOSING, REPORTING, decided, load_labelled
    from bures.judges.known_error import TRAINED_ON, how, measure
    from bures.judges.known_error import record as keep

    judges = [judge_by_name(name) for name in judge or OFFLINE]
    with stdout_kept():
        found = [
            measure(each, decided(load_labelled(name)), Path(name).name, how=how(each.name, name), cut=cut)
            for name in files or (CHOOSING, REPORTING)
            for each in judges
        ]
    if record and cut is None:
        typer.echo(f"recorded in {keep(e for e in found if e.how != TRAINED_ON)}", err=True)
    if as_json:
        typer.echo(json.dumps([each.to_dict() for each in found], indent=1, allow_nan=False))
    else:
        show(_table(found))


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="File of the weights; the readable ones go beside it.")],
    scorer: Annotated[
        bool, typer.Option(help="Train the part of bures-lm too: about 1,700 answers through the 135M model.")
    ] = True,
) -> None:
    """Fit the judge `bures` on the pinned sources, choosing by cross-validation. Deterministic.

    Example: bures judge train --out judge/bures.safetensors
    """
    from bures.judges.training import prepare
    from bures.judges.training import train as fit
    from bures.judges.training_corpora import load_corpora

    gains: Any = None
    with stdout_kept():
        if scorer:
            from bures.judges.surprise import Scorer, load_scorer

            gains = Scorer(load_scorer(), {})
        weights = fit(prepare(load_corpora(), gains))
    weights.save(out)
    show(words(f"{out}: {weights.recipe['answers']}, strength {weights.recipe['strength']}"))


def _table(found: list[Any]) -> Any:
    from bures.results.formatting import share

    names = ("set", "judge", "n", "precision %", "recall %", "F1 %", "accuracy %")
    spare = ("accuracy %", "F1 %")
    table = Fitted("", columns(*names, left=names[:2], wraps=names[:2], spare=spare), "wider terminals and --json")
    for e in found:
        figures = (e.precision, e.recall, e.f1, e.accuracy)
        table.add((f"{e.on}, {e.how}", e.judge, str(e.n), *(share(figure, unit="") for figure in figures)))
    return table
