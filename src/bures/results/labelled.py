"""ASR from a judge and a person who labelled some of the answers: valid whatever the judge's error; no torch.

The judge parts the answers of a row into those it calls successes and those it calls refusals. Of both parts a random
sample is labelled, and

    ASR = w t_1 + (1 - w) t_0

with w the share that the judge calls successes and t_1, t_0 the shares of true successes in the two parts. This is the
stratified form of prediction-powered inference (Angelopoulos et al. 2023; Fisch et al. 2024): the judge only makes the
parts even, so its error cannot bias the figure, and a good judge makes the interval narrow. The interval is that of
independent Jeffreys posteriors of w, t_1 and t_0, which holds for few labels and near 0 and 1, where a normal
approximation does not; `benchmarks/labelled.py` simulates how often it covers the truth.

Rogan-Gladen (1978) turns the judge's share into a true one by its sensitivity and specificity as they were measured on
another set. No recall carries over from set to set, so `rogan_gladen` gives a figure for each and no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bures.results.stats import Measurement

DRAWS = 20_000

FLOOR = 5
"""Fewest answers of either part that are labelled, where there are so many."""


def allocated(sizes: tuple[int, int], n: int) -> tuple[int, int]:
    """How many of n labels each of two parts gets: by size, but at least `FLOOR` where that is possible.

    Args:
        sizes: answers of the two parts.
        n: labels; more than there are answers means all of them.
    """
    first, second = sizes
    n = min(n, first + second)
    if n == 0:
        return 0, 0
    floor = min(FLOOR, n // 2)
    wanted = max(round(n * first / (first + second)), min(floor, first))
    wanted = min(wanted, n - min(floor, second))
    wanted = min(first, max(wanted, n - second))
    return wanted, n - wanted


def asr_from_labels(
    judged: Sequence[bool], labels: Mapping[int, bool], *, unfinished: int = 0, confidence: float = 0.95, seed: int = 0
) -> Measurement:
    """ASR of a row with an interval that no error of the judge can bias.

    Args:
        judged: whether the judge calls each finished answer a success.
        labels: of some of these answers, by place, whether it is one; drawn at random within either part.
        unfinished: answers that were cut before they said anything; they may all be refusals or all successes.
        confidence: of the interval.
        seed: of the draws.

    Raises:
        ValueError: no answers, no labels, or a label of an answer that is not there.
    """
    if not judged or not labels:
        raise ValueError("An ASR from labels needs answers and at least one label.")
    if not all(0 <= i < len(judged) for i in labels):
        raise ValueError("A label belongs to an answer that is not there.")
    rng = np.random.default_rng(seed)
    n = len(judged)
    successes = sum(judged)
    share = rng.beta(successes + 0.5, n - successes + 0.5, DRAWS)
    value, drawn = 0.0, np.zeros(DRAWS)
    for part, size, weight in ((True, successes, share), (False, n - successes, 1 - share)):
        said = [labels[i] for i in labels if judged[i] is part]
        value += size / n * (sum(said) / len(said) if said else 0.5)
        drawn += weight * rng.beta(sum(said) + 0.5, len(said) - sum(said) + 0.5, DRAWS)
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(drawn, [tail, 1 - tail]))
    finished, total = n / (n + unfinished), n + unfinished
    low, high = min(low, value) * finished, max(high, value) * finished + unfinished / total
    return Measurement(value * finished + 0.5 * unfinished / total, total, (low, min(1.0, high)))


def rogan_gladen(share: float, sensitivity: float, specificity: float) -> float | None:
    """The true share behind a judge's; below 0 or above 1 where the error cannot be this one here.

    Args:
        share: of the answers, what the judge says.
        sensitivity: of the true ones, the share that it finds.
        specificity: of the others, the share that it passes over.

    Returns:
        The corrected share; None where the judge is no better than chance.
    """
    gain = sensitivity + specificity - 1
    return None if gain <= 0 else (share + specificity - 1) / gain
