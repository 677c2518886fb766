"""What is said of a probe, in the terminal and on its page."""

from __future__ import annotations

from bures.results.formatting import as_given, brief, estimate, percent
from bures.results.probing import ProbeResult, ProbeRow

_BASELINES = ("n-grams", "length")


def heading(result: ProbeResult, key: str) -> str:
    """Over the table of a pair of sets."""
    harmful, harmless = result.pairs[key if key in result.pairs else "test"]
    moved = f" {key}" if key.startswith("under ") else ""
    return f"{result.model['name']}: {harmful} told from {harmless}{moved}"


def chosen_row(result: ProbeResult) -> ProbeRow | None:
    """The detector that is saved."""
    return next((row for row in result.detectors if row.key == result.chosen), None)


def finding(result: ProbeResult) -> str:
    """The sentence."""
    row = chosen_row(result)
    if row is None:
        return " ".join(result.notes) or "Nothing has been measured yet."
    words = next(each for each in result.detectors if each.key == _BASELINES[0]).told["test"]
    test = row.told["test"]
    at = {cutoff.rate: cutoff for cutoff in test.cutoffs}
    flagged = f"; it flags {brief(at[0.05].flagged_harmful)} of the harmful test prompts at 5%" if 0.05 in at else ""
    return (
        f"{row.detector} at the position {row.position} after block {row.block} tells harmful from harmless prompts "
        f"with an AUROC of {estimate(test.auroc)}, n-grams of the text alone with {estimate(words.auroc)}{flagged}."
    )


def legend(result: ProbeResult) -> list[str]:
    """What one needs to read the tables."""
    row = chosen_row(result)
    how = {
        "selection": "on the selection split",
        "leave-one-source-out": "on the source left out, one at a time, on average",
    }[result.chosen_by]
    n = result.prompts.get("harmless_calibrate", {}).get("n", 0)
    cutoffs = [] if row is None else row.told["test"].cutoffs
    bounds = ", ".join(f"{as_given(each.rate)}: at most {percent(each.highest_rate)}" for each in cutoffs)
    return [
        finding(result),
        f"Blocks, and the detector that is saved (*), were chosen by AUROC {how} (column selection).",
        f"TPR, FPR: shares of the harmful and of the harmless prompts above the threshold, in brackets 95 % intervals. "
        f"Thresholds are conformal quantiles of {n} further harmless prompts"
        + (f"; with 95 % confidence the false-positive rate on prompts like those is {bounds}." if bounds else "."),
        *(["A rate of 1 % takes 99 harmless prompts, 5 % takes 19."] if len(cutoffs) < 2 else []),
        (
            "n-grams, length: what the text alone tells, fitted on the same prompts; over n-grams: the AUROC less "
            "theirs. A detector that is no better reads words."
        ),
        "A score is no probability, no risk of success, and no boundary against an attacker who knows it: triage.",
        *result.notes,
    ]
