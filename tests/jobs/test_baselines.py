"""The n-gram and length baselines against scikit-learn."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from bures.jobs.probe.baselines import LENGTHS, STRENGTH, Terms, fit_length, fit_ngrams, runs_of, words_of
from helpers import scripted, tiny

ODD = ["I a b", "", "Größe, naïve?", "one two two two", "x1 y2-z3 don't", *tiny.PROMPTS]


def dense(features: object) -> Any:
    return cast(Any, features).toarray()


def test_features_are_scikit_learns() -> None:
    oracles: tuple[tuple[Any, Any], ...] = (
        (words_of, TfidfVectorizer(ngram_range=(1, 2))),
        (runs_of, TfidfVectorizer(analyzer="char_wb", ngram_range=(min(LENGTHS), max(LENGTHS)))),
    )
    for cut, oracle in oracles:
        expected = oracle.fit_transform(ODD)
        terms = Terms.of(ODD, cut)
        assert sorted(terms.places) == sorted(oracle.vocabulary_)
        order = [terms.places[term] for term in sorted(oracle.vocabulary_, key=oracle.vocabulary_.__getitem__)]
        np.testing.assert_allclose(terms(ODD).toarray()[:, order], dense(expected), rtol=1e-12)
        fresh = ["unknown zebra", "three rivers of France"]
        np.testing.assert_allclose(terms(fresh).toarray()[:, order], dense(oracle.transform(fresh)), rtol=1e-12)


def test_the_n_gram_baseline_is_scikit_learns() -> None:
    harmful, harmless = scripted.prompts(25, bad=True), scripted.prompts(15, bad=False)
    labels = np.repeat([1, 0], [25, 15])
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2))),
            ("runs", TfidfVectorizer(analyzer="char_wb", ngram_range=(min(LENGTHS), max(LENGTHS)))),
        ]
    ).fit([*harmful, *harmless])
    oracle = LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-10, max_iter=10000)
    oracle.fit(features.transform([*harmful, *harmless]), labels)
    fresh = [*scripted.prompts(10, bad=True, seed=7), *scripted.prompts(10, bad=False, seed=7)]
    expected = oracle.decision_function(features.transform(fresh))
    np.testing.assert_allclose(fit_ngrams(harmful, harmless)(fresh), expected, atol=2e-3)


def test_the_length_baseline_rises_with_what_tells_the_sides_apart() -> None:
    draw = random.Random(0)
    short, long = (["x" * draw.randint(*span) for _ in range(20)] for span in ((5, 30), (25, 90)))
    assert np.all(np.diff(fit_length(long, short)(["x" * n for n in (1, 10, 100)])) > 0)
    assert np.all(np.diff(fit_length(short, long)(["x" * n for n in (1, 10, 100)])) < 0)
    rows = np.log([[1 + len(text)] for text in [*long, *short]])
    labels = np.repeat([1, 0], 20)
    scaled = (rows - rows.mean()) / rows.std()
    oracle = LogisticRegression(C=STRENGTH, tol=1e-10).fit(scaled, labels)
    assert fit_length(long, short)([*long, *short]) == pytest.approx(oracle.decision_function(scaled), abs=1e-3)
