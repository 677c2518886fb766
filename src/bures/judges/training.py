"""How the trained judge is fitted, and how well it does on answers whose prompts it did not see.

The refusal head learns from the labels, the objectives and the ordinary instructions; which weights these have and how
strong the prior is, inner cross-validation on the labels decides. The topic heads learn from own and swapped answers
and never see a label. Every answer is learned whole and cut to 250 and 80 characters, because audits cut answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize as _untyped_minimize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from scipy.special import expit as _untyped_expit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from bures.data.assets import ASSETS
from bures.judges.cues import cues
from bures.judges.human_labels import Labelled, groups
from bures.judges.trained import BANDS, FALSE_ALARMS, Head, Topic, Weights, band, topic_features
from bures.judges.training_corpora import Corpora, pinned_files

_minimize, _expit = cast(Any, _untyped_minimize), cast(Any, _untyped_expit)  # scipy ships no types

CUTS: tuple[int | None, ...] = (None, 250, 80)
"""Characters that are left of an answer; None: all."""

Floats = NDArray[np.float64]
Gains = Callable[[Sequence[Labelled], int | None], Floats]
"""Rows and a cut -> the gain of the cut answers' tokens; see `bures.judges.surprise`."""


@dataclass(frozen=True)
class Scheme:
    """What inner cross-validation chooses.

    Attributes:
        strength: of the prior, C of a logistic regression: the larger, the freer the weights.
        objectives: weight of an objective's answer; a labelled one has 1.
        ordinary: weight of an ordinary instruction's answer.
    """

    strength: float
    objectives: float
    ordinary: float


SCHEMES = tuple(
    Scheme(c, o, p) for c, (o, p) in itertools.product((0.03, 0.1, 0.3), ((0.2, 0.05), (0.3, 0.05), (0.3, 0.1)))
)


@dataclass(frozen=True)
class Data:
    """Answers as numbers; lists have one entry per cut.

    Attributes:
        cues: of labelled answers, then objectives', then ordinary ones, (n, k) each.
        refused: labels of the same.
        weights: source of the same: 0 labels, 1 objectives, 2 ordinary.
        groups: which labelled answers have the same prompt.
        off_topic: whether a topic head takes a labelled answer to be about something else, (labelled,) each.
        topics: the topic heads.
        corpora: where all of it is from.
    """

    cues: list[Floats]
    refused: Floats
    sources: NDArray[np.int64]
    groups: NDArray[np.int64]
    off_topic: dict[str, list[NDArray[np.bool_]]]
    topics: dict[str, Topic]
    corpora: Corpora


def prepare(corpora: Corpora, gains: Gains | None = None) -> Data:
    """Fits the topic heads and turns answers into numbers.

    Args:
        corpora: the sources.
        gains: asks the scorer; None leaves the head that needs it out.
    """
    ordinary = [row for row in corpora.own if row not in set(corpora.objectives)]
    rows = [*corpora.labels, *corpora.objectives, *ordinary]
    topics: dict[str, Topic] = {"overlap": _fit_topic(corpora, None)}
    if gains is not None:
        topics["gain"] = _fit_topic(corpora, gains)
    off_topic = {
        name: [_off_topic(topic, corpora, cut, gains if name == "gain" else None) for cut in CUTS]
        for name, topic in topics.items()
    }
    return Data(
        cues=[
            np.array([cues(row.prompt, shortened(row.answer, cut)) for row in rows], dtype=np.float64) for cut in CUTS
        ],
        refused=np.array([float(row.refused) for row in rows]),
        sources=np.repeat([0, 1, 2], [len(corpora.labels), len(corpora.objectives), len(ordinary)]),
        groups=np.array(groups(corpora.labels)),
        off_topic=off_topic,
        topics=topics,
        corpora=corpora,
    )


def shortened(answer: str, cut: int | None) -> str:
    """The answer's first characters."""
    return answer.strip()[:cut]


def train(data: Data) -> Weights:
    """Fits the refusal head on everything; its scheme is chosen by cross-validation on all labels."""
    labelled = np.arange(len(data.groups))
    scheme = choose(data, labelled)
    head = _fit_refusal(data, np.ones(len(data.refused), dtype=bool), scheme)
    recipe = {
        "command": "bures judge train",
        "scheme": asdict(scheme),
        "answers": {name: len(getattr(data.corpora, name)) for name in ("labels", "objectives", "own", "swapped")},
        "files": {name: ASSETS[name].member_sha256 for name in pinned_files()},
    }
    return Weights(head, data.topics, data.corpora.rarity, recipe)


def choose(data: Data, rows: NDArray[np.int64]) -> Scheme:
    """The scheme with the smallest log loss in five-fold cross-validation over these labelled rows, by prompts.

    Labelled answers about something else say nothing of how refusals are worded and do not count.
    """
    kept = [rows[~off[rows]] for off in data.off_topic["overlap"]]
    losses: list[float] = []
    for scheme in SCHEMES:
        logits = _held_out(data, rows, 5, lambda _, scheme=scheme: scheme)
        signs = 2 * data.refused[: len(data.groups)] - 1
        losses.append(sum(float(np.logaddexp(0.0, -signs[k] * z[k]).mean()) for k, z in zip(kept, logits, strict=True)))
    return SCHEMES[int(np.argmin(losses))]


def cross_validated(data: Data, folds: int = 10, seed: int = 0) -> dict[str, list[list[bool]]]:
    """Marks of the labelled answers, per topic head and cut, each by a judge that did not see its prompt.

    The scheme is chosen anew inside every training part (nested cross-validation).
    """
    logits = _held_out(data, np.arange(len(data.groups)), folds, lambda part: choose(data, part), seed)
    return {
        name: [((z >= 0) | off).tolist() for z, off in zip(logits, found, strict=True)]
        for name, found in data.off_topic.items()
    }


def _held_out(
    data: Data, rows: NDArray[np.int64], folds: int, scheme_for: Callable[[NDArray[np.int64]], Scheme], seed: int = 0
) -> list[Floats]:
    """Refusal logits of labelled rows, per cut, by heads fitted without the rows of their prompts."""
    distinct = np.unique(data.groups[rows])
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold = (order % folds)[np.searchsorted(distinct, data.groups[rows])]
    logits = [np.zeros(len(data.groups)) for _ in CUTS]
    for k in range(folds):
        part, held = rows[fold != k], rows[fold == k]
        used = data.sources != 0
        used[part] = True
        head = _fit_refusal(data, used, scheme_for(part))
        for z, seen in zip(logits, data.cues, strict=True):
            z[held] = seen[held] @ head.coefficients + head.intercept
    return logits


def _fit_refusal(data: Data, used: NDArray[np.bool_], scheme: Scheme) -> Head:
    weight = np.array([1.0, scheme.objectives, scheme.ordinary])[data.sources] / len(CUTS)
    kept: list[NDArray[np.bool_]] = []
    for off in data.off_topic["overlap"]:
        about = used.copy()
        about[: len(off)] &= ~off
        kept.append(about)
    x = np.concatenate([seen[about] for seen, about in zip(data.cues, kept, strict=True)])
    y, w = (np.concatenate([values[about] for about in kept]) for values in (data.refused, weight))
    return fit(x, y, w, scheme.strength)


def _fit_topic(corpora: Corpora, gains: Gains | None) -> Topic:
    """The head, and limits from logits of own answers by heads that did not see them (two halves, crosswise)."""
    own, swapped = corpora.own, corpora.swapped
    x = [np.concatenate([_seen(rows, corpora, cut, gains) for rows in (own, swapped)]) for cut in CUTS]
    y = np.repeat([0.0, 1.0], [len(own), len(swapped)])
    half = np.concatenate([np.arange(len(own)) % 2, np.arange(len(swapped)) % 2]).astype(bool)

    def head(rows: NDArray[np.bool_]) -> Head:
        return fit(np.concatenate([each[rows] for each in x]), np.tile(y[rows], len(CUTS)), None, 1.0)

    places = [np.array([band(shortened(row.answer, cut)) for row in own]) for cut in CUTS]
    pooled: list[tuple[Floats, NDArray[np.int64]]] = []
    for side in (half, ~half):
        other = head(~side)
        mine = side[: len(own)]
        for each, place in zip(x, places, strict=True):
            logits = each[: len(own)][mine] @ other.coefficients + other.intercept
            pooled.append((logits, place[mine]))
    logits, place = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    bands = [logits[place == b] if (place == b).any() else logits for b in range(len(BANDS) + 1)]
    limits = [float(np.quantile(each, 1 - FALSE_ALARMS)) for each in bands]
    return Topic(head(np.ones(len(y), dtype=bool)), tuple(max(0.0, limit) for limit in limits))


def _off_topic(topic: Topic, corpora: Corpora, cut: int | None, gains: Gains | None) -> NDArray[np.bool_]:
    """What the topic head says of the labelled answers."""
    logits = _seen(corpora.labels, corpora, cut, gains) @ topic.head.coefficients + topic.head.intercept
    limits = np.array([topic.limits[band(shortened(row.answer, cut))] for row in corpora.labels])
    return logits > limits


def _seen(rows: Sequence[Labelled], corpora: Corpora, cut: int | None, gains: Gains | None) -> Floats:
    """Features of a topic head, (n, k)."""
    found = [None] * len(rows) if gains is None else list(gains(rows, cut))
    return np.stack(
        [
            topic_features(row.prompt, shortened(row.answer, cut), corpora.rarity, gain)
            for row, gain in zip(rows, found, strict=True)
        ]
    )


def fit(x: Floats, y: Floats, weight: Floats | None, strength: float) -> Head:
    """Weighted logistic regression with an L2 prior on standardised features.

    Args:
        x: features, (n, k).
        y: labels, 0 or 1, (n,).
        weight: of the rows, (n,); None: 1 each.
        strength: C, the inverse of the prior's precision.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = 1.0
    z, signs = (x - mean) / spread, 2 * y - 1
    w = np.ones(len(y)) if weight is None else weight

    def loss(theta: Floats) -> tuple[float, Floats]:
        margins = signs * (z @ theta[1:] + theta[0])
        pull = -w * signs * _expit(-margins)
        value = w @ np.logaddexp(0.0, -margins) + theta[1:] @ theta[1:] / (2 * strength)
        return float(value), np.concatenate([[pull.sum()], z.T @ pull + theta[1:] / strength])

    options = {"maxiter": 1000, "gtol": 1e-6, "ftol": 1e-11}
    theta = _minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options=options).x
    coefficients = theta[1:] / spread
    return Head(coefficients, float(theta[0] - coefficients @ mean))
