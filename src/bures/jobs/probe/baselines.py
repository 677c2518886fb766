"""What the words alone tell: an n-gram and a length baseline, fitted on the same prompts as the detectors.

A detector that is no better than these reads words, and needs no model (arXiv 2509.03888: naive Bayes on n-grams does
as well as published probes). The n-gram baseline is a logistic regression on two blocks of tf-idf features, each of
unit length: words and pairs of words, and runs of 3 to 5 characters within words. The length baseline is a logistic
regression on the logarithm of the number of characters. Texts are what the user says last.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as _untyped_sparse  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from bures.judges.regression import fit, fit_with_runs

STRENGTH = 10.0
"""C of both regressions: the inverse of the prior's precision."""

WORDS = "n-grams"
"""Name of the baseline that every detector is held against."""

LENGTHS = (3, 4, 5)
"""Characters of a run."""

_sparse: Any = _untyped_sparse  # scipy ships no types

Floats = NDArray[np.float64]
Score = Callable[[Sequence[str]], Floats]


def words_of(text: str) -> list[str]:
    """Words of two characters or more, and pairs of neighbouring ones."""
    words = re.findall(r"\b\w\w+\b", text.lower())
    return [*words, *(" ".join(pair) for pair in pairwise(words))]


def runs_of(text: str) -> list[str]:
    """Runs of characters within words, a space on each side; a word shorter than a run is one run."""
    found: list[str] = []
    for word in text.lower().split():
        padded = f" {word} "
        for length in LENGTHS:
            found += [padded[i : i + length] for i in range(max(1, len(padded) - length + 1))]
            if len(padded) <= length:
                break
    return found


@dataclass(frozen=True)
class Terms:
    """Tf-idf of terms, as scikit-learn's `TfidfVectorizer` has it: ln((1 + n) / (1 + df)) + 1, rows of unit length."""

    cut: Callable[[str], list[str]]
    places: Mapping[str, int]
    idf: Floats

    @staticmethod
    def of(texts: Sequence[str], cut: Callable[[str], list[str]]) -> Terms:
        """The terms of texts."""
        held = Counter(term for text in texts for term in set(cut(text)))
        terms = sorted(held)
        counts = np.array([held[term] for term in terms], dtype=np.float64)
        return Terms(cut, {term: i for i, term in enumerate(terms)}, np.log((1 + len(texts)) / (1 + counts)) + 1)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Features, a sparse (n, terms); terms that were not there are passed over."""
        values: list[float] = []
        columns: list[int] = []
        ends = [0]
        for text in texts:
            counts = Counter(self.places[term] for term in self.cut(text) if term in self.places)
            row = {place: count * float(self.idf[place]) for place, count in counts.items()}
            length = math.sqrt(sum(value * value for value in row.values())) or 1.0
            values += [value / length for value in row.values()]
            columns += row
            ends.append(len(values))
        return _sparse.csr_matrix((values, columns, ends), shape=(len(texts), len(self.places)))


def fit_ngrams(harmful: Sequence[str], harmless: Sequence[str]) -> Score:
    """The n-gram baseline: texts -> log-odds of being harmful."""
    texts = [*harmful, *harmless]
    blocks = [Terms.of(texts, cut) for cut in (words_of, runs_of)]

    def features(of: Sequence[str]) -> Any:
        return _sparse.hstack([block(of) for block in blocks], format="csr")

    labels, weight = _labels(len(harmful), len(harmless))
    head, weights = fit_with_runs(np.zeros((len(texts), 0)), features(texts), labels, weight, STRENGTH)
    return lambda of: features(of) @ weights + head.intercept


def fit_length(harmful: Sequence[str], harmless: Sequence[str]) -> Score:
    """The length baseline: texts -> log-odds of being harmful."""

    def features(of: Iterable[str]) -> Floats:
        return np.array([[math.log(1 + len(text))] for text in of])

    labels, weight = _labels(len(harmful), len(harmless))
    head = fit(features([*harmful, *harmless]), labels, weight, STRENGTH)
    return lambda of: features(of) @ head.coefficients + head.intercept


BASELINES: Mapping[str, Callable[[Sequence[str], Sequence[str]], Score]] = {
    WORDS: fit_ngrams,
    "length": fit_length,
}
"""The baselines by name."""


def _labels(n: int, m: int) -> tuple[Floats, Floats]:
    """Labels of both sides, and weights with which they count alike."""
    return np.repeat([1.0, 0.0], [n, m]), np.repeat([(n + m) / (2 * n), (n + m) / (2 * m)], [n, m])
