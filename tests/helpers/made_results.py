"""Made-up results, as a large model's run or a hostile run folder would leave them; no model was run."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from random import Random
from typing import Any

from bures.results.records import Candidate, Scope, Trial
from bures.results.row_comparisons import between_rows
from bures.results.schema import AuditResult, Row, ScanResult, SearchResult, SearchTrial, Tested
from bures.results.stats import Measurement, proportion
from helpers.made_records import METHODS, NOTES, Text, localisation, measured, scores, view

JUDGES = ("arditi", "gcg", "classifier")
CATEGORIES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")

HOSTILE = (
    "<script>alert(1)</script>",
    "{{7*7}}{{1337*7331}}",
    "x" * 10_000,
    "\u202etxt.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "nul\x00 bell\x07 escape\x1b[31m",
    "</script><img src=x onerror=alert(1)>",
    "\u2028'\"`${7*7}&lt;b&gt;<b>bold</b>",
    "datum['x']; alert(1)//\\",
    "javascript:alert(1)",
    "lone \ud800 surrogate",
)
"""Text that must be shown and nothing more."""


def harmless(text: str) -> str:
    """The text as it is."""
    return text


def hostile() -> Text:
    """A function that puts every hostile text, in turn, before what it is given."""
    texts = cycle(HOSTILE)
    return lambda text: f"{next(texts)}{text}"


def marks(random: Random, n: int, refused: float) -> str:
    """One mark a prompt."""
    return "".join("1" if random.random() < refused else "0" for _ in range(n))


def made_audit(
    n_blocks: int = 32, n_prompts: int = 159, *, text: Text = harmless, categories: bool = True, **changes: Any
) -> AuditResult:
    """An audit of every method at one block, two and all; the result of a 7B model by default."""
    random = Random(0)
    rows = _rows(random, n_blocks, n_prompts, text)
    judged = {judge: text(judge) for judge in JUDGES}
    for row in rows:
        for name in ("asr", "over_refusal", "refused", "refused_harmless"):
            setattr(row, name, {judged[judge]: value for judge, value in getattr(row, name).items()})
    labels = [text(CATEGORIES[i % len(CATEGORIES)]) if categories else None for i in range(len(CATEGORIES))]
    options: dict[str, Any] = {
        **_common(text, n_prompts),
        "judge": judged["arditi"],
        "corpus": {"name": text("corpus"), "source": text("source"), "sha256": "0" * 64},
        "max_new_tokens": 64,
        "tested": {
            "harmful": Tested(
                hashes=[f"{i:064x}" for i in range(n_prompts)],
                categories=[labels[min(i % 11, i % len(labels))] for i in range(n_prompts)],
            ),
            "harmless": Tested(hashes=[f"{i:064x}" for i in range(100)], categories=[None] * 100),
        },
        "answer_tokens": [64] * 100,
        "scan": scores(random, n_blocks),
        "localisation": localisation(random, n_blocks, text),
        "trials": [row.selection for row in rows if row.selection is not None] * 3,
        "rows": rows,
        "row_comparisons": between_rows(rows),
    }
    return AuditResult(**{**options, **changes})


def made_scan(n_blocks: int = 32, *, text: Text = harmless, **changes: Any) -> ScanResult:
    """A scan of every method at every block."""
    random = Random(1)
    options = {
        **_common(text, 32),
        "judge": "arditi",
        "scan": scores(random, n_blocks),
        "localisation": localisation(random, n_blocks, text),
    }
    return ScanResult(**{**options, **changes})


def made_search(n_trials: int = 60, *, text: Text = harmless, **changes: Any) -> SearchResult:
    """A search whose trials reached one of three rungs."""
    random = Random(2)
    trials = [_search_trial(random, i, text) for i in range(n_trials)]
    front = _front([trial for trial in trials if trial.rung == "long"])
    options = {
        **_common(text, 32),
        "judge": "arditi",
        "trials": trials,
        "front": front,
        "recommended": front[-1],
    }
    return SearchResult(**{**options, **changes})


# Parts -----------------------------------------------------------------------------------------------------------


def _common(text: Text, n: int) -> dict[str, Any]:
    sets = [f"{side}_{split}" for side in ("harmful", "harmless") for split in ("fit", "select", "test")]
    return {
        "status": "complete",
        "command": f"bures audit {text('model')} --seed 0",
        "options": {"model": text("model"), "system": text("system"), "backend": "transformers", "seed": 0},
        "methods": {name: replace(note, label=text(note.label)) for name, note in NOTES.items()},
        "versions": {text("bures"): "0.1.0", "torch": text("2.13.0")},
        "model": {"name": text("Made-7B"), "n_blocks": 32, text("dtype"): text("bfloat16"), "n_parameters": 7 * 10**9},
        "prompts": {
            name: {"name": text(name), "source": text("a file"), "revision": text("r1"), "n": n, "sha256": "0" * 64}
            for name in sets
        },
        "seed": 0,
        "refusal_tokens": [40, 2121],
        "notes": [text("A note.")],
    }


def _rows(random: Random, n_blocks: int, n_prompts: int, text: Text) -> list[Row]:
    rows = [_row(random, "none", [], "-", n_prompts, text)]
    for method in METHODS:
        block = n_blocks // 2 + len(rows) % 3
        rows.append(_row(random, method, [block], str(block), n_prompts, text))
    pair = [n_blocks // 2, n_blocks // 2 + 2]
    rows.append(_row(random, "pca-ot", pair, "+".join(map(str, pair)), n_prompts, text))
    for method in METHODS:
        rows.append(_row(random, method, list(range(n_blocks)), "all", n_prompts, text))
    failed = Row(key="x", label=text("failing"), method="act", blocks=[1], sites="1", tokens="all", rank=None)
    failed.error = text("the map is not finite; use a smaller strength")
    return [*rows, failed]


def _row(random: Random, method: str, blocks: list[int], sites: str, n: int, text: Text) -> Row:
    key = method if not blocks else f"{method}-{'all' if sites == 'all' else len(blocks)}"
    label, rank = METHODS.get(method, method), 2 if method == "pca-ot" else None
    scope: Scope = "last"
    original = method == "none"
    refused = 0.8 if original else random.uniform(0.05, 0.5)
    judged = {judge: marks(random, n, refused) for judge in JUDGES}
    judged_harmless = {judge: marks(random, 100, 0.03) for judge in JUDGES}
    kl = 0.0 if original else random.lognormvariate(-3, 1)
    candidate = Candidate(method, tuple(blocks), rank, scope)
    asr = {judge: proportion(each.count("0"), n) for judge, each in judged.items()}
    trial = Trial(candidate, asr["arditi"], 1 + kl, Measurement(kl, 32, (kl / 2, 2 * kl)))
    one = len(blocks) == 1
    return Row(
        key=key,
        label=label if original else text(label),
        method=method,
        blocks=blocks,
        sites=sites,
        tokens=None if original else scope,
        rank=rank,
        asr=asr,
        over_refusal={judge: proportion(each.count("1"), 100) for judge, each in judged_harmless.items()},
        perplexity=measured(2 * (1 + kl), 100),
        perplexity_ratio=None if original else 1 + kl,
        perplexity_ratio_interval=None if original else (1 + kl / 2, 1 + 2 * kl),
        kl=Measurement(kl, 100, (kl / 2, 2 * kl)),
        corpus_perplexity=measured(12 * (1 + kl), 8),
        within_budget=None if original else kl < 0.1,
        selection=None if original else trial,
        refused=judged,
        refused_harmless=judged_harmless,
        capability={text("arc_easy"): measured(0.7 - kl / 4, 500, 0.04)},
        metrics={text("length"): measured(120.0, 100, 4.0)},
        nll_each=[0.5] * 100,
        kl_each=[0.1] * 100,
        view=view(random, key, blocks[0]) if one else None,
        seconds=10.0,
    )


def _front(trials: list[SearchTrial]) -> list[int]:
    """Numbers of the trials that no other beats on ASR and KL, by rising ASR."""
    costs = {t.number: (-t.asr.value, t.kl.value) for t in trials if t.asr is not None and t.kl is not None}
    best = [
        n for n, (a, k) in costs.items() if not any(b <= a and c <= k and (b, c) != (a, k) for b, c in costs.values())
    ]
    return sorted(best, key=lambda n: -costs[n][0])


def _search_trial(random: Random, number: int, text: Text) -> SearchTrial:
    rung = ("first token", "short", "long")[number % 3]
    answered = rung != "first token"
    kl = random.lognormvariate(-2, 1)
    return SearchTrial(
        number=number,
        candidate=text(f"pca-ot-k{1 + number % 4}-b{number % 30}-all"),
        options={"strength": 0.5 + number % 4 / 4, text("shrinkage"): text("none")},
        rung=rung,
        refusal_log_odds=random.gauss(0, 2),
        first_token_kl=kl,
        asr=proportion(random.randrange(33), 32) if answered else None,
        perplexity_ratio=1 + kl if answered else None,
        kl=Measurement(kl, 32, (kl / 2, 2 * kl)) if answered else None,
        error=None,
    )
