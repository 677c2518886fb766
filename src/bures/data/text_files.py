"""Text out of files, in the encoding that it is certainly in, or an error with the place of what is wrong."""

from __future__ import annotations

import codecs
from pathlib import Path

from bures.errors import PromptError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, and the encodings that they tell."""

_BEGINNINGS = (
    (b"PK\x03\x04", "a ZIP archive, as workbooks are too"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite database"),
)
"""What is no text, whatever the name of the file says."""


def read_bytes(path: Path) -> bytes:
    """The bytes of `path`; `PromptError` when there is no such file or it cannot be read."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise PromptError(f"{path} is a pipe or a device, which may have no end; save what it gives to a file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PromptError(f"no such file: {path}") from error
    except IsADirectoryError as error:
        raise PromptError(f"{path} is a folder: expected a file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise PromptError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in the encoding of its byte-order mark (UTF-16, UTF-32), without the mark.

    Raises:
        PromptError: it is in another encoding, with the place of the first byte that shows it, or no text at all.
    """
    content = read_bytes(path)
    what = next((what for beginning, what in _BEGINNINGS if content.startswith(beginning)), None)
    if what is not None:
        raise PromptError(f"{path} is no text: it is {what}; save what it holds as text in UTF-8")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    text, problem = "", ""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = _where(content, error, encoding)
    if problem:  # outside the handler, so that no traceback carries the bytes
        raise PromptError(f"{path} is not {problem}")
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        raise PromptError(
            f"{path} holds a NUL on line {line}: no text has one; if the file is UTF-16 without a byte-order mark, "
            "save it as UTF-8, else take the NUL out"
        )
    return text


def lines_of(text: str) -> list[str]:
    """Lines ended by LF or CRLF, or all by CR, as they once were on a Mac.

    `str.splitlines` would also cut at form feeds and Unicode separators.
    """
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _where(content: bytes, error: UnicodeDecodeError, encoding: str) -> str:
    """The encoding that the bytes are not in, where that shows, and what to do."""
    if encoding not in ("utf-8", "utf-8-sig"):
        return f"{encoding.upper()}, as its byte-order mark says: byte {error.start} ({error.reason}); save it as UTF-8"
    start = error.start + (len(codecs.BOM_UTF8) if encoding == "utf-8-sig" else 0)
    line = content.count(b"\n", 0, start) + 1
    column = len(content[content.rfind(b"\n", 0, start) + 1 : start].decode("utf-8", "replace")) + 1
    return (
        f"UTF-8: byte 0x{content[start]:02x} on line {line}, column {column}; save it as UTF-8 "
        "(from Windows-1252 or Latin-1: iconv -f CP1252 -t UTF-8)"
    )
