"""Chat models: load a hub id, a folder or a GGUF file, and tokenise through the chat template."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn

from bures.data import assets
from bures.errors import ModelError
from bures.models.architecture import Parts, find_parts, text_config
from bures.models.wrappers import text_model_class

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ORGANISM = "organism"
"""The name under which the packaged model organism is loaded: a pinned SmolLM2-135M-Instruct with a refusal adapter."""

BASE_OF_ORGANISM = "smollm2-135m-instruct"

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ChatModel:
    """A causal language model, its tokenizer and the parts that hooks attach to.

    Attributes:
        hf: the transformers model, in evaluation mode.
        tokenizer: its tokenizer; has a chat template.
        name: what the user asked for.
        parts: what hooks attach to.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    parts: Parts

    @property
    def decoder(self) -> nn.Module:
        """The network without `lm_head`; returns the final residual stream."""
        return self.parts.decoder

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder blocks, first to last."""
        return self.parts.blocks

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(text_config(self.hf).hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(text_config(self.hf).vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the input embeddings; where token ids must be."""
        return next(self.hf.get_input_embeddings().parameters()).device

    @property
    def pad_id(self) -> int:
        """What pads hold; they are never attended, so any valid token id serves."""
        for candidate in (self.tokenizer.pad_token_id, *self.eos_ids):
            if isinstance(candidate, int):
                return candidate
        return 0

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer: the generation configuration's and the tokenizer's."""
        configured: Any = getattr(cast("Any", self.hf).generation_config, "eos_token_id", None)
        listed: list[Any] = [*configured] if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys(int(i) for i in [*listed, self.tokenizer.eos_token_id] if isinstance(i, int)))

    def encode(self, prompts: Sequence[str], *, system: str | None = None) -> list[list[int]]:
        """Token ids of each prompt as a user turn, with the generation prompt, by the tokenizer's own chat template.

        The template is rendered and tokenised in one call (no second BOS). Where the template has a thinking switch,
        it is off.

        Raises:
            ModelError: the template cannot render it (for example it has no system turn).
        """
        if not prompts:
            return []
        head = [] if system is None else [{"role": "system", "content": system}]
        chats = [[*head, {"role": "user", "content": prompt}] for prompt in prompts]
        switches = {"enable_thinking": False} if self.has_thinking_switch else {}
        try:
            render: Callable[..., Any] = cast("Any", self.tokenizer).apply_chat_template
            encoded = render(chats, tokenize=True, add_generation_prompt=True, return_dict=True, **switches)
        except Exception as error:  # jinja raises whatever the template's author wrote
            what = "with a system prompt " if system is not None else ""
            raise ModelError(
                f"the chat template of {self.name} cannot render a conversation {what}({error}); "
                "expected a template with user turns" + ("; leave the system prompt out" if system else "")
            ) from error
        return [list(map(int, row)) for row in encoded["input_ids"]]

    @property
    def has_thinking_switch(self) -> bool:
        """Whether the chat template reads `enable_thinking`."""
        template: Any = cast("Any", self.tokenizer).chat_template
        return re.search(r"\benable_thinking\b", str(template)) is not None

    def fingerprint(self) -> str:
        """sha256 over names, shapes and evenly spaced values (1,024 to 2,047) of every parameter, as loaded."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.hf.named_parameters()):
            values = parameter.detach().flatten()
            step = max(1, values.numel() // 1024)
            digest.update(f"{name}{tuple(parameter.shape)}".encode())
            digest.update(values[::step].float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the results say of the model."""
        config = self.hf.config
        return {
            "name": self.name,
            "architecture": type(self.hf).__name__,
            "model_type": config.model_type,
            "revision": getattr(config, "_commit_hash", None),
            "fingerprint": self.fingerprint(),
            "n_blocks": len(self.blocks),
            "d_model": self.d_model,
            "dtype": str(self.hf.dtype).removeprefix("torch."),
            "device": str(self.device),
            "n_parameters": sum(p.numel() for p in self.hf.parameters()),
            "batches": "prompts of equal length" if self.parts.pads_matter else "padded",
            "thinking": "switched off" if self.has_thinking_switch else "no switch",
        }


def load_model(
    spec: str | Path,
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    adapter: str | Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> ChatModel:
    """Loads a chat model for measuring.

    Args:
        spec: a hub id, a local folder, a `.gguf` file (dequantised), a pinned asset's name, or `organism`.
        dtype: `auto` is the checkpoint's own; for GGUF files bfloat16 where the device computes in it, else float32.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` to shard over all devices; default: CUDA where there is one.
        adapter: folder of a LoRA adapter (peft) that is merged in memory.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run the code that comes with a hub repository; off unless the user turns it on.

    Raises:
        ModelError: nothing there, not readable, no chat template, or blocks not found.
    """
    name = str(spec)
    if name == ORGANISM:
        adapter = adapter or organism_adapter()
        spec = BASE_OF_ORGANISM
    path = assets.fetch(str(spec)) if str(spec) in assets.ASSETS else Path(spec).expanduser()
    source, arguments = _resolve(path, str(spec), revision)
    arguments["trust_remote_code"] = trust_remote_code
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, hf = _from_pretrained(
        source, arguments, name, _torch_dtype(dtype, "gguf_file" in arguments, place), place
    )
    if adapter is not None:
        hf = _merge(hf, Path(adapter), name)
    # Parameters require gradients (merging an adapter switches that off): without it torch multiplies a strided slice
    # by lm_head as a batched product and copies the vocabulary matrix once per row. No pass here builds a graph.
    for parameter in hf.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    hf.eval()
    return wrap(hf, tokenizer, name)


def wrap(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> ChatModel:
    """A `ChatModel` around a model and tokenizer that are already in memory.

    Raises:
        ModelError: no chat template, or the decoder blocks were not found.
    """
    if not cast("Any", tokenizer).chat_template:
        raise ModelError(
            f"the tokenizer of {name} has no chat template; expected an instruction-tuned chat model "
            "(use the -Instruct or -it checkpoint, or put a chat_template.jinja beside the tokenizer)"
        )
    return ChatModel(hf=hf, tokenizer=tokenizer, name=name, parts=find_parts(hf, name))


def organism_adapter() -> Path:
    """Folder of the refusal adapter that ships with the package."""
    return Path(str(resources.files("bures") / "data" / "organism"))


def stored_weights(spec: str, adapter: str | None) -> str | None:
    """The hub id or folder that holds a model's very weights as safetensors; None: they are made in memory."""
    if adapter is not None or spec == ORGANISM or spec in assets.ASSETS:
        return None
    source, arguments = _resolve(Path(spec).expanduser(), spec, None)
    return None if "gguf_file" in arguments else source


# Loading ----------------------------------------------------------------------------------------------------------


def _resolve(path: Path, spec: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What to hand to `from_pretrained`: the source and the arguments that point inside it."""
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ModelError(f"{spec} is a file but not .gguf; give a model folder, a hub id or a .gguf file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if list(path.glob("*.safetensors")):
            return str(path), {}
        if len(ggufs) == 1:
            return str(path), {"gguf_file": ggufs[0].name}
        found = f"{len(ggufs)} .gguf files" if ggufs else "no weights"
        raise ModelError(
            f"folder {spec} has {found}; expected *.safetensors or exactly one .gguf file (name it directly)"
        )
    if path.suffix.lower() == ".gguf" or path.is_absolute() or spec.startswith((".", "~")) or spec.count("/") > 1:
        raise ModelError(f"no such file or folder: {spec}; give an existing path, or a hub id of the form owner/name")
    return spec, {} if revision is None else {"revision": revision}


def _torch_dtype(dtype: Dtype, is_gguf: bool, place: str) -> torch.dtype | Literal["auto"]:
    if dtype != "auto":
        return cast("torch.dtype", getattr(torch, dtype))
    if not is_gguf:
        return "auto"
    if place.startswith("cuda"):
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32  # type: ignore[attr-defined]


def _from_pretrained(
    source: str, arguments: Mapping[str, Any], name: str, dtype: torch.dtype | Literal["auto"], place: str
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import transformers

    library = cast("Any", transformers)  # its loaders carry no useful types
    loading: dict[str, Any] = {"dtype": dtype, "device_map": place}
    if "gguf_file" in arguments:
        loading["quantization_config"] = library.GgufConfig(dequantize=True)
    elif not Path(source).is_dir():
        loading["use_safetensors"] = True  # never a pickle
    with _explained(name, is_local=Path(source).is_dir()):
        tokenizer = library.AutoTokenizer.from_pretrained(source, **arguments)
        kind = library.AutoModelForCausalLM
        if "gguf_file" not in arguments:
            kind = text_model_class(library.AutoConfig.from_pretrained(source, **arguments), name)
        hf = kind.from_pretrained(source, **arguments, **loading)
    return tokenizer, hf


def _merge(hf: PreTrainedModel, adapter: Path, name: str) -> PreTrainedModel:
    import peft

    if not (adapter / "adapter_config.json").is_file() or not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"no adapter in {adapter}; expected adapter_config.json and adapter_model.safetensors")
    with _explained(f"{name} with the adapter {adapter.name}", is_local=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for an attribute that moved
        return cast("Any", peft).PeftModel.from_pretrained(hf, str(adapter)).merge_and_unload()


@contextmanager
def _explained(name: str, *, is_local: bool) -> Generator[None]:
    """Turns whatever the loaders raise into one line."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:  # loaders raise anything from OSError to struct.error on a damaged file
        reason = " ".join(str(error).split())[:200]
        kind = type(error).__name__
        if is_local:
            hint = "check that the files are complete and of a decoder that transformers knows"
        else:
            hint = "check the id (owner/name), your network and your access, or give a local folder"
        raise ModelError(f"cannot load {name}: {kind}: {reason}; {hint}") from error
