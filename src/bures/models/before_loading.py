"""What is known of a model before it is loaded: its shape, and how it is spoken to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bures.models.chat import Chat
from bures.models.checkpoints import shape_before_loading
from bures.models.loading import located
from bures.models.memory import Shape
from bures.models.settling import settled
from bures.models.sources import Dtype

if TYPE_CHECKING:
    from bures.models.quantization import Quantization


def foreseen(
    spec: str | Path,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    quantization: Quantization | None = None,
) -> Shape | None:
    """The shape that a model will have once it is loaded, from its configuration; see `load_model`.

    None where it cannot be told; raises `ModelError` where there is nothing of that name.
    """
    found = located(spec, dtype, device, revision, trust_remote_code)
    try:
        return shape_before_loading(found.source, found.arguments, str(spec), found.dtype, quantization)
    except Exception:  # noqa: BLE001 - configurations of all kinds, and code that comes with some
        return None


def tokenizer_before_loading(spec: str | Path, revision: str | None, *, trust_remote_code: bool) -> Chat | None:
    """How a model is spoken to, by its tokenizer alone; None where there is none to be had, or without a template.

    What only the model's own answers show, such as a format of thinking, is not looked at.
    """
    import transformers

    found = located(spec, "auto", "cpu", revision, trust_remote_code)
    try:
        tokenizer = cast("Any", transformers).AutoTokenizer.from_pretrained(found.source, **found.arguments)
        return settled(tokenizer, str(spec)) if tokenizer.chat_template else None
    except Exception:  # noqa: BLE001 - tokenizers of all kinds, and code that comes with some
        return None
