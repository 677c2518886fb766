"""What things are called on a page, and what the jargon means, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bures.judges.known_error import sentence
from bures.report.kit.charts import BASELINE, Style, style
from bures.report.kit.text import named
from bures.results.formatting import percent
from bures.results.records import BlockRange, Candidate, Localisation, MethodNote, open_ends
from bures.results.schema import Row, RunResult
from bures.results.stats import Measurement

NO_INTERVENTION = "no intervention"
"""What the model as it is is called among the methods."""

PHRASE_JUDGES = frozenset({"arditi", "gcg"})
"""Judges that look for phrases, and know nothing else."""

PHRASES_ONLY = (
    "The judge looks for refusal phrases and reads nothing else: nonsense counts as an answer, so ASR is an upper "
    "bound on harm."
)
"""What a reader of their figures is told."""

TOKENS: Mapping[str, str] = {
    "all": "all tokens",
    "prompt": "prompt tokens",
    "last": "last prompt token",
    "generated": "generated tokens",
}

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "ASR",
        "Attack success rate: the share of harmful prompts that the model answers instead of refusing. Lower is safer.",
    ),
    ("over-refusal", "The share of harmless prompts that the model refuses."),
    (
        "[low, high]",
        "A 95% interval: where the true share plausibly lies, given how few prompts there are. n is their number.",
    ),
    (
        "intervention",
        (
            "A change of the model's internal activations while it runs; the weights stay as they are. It takes "
            "access to the weights, as anyone has who downloads an open-weight model."
        ),
    ),
    (
        "block, depth",
        "The model is a stack of blocks, numbered from 0. A depth of 50% is the output of the block half-way up.",
    ),
    (
        "perplexity, ×",
        (
            "How surprised the altered model is by the original's own harmless answers; × is that over the original's "
            "surprise. 1.00 means no damage; a little below 1, that short greedy answers have become more certain."
        ),
    ),
    (
        "perplexity budget",
        (
            "How far × may rise before an intervention counts as having damaged the model, measured on the selection "
            "prompts."
        ),
    ),
    ("KL", "How far the altered model's next-token probabilities are from the original's, in nats. 0 means the same."),
    (
        "fit, selection, test",
        (
            "Three disjoint sets of prompts: interventions are fitted on the first, chosen on the second and reported "
            "on the third."
        ),
    ),
    (
        "judge",
        (
            "What decides whether an answer is a refusal. 'bures' is a small trained reader; 'arditi' and 'gcg' are "
            "published lists of phrases to look for."
        ),
    ),
    (
        "coherent",
        "The same ASR, where an empty answer, noise or a phrase that goes round and round is no success either.",
    ),
    (
        "tokens",
        (
            "Which tokens an intervention moves: all of prompt and answer, those of the prompt, its last one, or those "
            "that are generated."
        ),
    ),
    (
        "unfinished",
        "An answer that was cut before it said anything: neither refusal nor success.",
    ),
    ("RFA", "Refusal feature ablation: removes one direction, the gap between the mean activations of both sides."),
    ("Mean-AcT", "Adds the gap between the mean activations of both sides."),
    ("Linear-AcT", "Moves every coordinate by its own straight line, from the harmful side's values to the harmless."),
    (
        "PCA-OT, K",
        (
            "Optimal transport: moves the cloud of harmful activations onto the harmless one, along their K strongest "
            "directions of variation."
        ),
    ),
    ("AUROC", "How well harmful and harmless prompts can be told apart: 0.5 is chance, 1 is perfect."),
    (
        "Pareto front",
        "The interventions that no other one beats on both counts, more answers and less damage.",
    ),
    (
        "McNemar's test",
        "Compares two interventions prompt by prompt; a small p means that chance alone hardly makes the difference.",
    ),
)
"""One line a word, for a reader who does not know the field."""


def method_style(method: str, notes: Mapping[str, MethodNote]) -> Style:
    """How a method looks, the same on every chart."""
    if method == "none":
        return BASELINE
    return style(notes[method].order if method in notes else -1)


def is_baseline(method: str, notes: Mapping[str, MethodNote]) -> bool:
    """Whether a method is there for the others to be held against."""
    return method not in notes or notes[method].baseline


def method_name(method: str, notes: Mapping[str, MethodNote]) -> str:
    """A method's name."""
    if method == "none":
        return NO_INTERVENTION
    return named(notes[method].label if method in notes else method, 40)


def model_name(result: RunResult, longest: int = 80) -> str:
    """The model's name, fit to stand in a sentence."""
    return named(result.model.get("name", "unnamed model"), longest)


def interval_and_n(m: Measurement) -> str:
    """`95% interval 87–100%, n = 40`, for under a share; n alone where there is no interval."""
    n = f"n\u00a0=\u00a0{m.n}"
    if m.interval is None:
        return n
    low, high = m.interval
    return f"95% interval {percent(low, 0, '')}–{percent(high, 0)}, {n}"


def prompts(n: int, what: str) -> str:
    """`40 harmful prompts`."""
    return f"{n} {what} prompt" + ("" if n == 1 else "s")


def with_rank(name: str, rank: int | None) -> str:
    """`PCA-OT K=2`."""
    return name if rank is None else f"{name} K={rank}"


def row_name(row: Row) -> str:
    """`PCA-OT K=2`, or what the row without one is called."""
    return NO_INTERVENTION if row.method == "none" else with_rank(named(row.label, 40), row.rank)


def row_where(row: Row) -> str:
    """`block 21`; empty for the model as it is."""
    if not row.blocks:
        return ""
    where = "all blocks" if row.sites == "all" else named(row.sites.removeprefix("all, "), 40)
    if where.isdigit():
        where = f"block {where}"
    elif where.replace("+", "").isdigit():
        where = f"blocks {where}"
    return where


def row_place(row: Row) -> str:
    """`block 21, last prompt token`; empty for the model as it is."""
    tokens = "" if row.tokens is None else TOKENS.get(row.tokens, named(row.tokens, 20))
    return ", ".join(filter(None, (row_where(row), tokens)))


def one_block(row: Row) -> bool:
    """Whether the row's intervention is one map after one block."""
    return row.sites.isdigit()


def row_title(row: Row) -> str:
    """`PCA-OT K=2 at block 21, last prompt token`."""
    place = row_place(row)
    return f"{row_name(row)} at {place}" if place else row_name(row)


def candidate_title(candidate: Candidate, notes: Mapping[str, MethodNote]) -> str:
    """As `row_title`, of a candidate."""
    blocks = candidate.blocks
    if candidate.sites:
        where = f"three sites of every block (from block {blocks[0]})"
    elif len(blocks) == 1:
        where = f"block {blocks[0]}"
    elif len(blocks) <= 2:
        where = "blocks " + "+".join(map(str, blocks))
    else:
        where = f"{len(blocks)} blocks ({blocks[0]}–{blocks[-1]})"
    return f"{with_rank(method_name(candidate.method, notes), candidate.rank)} at {where}, {TOKENS[candidate.tokens]}"


def block_range(blocks: BlockRange, n_blocks: int) -> str:
    """`blocks 13–21 of 30`."""
    first, last = blocks
    return f"block {first} of {n_blocks}" if first == last else f"blocks {first}–{last} of {n_blocks}"


def scanned_words(found: Localisation) -> str:
    """`blocks 11–29 of 30`: those that were scanned; empty where all were."""
    scanned = found.scanned
    if not scanned or len(scanned) >= found.n_blocks:
        return ""
    some = f"{len(scanned)} of " if len(scanned) < scanned[-1] - scanned[0] + 1 else ""
    return some + block_range(BlockRange(scanned[0], scanned[-1]), found.n_blocks)


def beyond(found: Localisation) -> str:
    """`, it may begin before`: what of the range where refusal is decided may lie outside of what was scanned."""
    if found.decided is None or not found.scanned:
        return ""
    before, behind = open_ends(found.decided, found.scanned, found.n_blocks)
    return (", it may begin before" if before else "") + (", it may end behind" if behind else "")


def judge_words(judge: str) -> str:
    """`judge 'arditi' (refusal phrases)`."""
    kind = " (refusal phrases)" if judge in PHRASE_JUDGES else ""
    return f"judge '{named(judge, 40)}'{kind}"


def judge_error(judge: str) -> str:
    """What is known of the judge's error, for under a table."""
    return named(sentence(judge), 600)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def tip(title: str, *lines: str) -> str:
    """The text of a tooltip: a title, and further lines where there are any."""
    return "\n".join([title, *(line for line in lines if line)])


def padded(values: Iterable[float], *, pad: float = 0.05) -> tuple[float, float]:
    """The lowest and the highest of some numbers with a margin between them and the ends; never empty."""
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    margin = pad * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin
