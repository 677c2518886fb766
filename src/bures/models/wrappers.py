"""Which class of transformers reads a checkpoint as a text model, and how a model is refused."""

from __future__ import annotations

from typing import Any, cast

from bures.errors import ModelError


def text_model_class(config: Any, name: str) -> Any:
    """The automatic class that loads a configuration as a model of text.

    Models of text and images are not among the causal ones, but without an image they are: their language model runs
    alone.

    Raises:
        ModelError: there is none, because the model is of another kind.
    """
    import transformers

    library = cast("Any", transformers)
    if type(config) in library.MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in (
        getattr(config, "auto_map", None) or {}
    ):
        return library.AutoModelForCausalLM
    architecture = next(iter(getattr(config, "architectures", None) or ()), type(config).__name__)
    if getattr(config, "is_encoder_decoder", False):
        raise refusal(architecture, f"{name} is an encoder-decoder")
    for kind in ("IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"):
        if type(config) in getattr(library, f"MODEL_FOR_{kind}_MAPPING"):
            return library.AutoModelForMultimodalLM
    named = getattr(library, architecture, None)  # the language model of a wrapper, saved by itself
    if getattr(named, "config_class", None) is type(config) and hasattr(named, "generate"):
        return named
    raise refusal(architecture, f"transformers knows {name} as {config.model_type}, not as a model that writes text")


def refusal(architecture: str, what: str) -> ModelError:
    """The error for a model that is not a decoder as bures needs it."""
    return ModelError(
        f"architecture {architecture} is not supported: {what}; expected a decoder-only transformer "
        "such as Llama, Qwen2/3, Gemma 2/3, Mistral or Phi-3"
    )
