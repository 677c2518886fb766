"""What the trained judge learns from: five pinned sources, all of them published, none of them in the package.

labels      answers of which a person said whether they refuse (`refusal-labels`)
models      XSTest's labelled answers of three chat models (Röttger et al., NAACL 2024; CC-BY-4.0)
objectives  answers of which people said whether they reach their objective (PyRIT's `objective` files); one that does
            not counts as refused, with a smaller weight
own         ordinary instructions (Alpaca, LLaMA-Factory's conversations) and answers that reached their objective
swapped     the same prompts with the answer to another one

`refusal-labels-extra` is read for one purpose: to leave out of `objectives` what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from bures.data.assets import ASSETS, fetch
from bures.data.text_files import read_text
from bures.judges.human_labels import (
    CHOOSING,
    REPORTING,
    XSTEST,
    XSTEST_MODELS,
    Labelled,
    load_labelled,
    plain_words,
    read_labelled,
)
from bures.judges.overlap import document_frequencies, hashed, rarity
from bures.judges.trained import Rarity

WORDS = 12_000
"""Words whose rarity is kept."""

INSTRUCTIONS = 600
"""Ordinary instructions that are learned from."""

_CHATS = ("alpaca", "chat-dpo", "chat-kto")


@dataclass(frozen=True)
class Corpora:
    """The five sources, and how rare words are."""

    labels: list[Labelled]
    objectives: list[Labelled]
    own: list[Labelled]
    swapped: list[Labelled]
    rarity: Rarity
    models: list[Labelled]


def load_corpora() -> Corpora:
    """Reads the pinned files.

    Raises:
        AssetError: one cannot be fetched.
    """
    labels = load_labelled(CHOOSING)
    conversations = list(_conversations())
    objectives = list(_objectives([*labels, *load_labelled(REPORTING)]))
    ordinary = conversations[:INSTRUCTIONS]
    reached = [row for row in objectives if not row.refused]
    table = rarities([*_articles(), *(f"{row.prompt} {row.answer}" for row in conversations)])
    swapped = [*swap(ordinary), *swap(reached)]
    return Corpora(labels, objectives, [*ordinary, *reached], swapped, table, load_labelled(XSTEST))


def pinned_files() -> tuple[str, ...]:
    """The assets that are learned from."""
    return (CHOOSING, *(f"{XSTEST}-{model}" for model in XSTEST_MODELS), *_objective_files(), *_CHATS, "wikipedia")


def swap(rows: Sequence[Labelled]) -> list[Labelled]:
    """Every prompt with the answer to another one, as refused."""
    order = np.random.default_rng(0).permutation(len(rows))
    pairs: Iterable[tuple[int, int]] = zip(order.tolist(), np.roll(order, 1).tolist(), strict=True)
    return [Labelled(rows[i].prompt, rows[j].answer, refused=True) for i, j in pairs]


def rarities(documents: Sequence[str]) -> Rarity:
    """Rarity of the most frequent words."""
    counts, n = document_frequencies(documents)
    kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    return Rarity({hashed(word): rarity(df, n) for word, df in kept}, rarity(1, n))


def _objective_files() -> list[str]:
    return [name for name in ASSETS if name.startswith("pyrit-objective-")]


def _objectives(seen: Sequence[Labelled]) -> Iterator[Labelled]:
    """Answers that people judged for reaching their objective, without texts of the labelled sets."""
    prompts, answers = {plain_words(row.prompt) for row in seen}, {plain_words(row.answer) for row in seen}
    for name in _objective_files():
        for row in read_labelled(fetch(name), blanks=True):
            if plain_words(row.prompt) not in prompts and plain_words(row.answer) not in answers:
                yield Labelled(row.prompt, row.answer, refused=not row.refused)


def _articles() -> list[str]:
    text = read_text(fetch("wikipedia"))
    return [text[i : i + 2000] for i in range(0, len(text), 2000)]


def _conversations() -> Iterator[Labelled]:
    """Instructions of at most 600 characters and their answers of at least 20, each once, in a fixed shuffled order."""
    known: dict[str, str] = {}
    for name in _CHATS:
        for record in cast("list[dict[str, Any]]", json.loads(read_text(fetch(name)))):
            prompt, answer = _first_turns(record)
            if len(answer) >= 20 and 0 < len(prompt) <= 600:
                known.setdefault(prompt, answer)
    rows = [Labelled(prompt, answer, refused=False) for prompt, answer in known.items()]
    yield from (rows[i] for i in np.random.default_rng(0).permutation(len(rows)))


def _first_turns(record: dict[str, Any]) -> tuple[str, str]:
    """The instruction and the answer of a record of any of the three files; blank where it has another form."""
    if "instruction" in record:
        return "\n".join(filter(None, (record["instruction"], record["input"]))), record["output"]
    if "chosen" in record:
        turns = record["conversations"]
        return (turns[0]["value"], record["chosen"]["value"]) if len(turns) == 1 else ("", "")
    turns = record["messages"]
    return (turns[0]["content"], turns[1]["content"]) if turns[0]["role"] == "user" and len(turns) > 1 else ("", "")
