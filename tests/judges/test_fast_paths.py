"""What makes the trained judge fast changes nothing: shortcuts against the plain way of counting the same."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bures.judges import coherence, cues, scripts
from bures.judges.needles import NEEDLES
from bures.judges.overlap import stem, words

PATTERNS = {name: re.compile(pattern, re.MULTILINE) for name, pattern in cues.FAMILIES.items()}
PHRASES = st.one_of(*(st.from_regex(re.compile(pattern, re.ASCII)) for pattern in cues.FAMILIES.values()))


@pytest.mark.parametrize("family", sorted(NEEDLES))
def test_every_phrase_of_a_family_has_one_of_its_needles(family: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.from_regex(PATTERNS[family], fullmatch=True))
    def holds(phrase: str) -> None:
        lower = phrase.lower()  # as answers are
        assert not PATTERNS[family].search(lower) or any(needle in lower for needle in NEEDLES[family]), phrase

    holds()


def counted(prompt: str, sentences: list[str]) -> list[float]:
    """The numbers of the families, every pattern tried everywhere."""
    lower = "\n".join(sentences).lower()
    starts = list(accumulate((len(sentence) + 1 for sentence in sentences), initial=0))
    first = starts[min(len(sentences), 1 if len(" ".join(sentences[:1]).split()) > 2 else 2)]
    asked = {stem(word) for word in words(prompt)}
    found: list[float] = []
    for name, pattern in PATTERNS.items():
        places = [
            m.start()
            for m in pattern.finditer(lower)
            if name not in ("law", "morals", "premise", "sympathy") or not {stem(word) for word in words(m[0])} <= asked
        ]
        once = name in ("no", "here_it_is")
        share = 0.0 if once else len({bisect_right(starts, place) for place in places}) / max(1, len(sentences))
        opening = float(bool(places) and places[0] < cues.OPENING and not once)
        found += [float(bool(places) and places[0] < first), share, opening]
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PHRASES, min_size=1, max_size=3), min_size=1, max_size=6), st.booleans())
def test_families_are_counted_as_if_every_pattern_were_tried_everywhere(parts: list[list[str]], ask: bool) -> None:
    sentences = cues.read(". ".join(" ".join(some) for some in parts))
    prompt = sentences[-1] if ask and sentences else "Why is the sea salt?"
    assert cues.cues_of(prompt, sentences)[: 3 * len(PATTERNS)] == counted(prompt, sentences)


def loops(found: list[str], times: int = 6) -> bool:
    """Step by step: some run of one to four units stands six times in a row, one with letters in it."""
    for length in (1, 2, 3, 4):
        same = 0
        for i in range(length, len(found)):
            same = same + 1 if found[i] == found[i - length] else 0
            if same >= length * (times - 1) and any(u[0].isalnum() for u in found[i - length + 1 : i + 1]):
                return True
    return False


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from("ab!?"), max_size=6),
    st.lists(st.sampled_from("ab!?"), min_size=1, max_size=5),
    st.integers(4, 7),
    st.lists(st.sampled_from("ab!?"), max_size=6),
)
def test_loops_are_those_that_going_through_step_by_step_finds(
    before: list[str], period: list[str], times: int, after: list[str]
) -> None:
    found = [*before, *(period * times), *after]
    assert coherence._loops(found) == loops(found)  # pyright: ignore[reportPrivateUsage]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_plain_text_is_taken_apart_as_any_other(text: str) -> None:
    general = scripts._UNIT.findall(text)  # pyright: ignore[reportPrivateUsage]
    assert scripts.units(text) == [unit.lower() for unit in general]
    in_letters = coherence._WORD.findall(text)  # pyright: ignore[reportPrivateUsage]
    assert coherence._ASCII_WORD.findall(text) == in_letters  # pyright: ignore[reportPrivateUsage]
