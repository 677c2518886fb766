"""The card of a hardening adapter: what was trained, on what, and what was measured, with the threat model on it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bures import durable
from bures.errors import RunError
from bures.results.formatting import estimate, number, share
from bures.results.run_folder import load_result
from bures.results.schema import AuditResult

CARD = "README.md"

THREAT_MODEL = (
    "The attacker has the weights, may read and edit activations at inference, fits interventions anew on the hardened "
    "model, and knows how it was hardened; the attacker does not train. An adapter that can be unloaded is no defence: "
    "every figure is to be measured on the merged model. What a figure can say is that taking the refusal away *costs "
    "more work under these interventions*, never that it cannot be taken away. Fine-tuning is outside this claim, and "
    "so is any attack that was not measured."
)

_SETTINGS = {
    "moving": "moving maps: interventions of several methods, placements, token scopes and strengths, fitted anew on "
    "the model as it became, half of the draws from earlier ones",
    "refat": "ReFAT's setting: ablation of one direction a block in all adapted blocks, fitted anew every few steps",
    "fail-closed": "all directions found so far projected out at every block, a new one added at intervals",
    "control": "none: the control, with the same data and the same number of steps",
}

_NOT_YET = (
    "Nothing has been measured yet. `bures audit {base} --adapter FOLDER` measures the merged model; "
    "`bures harden {base} --out FOLDER --measured RUN` then writes its figures here."
)


def portable(value: Any) -> Any:
    """Options as the recipe has them: paths of this machine become names of files, all else stays."""
    if isinstance(value, Mapping):
        return {portable(key): portable(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [portable(each) for each in cast("Sequence[Any]", value)]
    if not isinstance(value, str):
        return value
    is_path = Path(value).is_absolute() or value.startswith((".", "~")) or Path(value).exists()
    return Path(value).name if is_path else value


def write_card(folder: Path, recipe: Mapping[str, Any], measured: AuditResult | None = None) -> None:
    """Writes the card of an adapter.

    Args:
        folder: of the adapter.
        recipe: how it was made (`recipe.json`).
        measured: an audit of it; None: it says that nothing has been measured.

    Raises:
        RunError: the folder cannot be written.
    """
    base, plan, data = recipe["base"]["name"], recipe["plan"], recipe["data"]
    figures = _NOT_YET.format(base=base) if measured is None else _table(measured)
    text = "\n\n".join(
        (
            f"---\nbase_model: {json.dumps(base)}\nlibrary_name: peft\ntags: [lora, refusal, safety]\n---",
            f"# A hardening adapter for {base}",
            (
                "A LoRA with which the model is to keep refusing harmful requests although its activations are "
                "edited. It was trained to make the model refuse, and for nothing else."
            ),
            f"## What it is meant to stand against\n\n{THREAT_MODEL}",
            f"## What was measured\n\n{figures}",
            f"## How it was made\n\n    {recipe['command']}",
            "\n".join(_made(recipe["options"], plan, data, recipe)),
            "`recipe.json` holds all options, versions and the course of the losses.",
        )
    )
    try:
        durable.write(folder / CARD, text + "\n")
    except OSError as error:
        raise RunError(f"cannot write {folder / CARD}: {error.strerror}; give another folder") from error


def _made(
    options: Mapping[str, Any], plan: Mapping[str, Any], data: Mapping[str, Any], recipe: Mapping[str, Any]
) -> list[str]:
    """What it was trained on and how, as a list."""
    dropped = sum(data["dropped_as_overlapping"].values())
    unchecked = data["overlap_not_checked_against"]
    attacks = plan["attacks"]
    attacked, tried = attacks["share"], attacks.get("hardest_of", 1)
    kept = attacks.get("originals", 0)
    lines = [
        f"- attacked in training by: {_SETTINGS[options['setting']]}"
        + (f"; {attacked:.0%} of the harmful prompts of a step in the end" if attacked else "")
        + (f", by the hardest of {tried} that are drawn" if attacked and tried > 1 else "")
        + (f"; besides, a quarter of all draws are of {kept} that were fitted before the first step" if kept else ""),
        (
            f"- harmful prompts: {data['harmful']} ({', '.join(options['harmful'])}), with refusals written for the "
            f"project, {options['extended_share']:.0%} of them extended (topic, refusal, reason), "
            f"{options['opener_share']:.0%} behind an affirmative opener without content{_own(options, recipe)}"
        ),
        (
            f"- harmless prompts: {data['ordinary']} ({', '.join(options['harmless'])}) and {data['lookalikes']} "
            f"look-alikes, on which the KL to the original model is held down along its own answers"
        ),
        *([] if "text" not in data else [_held(data["text"]["name"])]),
        f"- {dropped} training prompts were left out because they repeat one of a set that measures",
        (
            f"- LoRA of rank {plan['rank']}, alpha {plan['alpha']:g}, on {', '.join(plan['targets'])} from block "
            f"{plan['first_block']} on; {plan['steps']} steps of {plan['harmful_rows']} harmful and "
            f"{plan['harmless_rows']} harmless prompts, learning rate {plan['learning_rate']:g}, seed {plan['seed']}"
        ),
    ]
    if unchecked:
        lines.append(f"- no overlap was looked for with {', '.join(unchecked)}, which could not be fetched")
    if recipe.get("losses"):
        last = recipe["losses"][-20:]
        names = dict.fromkeys(name for each in last for name in each)
        means = {name: [each[name] for each in last if name in each] for name in names}
        told = ", ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in means.items())
        lines.append(f"- mean of the last {len(last)} steps, in nats a token: {told}")
    return lines


def _held(text: str) -> str:
    return f"- and held down along running text too: {text}, on which the perplexity says nothing of other text"


def _own(options: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """Which refusals begin behind the model's own answers, where some do: an ablation has to have made it answer."""
    share = options.get("own_share", 0.0)
    if not share or not recipe.get("own_answers", True):
        return ""
    return f", {share:.0%} of the others behind the beginning of the model's own answer under an ablation"


def _table(result: AuditResult) -> str:
    """The rows of an audit, and the command that made it."""
    judge = result.judge
    head = "| method | block | tokens | K | ASR % [95 %] | over-refusal % | perplexity (x) | KL |\n|" + "---|" * 8
    rows = [
        f"| {row.label} | {row.sites} | {row.tokens or '-'} | {row.rank or '-'} | "
        f"{share(row.asr.get(judge), unit='')} | {share(row.over_refusal.get(judge), unit='')} | "
        f"{number(row.perplexity_ratio, 2)} | {estimate(row.kl, 3)} |"
        for row in result.rows
        if row.error is None
    ]
    prompts = result.prompts.get("harmful_test", {})
    said = f"Harmful test prompts: {prompts.get('name')}, n = {prompts.get('n')}; judge `{judge}`; "
    said += f"greedy answers of {result.max_new_tokens} tokens; the merged model."
    command = shlex.join(portable(shlex.split(result.command)))
    return "\n".join((f"    {command}", "", said, "", head, *rows))


def record(folder: Path, run: Path) -> None:
    """Writes the figures of an audit into the card.

    Raises:
        RunError: there is no recipe or no finished audit, or the audit is of another adapter.
    """
    try:
        recipe = durable.read_object(folder / "recipe.json")
    except (OSError, ValueError) as error:
        raise RunError(f"no readable recipe.json in {folder}; expected a folder of `bures harden`") from error
    result = load_result(run)
    adapter = result.options.get("adapter")
    if adapter is None or Path(adapter).resolve() != folder.resolve():
        raise RunError(f"{run} is an audit of {adapter or 'no adapter'}, not of {folder}; give one made with --adapter")
    if result.status != "complete":
        raise RunError(f"the audit in {run} is not finished; give its command again first")
    write_card(folder, recipe, result)
