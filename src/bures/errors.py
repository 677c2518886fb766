"""The one family of errors that a user is meant to read.

Every message is one line that says what was wrong, what was expected and what to do.
The command line prints it and exits with code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


def plain(text: str) -> str:
    """Text that is safe to print: control and direction characters (a model's name may hold any) become escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


class BuresError(Exception):
    """Base of every error caused by an input; the command line turns it into one line and exit code 2."""

    exit_code = 2

    def __str__(self) -> str:
        return plain(" ".join(super().__str__().split()))


class ModelError(BuresError):
    """A model that cannot be loaded, or whose architecture is not understood."""


class PromptError(BuresError):
    """A prompt set that is missing, empty, malformed or overlaps another split."""


class AssetError(BuresError):
    """A pinned asset that cannot be fetched or does not match its checksum."""


class FitError(BuresError):
    """Activations from which the requested map cannot be fitted."""


class NumericsError(FitError):
    """Activations or logits that are NaN or infinite: a finding about a map, a block or a number format."""


class ConfigError(BuresError):
    """Options that contradict each other or the model."""


class RunError(BuresError):
    """A run folder that cannot be written, read or continued."""


@contextmanager
def needs(extra: str, what: str) -> Generator[None]:
    """Imports of an optional package go inside; a missing one becomes one line, worded alike everywhere.

    Args:
        extra: the extra of bures that brings it.
        what: who needs it, in words that open a sentence: "a search", "judge llm:MODEL".

    Raises:
        ConfigError: with the pip line.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "bures":
            raise
        raise ConfigError(f"{what} needs a package that is missing ({error}); pip install 'bures[{extra}]'") from error
