"""A defence table that nobody measured, with names that a test chooses."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bures.results.defending import NULL, Attacked, Cost, DefenceResult, Withstood
from bures.results.stats import Measurement

KINDS = ("none", "refitted", "refitted", "iterated", "transferred", "prefilled", NULL)


def made_defence(names: Sequence[str] = ("ours", "control", "before"), *, n: int = 40, text: str = "") -> DefenceResult:
    """A finished table; the first model refuses most. `text` ends names of models, attacks, sets and notes."""
    rng = random.Random(0)
    models = [_model(rng, f"{name}{text}", n, 0.1 + 0.3 * i, text) for i, name in enumerate(names)]
    result = DefenceResult(
        command="bures defend ours=a control=b",
        options={},
        versions={"bures": "0.1.0"},
        model={"name": models[0].name, "fingerprint": "f" * 64},
        prompts={
            name: {"name": f"set{text}", "n": n, "sha256": "0" * 64} for name in ("harmful_test", "harmless_test")
        },
        judge="bures",
        seed=0,
        hashes=[f"{i:064d}" for i in range(n)],
        max_new_tokens=64,
        models=models,
        warnings=[f"They differ{text}."],
        notes=[f"A note{text}."],
    )
    result.conclude()
    result.finish()
    return result


def _model(rng: random.Random, name: str, n: int, answers: float, text: str) -> Withstood:
    attacks: list[Attacked] = []
    for i, kind in enumerate(KINDS):
        share = 0.05 if kind in ("none", NULL) else answers
        marks = "".join("0" if rng.random() < share else "1" for _ in range(n))
        attacks.append(
            Attacked(
                name=f"{kind}-{i}{text}",
                kind=kind,
                refused=marks,
                refused_or_incoherent=marks,
                within_budget=i != 2,
                perplexity_ratio=1.0,
            )
        )
    some = Measurement(1.01, n, (1.0, 1.02))
    return Withstood(
        name=name,
        run=f"runs/{name}",
        model={"name": name, "fingerprint": "f" * 64},
        attacks=attacks,
        refused_harmless={"harmless_test": "0" * (n - 1) + "1", f"set{text}": "1" * 3 + "0" * (n - 3)},
        cost=Cost(perplexity_ratio=some, kl=some, kl_95=some),
        judge_range={"a": 0.2, "b": 0.4, "c": -0.1},
    )
