"""Prompt sets with a provenance: where the prompts come from, at which revision, with which checksum.

A `PromptSet` is frozen. Two sets are compared by the hashes of their prompts, so that splits used for fitting,
selecting and testing are proved disjoint without anybody reading them. Pinned sets are fetched by `bures.data.assets`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast, overload

from bures.data.assets import ASSETS
from bures.data.conversations import Prompt, asked, hashed_text, plain, prompts_of
from bures.data.corpora import CORPORA, Corpus, load_corpus
from bures.data.home import expanded
from bures.data.pinned_sets import N_BUCKETS, PARTS, SPLIT, assets_of, pinned_rows
from bures.data.prompt_files import (
    CATEGORY_COLUMNS,
    OTHERS,
    PROMPT_COLUMNS,
    SUFFIXES,
    read_file,
    read_hub,
)
from bures.data.text_files import read_bytes
from bures.errors import PromptError

__all__ = [
    "CATEGORY_COLUMNS",
    "CORPORA",
    "PARTS",
    "PROMPT_COLUMNS",
    "SPLIT",
    "Corpus",
    "PromptSet",
    "load_corpus",
    "load_prompts",
    "prompt_hash",
    "require_disjoint",
]

SMALLEST_TO_SHARE = 20
"""Fewest prompts of a source whose shares `#fit`, `#select` and `#test` may be loaded."""


def prompt_hash(prompt: Prompt) -> str:
    """SHA-256 (hex) of a prompt, blind to letter case, Unicode composition, and the amount and kind of whitespace."""
    return hashlib.sha256(hashed_text(prompt).encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class PromptSet(Sequence[Prompt]):
    """Prompts in order, with their provenance.

    A prompt is a string, one turn of the user, or a conversation that ends with one; lists of messages are taken for
    conversations. `categories` has one entry per prompt (None: no category); leaving it out means no categories at all.
    A prompt whose hash occurred before is dropped and counted in `n_duplicates`; `n_incomplete` counts the rows that
    the loader left out because they lean on a context column. Raises `PromptError` for an empty set, a blank prompt,
    text that is not valid Unicode, and what is neither a string nor a conversation.
    """

    name: str
    source: str
    revision: str | None
    prompts: tuple[Prompt, ...]
    categories: tuple[str | None, ...] = ()
    n_duplicates: int = 0
    n_incomplete: int = 0

    def __post_init__(self) -> None:
        prompts = prompts_of(self.prompts, f" of {self.name!r}")
        categories = self.categories or (None,) * len(prompts)
        if not prompts:
            raise PromptError(f"prompt set {self.name!r} is empty: expected at least one prompt")
        if len(categories) != len(prompts):
            raise PromptError(f"{self.name!r} has {len(prompts)} prompts but {len(categories)} categories")
        first: dict[str, int] = {}
        for index, prompt in enumerate(prompts):
            first.setdefault(prompt_hash(prompt), index)
        kept = tuple(first.values())
        # the one place where a frozen field is set: while the object is being made
        object.__setattr__(self, "n_duplicates", self.n_duplicates + len(prompts) - len(kept))
        object.__setattr__(self, "prompts", tuple(prompts[i] for i in kept))
        object.__setattr__(self, "categories", tuple(categories[i] for i in kept))

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """`prompt_hash` of every prompt, in order."""
        return tuple(prompt_hash(prompt) for prompt in self.prompts)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the content: exact prompts, their order and their categories; not of the provenance."""
        prompts = [plain(prompt) for prompt in self.prompts]
        content = json.dumps([prompts, self.categories], ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(content.encode("ascii")).hexdigest()

    @property
    def texts(self) -> tuple[str, ...]:
        """What the user says last in every prompt."""
        return tuple(asked(prompt) for prompt in self.prompts)

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> PromptSet: ...
    def __getitem__(self, index: int | slice) -> Prompt | PromptSet:
        """One prompt, or the `PromptSet` of a slice; an empty slice raises `PromptError`."""
        if isinstance(index, slice):
            return replace(self, prompts=self.prompts[index], categories=self.categories[index])
        return self.prompts[index]

    def take(self, n: int) -> PromptSet:
        """The first `n` prompts, or all of them when there are fewer. For an order-free subset see `sample`."""
        if n < 1:
            raise PromptError(f"cannot take {n} prompts from {self.name!r}: expected 1 or more")
        return self[:n]

    def sample(self, n: int) -> PromptSet:
        """The `n` prompts with the smallest hashes, in their order: a fixed sample that no ordering of the file biases.

        Samples are nested: `sample(10)` lies inside `sample(20)`.
        """
        if n < 1:
            raise PromptError(f"cannot sample {n} prompts from {self.name!r}: expected 1 or more")
        return self._where(frozenset(sorted(self.hashes)[:n]).__contains__, "an empty sample")

    def in_buckets(self, buckets: Collection[int]) -> PromptSet:
        """The prompts whose hash, modulo `N_BUCKETS`, is one of `buckets`; `PromptError` when there is none."""
        problem = f"no prompt in the hash buckets {', '.join(map(str, buckets))} of {N_BUCKETS}"
        return self._where(lambda key: int(key, 16) % N_BUCKETS in buckets, problem)

    def disjoint_from(self, *others: PromptSet) -> PromptSet:
        """This set without the prompts that occur, by hash, in any of `others`; `PromptError` when none is left."""
        taken = frozenset(itertools.chain.from_iterable(other.hashes for other in others))
        return self._where(lambda key: key not in taken, "nothing left outside the other sets")

    def _where(self, keep: Callable[[str], bool], problem: str) -> PromptSet:
        kept = [i for i, key in enumerate(self.hashes) if keep(key)]
        if not kept:
            raise PromptError(f"prompt set {self.name!r} has {problem}")
        prompts, categories = tuple(self.prompts[i] for i in kept), tuple(self.categories[i] for i in kept)
        return replace(self, prompts=prompts, categories=categories)

    def __repr__(self) -> str:
        """Without the prompts: a notebook shows whatever stands last in a cell."""
        return f"PromptSet({self.name!r}, n={len(self)}, sha256={self.sha256[:12]!r})"

    def describe(self) -> dict[str, str | int | None]:
        """What the results record about the set: everything but the prompts."""
        return {
            "name": self.name,
            "source": self.source,
            "revision": self.revision,
            "n": len(self),
            "n_duplicates": self.n_duplicates,
            "n_incomplete": self.n_incomplete,
            "sha256": self.sha256,
        }


def require_disjoint(**sets: PromptSet) -> None:
    """Raise `PromptError` when two of the named sets share a prompt by hash; the message shows hashes, never text."""
    for (one, first), (two, second) in itertools.combinations(sets.items(), 2):
        shared = frozenset(second.hashes)
        both = [key[:12] for key in first.hashes if key in shared]
        if both:
            shown = ", ".join(both[:3]) + (", ..." if len(both) > 3 else "")
            raise PromptError(
                f"{one!r} and {two!r} share {len(both)} of their {len(first)} and {len(second)} prompts "
                f"(hashes {shown}): expected disjoint splits; choose other parts, "
                "or shares of each such as #fit and #test"
            )


def load_prompts(
    source: str | os.PathLike[str],
    *,
    column: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
) -> PromptSet:
    """Load prompts from a pinned set, a file, or a dataset on the Hugging Face Hub.

    Args:
        source: a pinned name, a key of `PARTS` (`harmbench`), or one of its parts (`alpaca:test`);
            a path to .csv, .tsv, .jsonl, .json, .parquet or .txt (one prompt per line, blank lines skipped), where a
            prompt is a text or a conversation (a list of messages with role and content, the last one the user's);
            or a hub id `owner/name` or `owner/name:split` (needs `pip install 'bures[hub]'`).
            With `#fit`, `#select` or `#test` after any of them, the share of its prompts whose hashes fall into those
            buckets of `SPLIT`: about 50, 20 and 30 in a hundred.
        column: the prompt column of a table; without it the first of `PROMPT_COLUMNS` is taken, and rows that fill a
            context column (Alpaca's `input`) are left out. The category is the first of `CATEGORY_COLUMNS`, if any.
        split: of a hub dataset only.
        revision: of a hub dataset only.
        limit: keep the first `limit` prompts.

    Raises:
        PromptError: nothing there, not readable, or no prompts; never with the text of a prompt.
        AssetError: a pinned set cannot be fetched.
        ConfigError: a hub dataset, and the extra `hub` is not installed.
    """
    if not isinstance(cast("object", source), str | os.PathLike):
        what = "a list; hand prompts to PromptSet" if isinstance(source, Sequence) else f"a {type(source).__name__}"
        raise PromptError(f"the source of the prompts is {what}: expected a name, a file or a hub id")
    text = os.fspath(source)
    whole, mark, share = text.rpartition("#")
    if isinstance(source, str) and mark and share in SPLIT and not _is_there(text):
        found = _share(load_prompts(whole, column=column, split=split, revision=revision), share)
        return found if limit is None else found.take(limit)
    base, _, part = text.partition(":")
    is_path = not isinstance(source, str) or _looks_like_path(text)
    is_hub = not is_path and base not in PARTS and re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", text) is not None
    if not is_hub and (split is not None or revision is not None):
        raise PromptError(f"split and revision belong to hub datasets, and {text!r} is not one: leave them out")
    if is_path:
        found = _from_file(expanded(text), column)
    elif base in PARTS:
        if column is not None:
            raise PromptError(f"{base!r} is a pinned set: its column is known, leave column out")
        found = _pinned(base, part if part or base != text else None)
    elif is_hub:
        read_split, commit, rows = read_hub(base, column, split or part or None, revision)
        name = f"{base}:{read_split}"
        found = PromptSet(name, base, commit, rows.prompts, rows.categories, 0, rows.n_incomplete)
    else:
        raise PromptError(f"unknown prompts {text[:60]!r}: expected {', '.join(PARTS)}, a file, or a hub id owner/name")
    return found if limit is None else found.take(limit)


def _looks_like_path(text: str) -> bool:
    if text.partition(":")[0] in PARTS:
        return False
    has_suffix = text.lower().endswith((*SUFFIXES, *OTHERS))
    has_form = has_suffix or text.startswith((".", "~", "/", "\\")) or text.count("/") > 1
    return has_form or _is_there(text)


def _is_there(text: str) -> bool:
    try:
        return expanded(text).exists()
    except (OSError, ValueError):  # too long, or with a NUL: not the name of a file
        return False


def _from_file(path: Path, column: str | None) -> PromptSet:
    rows = read_file(path, column)
    if not rows.prompts:
        raise PromptError(f"{path} holds no prompts: expected at least one")
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    return PromptSet(path.stem, str(path), f"sha256:{digest}", rows.prompts, rows.categories, 0, rows.n_incomplete)


def _pinned(name: str, part: str | None) -> PromptSet:
    if part is not None and part not in PARTS[name]:
        raise PromptError(f"{name!r} has no part {part!r}: expected {', '.join(PARTS[name])}")
    asset = ASSETS[assets_of(name)[0]]
    rows = pinned_rows(name)
    whole = PromptSet(name, asset.url, asset.requirement, rows.prompts, rows.categories, 0, rows.n_incomplete)
    return whole if part is None else replace(whole.in_buckets(PARTS[name][part]), name=f"{name}:{part}")


def _share(whole: PromptSet, share: str) -> PromptSet:
    if len(whole) < SMALLEST_TO_SHARE:
        raise PromptError(
            f"{whole.name!r} has {len(whole)} prompts: at least {SMALLEST_TO_SHARE} are needed to split it by hash "
            f"into {', '.join(SPLIT)}; add prompts, or give each split a file of its own"
        )
    return replace(whole.in_buckets(SPLIT[share]), name=f"{whole.name}#{share}")
