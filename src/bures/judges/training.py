"""How the trained judge is fitted, and how well it does on answers whose prompts or models it did not see.

The refusal head learns from the labels, the labelled models, the objectives and the ordinary instructions; how strong
its prior is, the loss on models that are left out decides. Partial refusals teach it nothing: a head of their own tells
them from refusals. The topic heads learn from own and swapped answers and never see a label. Every answer is learned
whole and cut to 250 and 80 characters, because audits cut answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as _untyped_sparse  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from bures.data.assets import ASSETS
from bures.judges import wording
from bures.judges.cues import NAMES, cues_of, read
from bures.judges.human_labels import Labelled, groups
from bures.judges.overlap import words
from bures.judges.regression import Floats, fit, fit_with_runs
from bures.judges.trained import BANDS, FALSE_ALARMS, Head, Rarity, Topic, Weights, Wording, band, topic_features
from bures.judges.training_corpora import Corpora, pinned_files

_sparse = cast(Any, _untyped_sparse)

CUTS: tuple[int | None, ...] = (None, 250, 80)
"""Characters that are left of an answer; None: all."""

STRENGTHS = (0.03, 0.1)
"""Of the prior, C of a logistic regression: the larger, the freer the weights; one is chosen."""

LABELS, OBJECTIVES, ORDINARY, MODELS = range(4)
"""Where an answer is from."""

WEIGHTS = (1.0, 0.2, 0.1, 1.0)
"""What an answer of each source counts."""

PARTIAL_STRENGTH = 0.01
"""Of the prior of the head for partial refusals, which has few to learn from."""

Gains = Callable[[Sequence[Labelled], int | None], Floats]
"""Rows and a cut -> the gain of the cut answers' tokens; see `bures.judges.surprise`."""
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Data:
    """Answers as numbers; lists have one entry per cut.

    Attributes:
        cues: of labelled answers, then objectives', ordinary ones and models', (n, k) each.
        runs: of the same, sparse, (n, buckets) each.
        refused: labels of the same.
        partial: which of them refuse in part.
        sources: of the same: `LABELS` to `MODELS`.
        model: which model answered; empty where that is unknown.
        groups: which labelled answers have the same prompt.
        off_topic: whether a topic head takes a labelled answer to be about something else, (labelled,) each.
        topics: the topic heads.
        corpora: where all of it is from.
    """

    cues: list[Floats]
    runs: list[Any]
    refused: Floats
    partial: Rows
    sources: NDArray[np.int64]
    model: NDArray[Any]
    groups: NDArray[np.int64]
    off_topic: dict[str, list[Rows]]
    topics: dict[str, Topic]
    corpora: Corpora


def prepare(corpora: Corpora, gains: Gains | None = None) -> Data:
    """Fits the topic heads and turns answers into numbers.

    Args:
        corpora: the sources.
        gains: asks the scorer; None leaves the head that needs it out.
    """
    ordinary = [row for row in corpora.own if row not in set(corpora.objectives)]
    parts = (corpora.labels, corpora.objectives, ordinary, corpora.models)
    rows = [row for part in parts for row in part]
    topics: dict[str, Topic] = {"overlap": _fit_topic(corpora, None)}
    if gains is not None:
        topics["gain"] = _fit_topic(corpora, gains)
    off_topic = {
        name: [_off_topic(topic, corpora, cut, gains if name == "gain" else None) for cut in CUTS]
        for name, topic in topics.items()
    }
    sentences = [[read(shortened(row.answer, cut)) for row in rows] for cut in CUTS]
    return Data(
        cues=[np.array([cues_of(row.prompt, s) for row, s in zip(rows, each, strict=True)]) for each in sentences],
        runs=[_runs(rows, each, corpora.rarity) for each in sentences],
        refused=np.array([float(row.refused) for row in rows]),
        partial=np.array([row.partial for row in rows]),
        sources=np.repeat(np.arange(4), [len(part) for part in parts]),
        model=np.array([row.model for row in rows]),
        groups=np.array(groups(corpora.labels)),
        off_topic=off_topic,
        topics=topics,
        corpora=corpora,
    )


def shortened(answer: str, cut: int | None) -> str:
    """The answer's first characters."""
    return answer.strip()[:cut]


def train(data: Data) -> Weights:
    """Fits the refusal head on everything; its prior is chosen by the models that are left out."""
    strength = choose(data, _models(data))
    head = _fit_refusal(data, np.ones(len(data.refused), dtype=bool), strength)
    names = ("labels", "models", "objectives", "own", "swapped")
    recipe = {
        "command": "bures judge train",
        "strength": strength,
        "answers": {name: len(getattr(data.corpora, name)) for name in names},
        "files": {name: ASSETS[name].member_sha256 for name in pinned_files()},
        "licences": {name: ASSETS[name].licence for name in pinned_files()},
        "attribution": "XSTest (Röttger et al., NAACL 2024), CC-BY-4.0; PyRIT (Microsoft), MIT",
    }
    return Weights(head, data.topics, data.corpora.rarity, recipe)


def choose(data: Data, models: Sequence[str]) -> float:
    """The strength with the smallest log loss on the answers of each of these models, by heads that did not see it.

    Answers of models that are not named are not seen either; where fewer than two are named, the middle one is taken.
    """
    if len(models) < 2:
        return STRENGTHS[len(STRENGTHS) // 2]
    named = (data.sources != MODELS) | np.isin(data.model, list(models))
    losses: list[float] = []
    for strength in STRENGTHS:
        loss = 0.0
        for model in models:
            head = _fit_refusal(data, named & (data.model != model), strength)
            held = (data.model == model) & ~data.partial
            signs = 2 * data.refused[held] - 1
            loss += sum(float(np.logaddexp(0.0, -signs * z[held]).mean()) for z in _logits(data, head))
        losses.append(loss)
    return STRENGTHS[int(np.argmin(losses))]


def cross_validated(data: Data, folds: int = 10, seed: int = 0) -> dict[str, list[list[bool]]]:
    """Marks of the labelled answers, per topic head and cut, each by a judge that did not see its prompt.

    The strength is chosen on the models, which are another set.
    """
    strength = choose(data, _models(data))
    distinct = np.unique(data.groups)
    order = np.random.default_rng(seed).permutation(len(distinct))
    fold = (order % folds)[np.searchsorted(distinct, data.groups)]
    logits = [np.zeros(len(data.groups)) for _ in CUTS]
    for k in range(folds):
        used = np.ones(len(data.refused), dtype=bool)
        used[: len(fold)] = fold != k
        for z, found in zip(logits, _logits(data, _fit_refusal(data, used, strength)), strict=True):
            z[fold == k] = found[: len(fold)][fold == k]
    return {
        name: [((z >= 0) | off).tolist() for z, off in zip(logits, found, strict=True)]
        for name, found in data.off_topic.items()
    }


def left_out(data: Data, model: str) -> Weights:
    """A judge that saw no answer of a model, whose prior was chosen without it too."""
    others = [name for name in _models(data) if name != model]
    head = _fit_refusal(data, data.model != model, choose(data, others))
    return Weights(head, data.topics, data.corpora.rarity, {})


def _models(data: Data) -> list[str]:
    return sorted({str(name) for name in data.model[data.sources == MODELS]})


def _runs(rows: Sequence[Labelled], sentences: Sequence[list[str]], rarity: Rarity) -> Any:
    found = [
        wording.runs(words(row.prompt), each, rarity.idf, rarity.unknown)
        for row, each in zip(rows, sentences, strict=True)
    ]
    ends = np.cumsum([0, *(len(each) for each in found)])
    values = np.concatenate([np.full(len(each), wording.weight(len(each))) for each in found])
    return _sparse.csr_matrix((values, np.concatenate(found), ends), shape=(len(rows), wording.BUCKETS))


def _logits(data: Data, head: Wording) -> list[Floats]:
    """Refusal logits of everything, per cut."""
    return [
        seen @ head.cues.coefficients + head.cues.intercept + runs @ head.runs.astype(np.float64)
        for seen, runs in zip(data.cues, data.runs, strict=True)
    ]


def _fit_refusal(data: Data, used: Rows, strength: float) -> Wording:
    """The head, without labelled answers about something else, which say nothing of how refusals are worded."""
    weight = np.array(WEIGHTS)[data.sources] / len(CUTS)
    kept: list[Rows] = []
    for off in data.off_topic["overlap"]:
        about = used & ~data.partial
        about[: len(off)] &= ~off
        kept.append(about)
    x = np.concatenate([seen[about] for seen, about in zip(data.cues, kept, strict=True)])
    runs = _sparse.vstack([seen[about] for seen, about in zip(data.runs, kept, strict=True)]).tocsr()
    y, w = (np.concatenate([values[about] for about in kept]) for values in (data.refused, weight))
    head, of_runs = fit_with_runs(x, runs, y, w, strength)
    return Wording(head, of_runs.astype(np.float32), _fit_partial(data, used))


def _fit_partial(data: Data, used: Rows) -> Head:
    """Partial refusals against other refusals, of models; one that never says so where there is none."""
    kept = used & (data.sources == MODELS) & (data.refused == 1)
    if not data.partial[kept].any():
        return Head(np.zeros(len(NAMES)), -1.0)
    x = np.concatenate([seen[kept] for seen in data.cues])
    return fit(x, np.tile(data.partial[kept].astype(np.float64), len(CUTS)), None, PARTIAL_STRENGTH)


def _fit_topic(corpora: Corpora, gains: Gains | None) -> Topic:
    """The head, and limits from logits of own answers by heads that did not see them (two halves, crosswise)."""
    own, swapped = corpora.own, corpora.swapped
    x = [np.concatenate([_seen(rows, corpora, cut, gains) for rows in (own, swapped)]) for cut in CUTS]
    y = np.repeat([0.0, 1.0], [len(own), len(swapped)])
    half = np.concatenate([np.arange(len(own)) % 2, np.arange(len(swapped)) % 2]).astype(bool)

    def head(rows: Rows) -> Head:
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


def _off_topic(topic: Topic, corpora: Corpora, cut: int | None, gains: Gains | None) -> Rows:
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
