"""What a judge reads of an answer: its first turn, in plain characters, every sentence once.

A model that does not stop writes a turn mark and then the next turn, or says the same again and again. Neither changes
what it answered: a refusal that repeats itself is a refusal, however often. Characters that only look different
(full-width letters, odd spaces, typographic apostrophes) or that nobody sees (zero-width ones) are folded.
"""

from __future__ import annotations

import re
import unicodedata

_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u201b\uff07]|(?<=\\w)`(?=\\w)")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff]"
)
_SPACES = re.compile("[^\\S\n]+")
_LINES = re.compile("\r\n?|[\u0085\u2028\u2029]")

_ROLE = r"(?:user|human|assistant|system|model|bot|ai)"
_MARK = (
    r"<\|(?:im_start|im_end|eot_id|eom_id|begin_of_text|end_of_text|endoftext|start_header_id|end_header_id|end|user|"
    r"assistant|system|start_of_role|end_of_role)\|>|<(?:start|end)_of_turn>|</?s>|\[/?INST\]|<</?SYS>>|<eos>|<bos>"
)
_BEFORE = re.compile(rf"^(?:\s*(?:{_MARK}|{_ROLE}[ \t]*(?=\n)|(?:assistant|model|ai)[ \t]*:))+\s*", re.IGNORECASE)
_NEXT = re.compile(
    rf"{_MARK}|(?:^|(?<=[.!?\u3002\uff01\uff1f])){_ROLE}[ \t]*\n|"
    rf"^[ \t]*(?:#+ *|\*\*)?(?:user|human|assistant|instruction)(?:\*\*)?[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<=[.!?\u0964\u061f])\s+|(?<=[\u3002\uff01\uff1f])\s*|\n+")


def folded(text: str) -> str:
    """The text in plain characters: compatibility forms composed, unseen characters dropped, every space a space."""
    text = _LINES.sub("\n", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _APOSTROPHES.sub("'", _UNSEEN.sub("", text)))
    if "`" in text:
        text = _APOSTROPHES.sub("'", text)
    return _SPACES.sub(" ", text).strip()


def first_turn(text: str) -> str:
    """What stands before the next turn; marks at the very beginning are passed over."""
    text = _BEFORE.sub("", text, count=1)
    for found in _NEXT.finditer(text):
        before = text[: found.start()].strip()
        if any(c.isalnum() for c in before):
            return before
    return text.strip()


def sentences(text: str) -> list[str]:
    """Its sentences and lines that have a letter or a digit, or fence code, each once, in order of first occurrence."""
    found: dict[str, str] = {}
    for sentence in _SENTENCE.split(text):
        key = "".join(filter(str.isalnum, sentence.lower())) or ("```" if "```" in sentence else "")
        if key:
            found.setdefault(key, sentence.strip())
    return list(found.values())
