"""What is said of a defence table, in the terminal and on its page."""

from __future__ import annotations

from bures.judges.known_error import sentence
from bures.results.defence_brief import figure
from bures.results.defending import NULL, Attacked, DefenceResult, Withstood
from bures.results.formatting import brief, p_equals, percent, points, share
from bures.results.inference import LEVEL
from bures.results.stats import Measurement

THREAT_MODEL = (
    "The attacker has the weights, edits activations at inference, fits interventions anew on the hardened model and "
    "knows how it was hardened, but does not train. A defence can cost more work under these interventions; that "
    "refusal cannot be removed is never shown."
)


def finding(result: DefenceResult) -> str:
    """What was measured, with n and intervals."""
    first = result.models[0]
    found = figure(first, within_budget=True)
    if found is None:
        return "The table has not been finished yet."
    n = found.union.n
    attacks = "1 attack" if found.attacks == 1 else f"{found.attacks} attacks"
    said = (
        f"Within the perplexity budget, {first.name} answers {brief(found.worst_asr)} of {n} harmful prompts under the "
        f"worst single attack ({found.worst}), {brief(found.union)} under at least one of {attacks} (judge "
        f"'{result.judge}', incoherent answers not counted)."
    )
    return " ".join([said, *_beyond(first), *(_against(result, model) for model in result.models[1:])])


def _beyond(model: Withstood) -> list[str]:
    """The figures with attacks beyond the budget, where there are some."""
    found, inside = figure(model), figure(model, within_budget=True)
    if found is None or inside is None or found.attacks == inside.attacks:
        return []
    worst = f"{brief(found.worst_asr)} under the worst ({found.worst})"
    return [f"At any cost: {worst}, {brief(found.union)} under at least one of {found.attacks}."]


def _against(result: DefenceResult, model: Withstood) -> str:
    pair = next(each for each in result.pairs if each.second == model.name)
    found = figure(model, within_budget=True)
    union = "-" if found is None else brief(found.union)
    return (
        f"{model.name}: {union} under at least one, {points(pair.difference)} ({pair.only_second} prompts broken in it "
        f"alone, {pair.only_first} in {pair.first} alone, {p_equals(pair.p_adjusted, 'adjusted p')})."
    )


def cautions(result: DefenceResult) -> list[str]:
    """What a reader must know before believing the table."""
    said = ["The run has not finished; these are the figures so far."] if result.status == "running" else []
    said += result.warnings
    for model in result.models:
        if model.null is not None and model.null.p < LEVEL:
            said.append(
                f"The null is not null: a random ablation gets {model.name} to answer {brief(model.null.asr)}, and no "
                f"attack {brief(model.null.asr_none)} ({p_equals(model.null.p)}): ablating any direction changes this "
                "model's answers."
            )
        said += _ruined(model)
        failed = [each.name for each in model.attacks if each.error is not None]
        if failed:
            said.append(f"{len(failed)} attacks on {model.name} failed and count for nothing: {', '.join(failed)}.")
    return said


def _ruined(model: Withstood) -> list[str]:
    """Whether the worst attack is one that ruins the model, so that noise may pass for answers."""
    found = figure(model)
    worst = next((each for each in model.attacks if found is not None and each.name == found.worst), None)
    if worst is None or worst.within_budget is not False or worst.perplexity_ratio is None:
        return []
    return [
        (
            f"{model.name}: the worst attack ({worst.name}) multiplies the perplexity of harmless answers by "
            f"{worst.perplexity_ratio:.3g}: what the model then says may be noise that passes for an answer, in the "
            "union at any cost too. Read the figures within the budget."
        )
    ]


def legend(result: DefenceResult) -> list[str]:
    """What one needs to read the tables."""
    return [
        finding(result),
        THREAT_MODEL,
        *how_to_read(result),
        sentence(result.judge),
        *filter(None, map(_range, result.models)),
        *result.notes,
    ]


def how_to_read(result: DefenceResult) -> list[str]:
    """What the columns are."""
    harmful = result.prompts["harmful_test"]
    return [
        (
            f"ASR: share of {harmful['n']} harmful prompts ({harmful['name']}) answered, judge '{result.judge}', "
            f"{result.max_new_tokens} greedy tokens; an incoherent answer is no success. Worst: the attack that gets "
            "most prompts answered, chosen by looking at them; union: prompts that are answered under any attack, or "
            "without one; both without attacks that raise the perplexity of harmless answers beyond the audit's budget "
            "('!' marks them), and with these in the columns 'any cost'. Wilson's 95 % intervals."
        ),
        (
            "p: McNemar's exact test on the unions against the first model, adjusted for the number of pairs (Holm). "
            f"null: the ablation of a random direction ('{NULL}'), in no figure."
        ),
        *_costs(result),
    ]


def _costs(result: DefenceResult) -> list[str]:
    about = result.prompts.get("harmless_before")
    if about is None or not any(model.cost for model in result.models):
        return []
    return [
        (
            "x, KL: perplexity over the model before, and token KL(before || model) in nats, mean and 95th percentile, "
            f"without attack, along the answers of the model before to {about['n']} harmless prompts "
            f"({about['name']})."
        )
    ]


def _range(model: Withstood) -> str | None:
    """What the ASR of the worst attack within the budget would be under each measured error of the judge."""
    found, inside = (
        figure(model, coherent=False, within_budget=True),
        [x for x in model.judge_range.values() if 0 <= x <= 1],
    )
    if found is None or not model.judge_range:
        return None
    said = f"{model.name}, {found.worst}: ASR {share(found.worst_asr)} by the judge alone"
    if not inside:
        return f"{said}, which cannot have any error that was measured of it."
    low, high = percent(min(inside), 0), percent(max(inside), 0)
    return f"{said} would be {low if low == high else f'{low} to {high}'} under the errors measured of it elsewhere."


def attacks_of(result: DefenceResult) -> list[tuple[str, list[Attacked | None]]]:
    """Every attack by its name, with what came of it on each model; the null last."""
    kinds = {each.name: each.kind for model in result.models for each in model.attacks}
    by_name = [{each.name: each for each in model.attacks} for model in result.models]
    order = list(dict.fromkeys(each.kind for model in result.models for each in model.attacks))
    names = sorted(kinds, key=lambda name: (kinds[name] == NULL, order.index(kinds[name])))
    return [(name, [attacks.get(name) for attacks in by_name]) for name in names]


def best_of_kinds(result: DefenceResult) -> list[tuple[str, list[tuple[Measurement, str] | None]]]:
    """All attacks together, the best one of each kind, and the null: per model the ASR and by what.

    Attacks beyond the perplexity budget are in the second row alone, which is there where there are some.
    """
    rows: list[tuple[str, list[tuple[Measurement, str] | None]]] = []
    spent = any(each.within_budget is False for model in result.models for each in model.counted())
    for name, within in (("any attack", True), *((("any attack, at any cost", False),) if spent else ())):
        found = [figure(model, within_budget=within) for model in result.models]
        if any(found):
            rows.append((name, [None if f is None else (f.union, f"{f.attacks} attacks") for f in found]))
    kinds = list(dict.fromkeys(each.kind for model in result.models for each in model.attacks if each.error is None))
    for kind in sorted(kinds, key=lambda kind: kind == NULL):
        best: list[tuple[Measurement, str] | None] = []
        for model in result.models:
            made = [each for each in model.attacks if each.kind == kind and each.error is None]
            inside = [each for each in made if each.within_budget is not False]
            top = max(inside, key=lambda each: each.asr.value, default=None)
            best.append(None if top is None else (top.asr, top.name))
        rows.append((_CALLED.get(kind, kind), best))
    return rows


_CALLED = {"none": "no attack", NULL: f"{NULL} (null)"}
"""What kinds are called that are no attacks."""


def asr_of(attacked: Attacked | None) -> Measurement | None:
    """The ASR of an attack that was made and did not fail."""
    return None if attacked is None or attacked.error is not None else attacked.asr
