"""Chat models: load a hub id, a folder or a GGUF file, tokenise through the chat template, find the decoder blocks.

Blocks are found by structure, never by a model's name: the one `ModuleList` inside the decoder that has as many members
as the configuration has hidden layers, each with an attention child and an MLP child. What was found is then checked
against the model's own `hidden_states` on a few tokens, so an architecture that merely looks alike is refused.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from bures import assets
from bures.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        decoder: the network without `lm_head`; returns the final residual stream.
        blocks: the decoder blocks, first to last.
        attentions: the attention module of each block.
        mlps: the MLP module of each block.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    attentions: tuple[nn.Module, ...]
    mlps: tuple[nn.Module, ...]

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.hf.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Device of the input embeddings; where token ids must be."""
        return cast(nn.Module, self.hf.get_input_embeddings()).weight.device  # type: ignore[union-attr,return-value]

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
        configured: Any = self.hf.generation_config.eos_token_id if self.hf.generation_config is not None else None
        listed: list[Any] = [*configured] if isinstance(configured, list) else [configured]
        return tuple(dict.fromkeys(int(i) for i in [*listed, self.tokenizer.eos_token_id] if isinstance(i, int)))

    def encode(self, prompts: Sequence[str], *, system: str | None = None) -> list[list[int]]:
        """Token ids of each prompt as a user turn, with the generation prompt, by the tokenizer's own chat template.

        The template is rendered and tokenised in one call (no second BOS). Where the template has a thinking switch,
        it is off.

        Raises:
            ModelError: the template cannot render it (for example it has no system turn).
        """
        head = [] if system is None else [{"role": "system", "content": system}]
        chats = [[*head, {"role": "user", "content": prompt}] for prompt in prompts]
        switches = {"enable_thinking": False} if self.has_thinking_switch else {}
        try:
            encoded: Any = self.tokenizer.apply_chat_template(
                chats, tokenize=True, add_generation_prompt=True, return_dict=True, **switches
            )
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
        return re.search(r"\benable_thinking\b", str(self.tokenizer.chat_template)) is not None

    def fingerprint(self) -> str:
        """sha256 over names, shapes and 1,024 evenly spaced values of every parameter, as loaded (adapter included)."""
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
    # Parameters keep requires_grad: without it torch multiplies a strided slice by lm_head as a batched product and
    # copies the whole vocabulary matrix once per row. Every pass here runs in inference mode, so no graph is built.
    hf.eval()
    return wrap(hf, tokenizer, name)


def wrap(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> ChatModel:
    """A `ChatModel` around a model and tokenizer that are already in memory.

    Raises:
        ModelError: no chat template, or the decoder blocks were not found.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {name} has no chat template; expected an instruction-tuned chat model "
            "(use the -Instruct or -it checkpoint, or put a chat_template.jinja beside the tokenizer)"
        )
    decoder = cast("nn.Module", hf.get_decoder()) if hasattr(hf, "get_decoder") else hf
    blocks = _find_blocks(hf, decoder, name)
    model = ChatModel(
        hf=hf,
        tokenizer=tokenizer,
        name=name,
        decoder=decoder,
        blocks=blocks,
        attentions=tuple(_find_attention(block, hf, name) for block in blocks),
        mlps=tuple(_find_mlp(block, hf, name) for block in blocks),
    )
    _verify_blocks(model)
    return model


def organism_adapter() -> Path:
    """Folder of the refusal adapter that ships with the package."""
    return Path(str(resources.files("bures") / "data" / "organism"))


def tensor_of(output: Any) -> Tensor:
    """The residual stream in what a block returned: the tensor itself, or the first member of a tuple."""
    return output[0] if isinstance(output, tuple) else output


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
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    loading: dict[str, Any] = {"dtype": dtype, "device_map": place}
    if "gguf_file" in arguments:
        loading["quantization_config"] = GgufConfig(dequantize=True)
    elif not Path(source).is_dir():
        loading["use_safetensors"] = True  # never a pickle
    with _explained(name, is_local=Path(source).is_dir()):
        tokenizer = AutoTokenizer.from_pretrained(source, **arguments)
        hf = AutoModelForCausalLM.from_pretrained(source, **arguments, **loading)
    return tokenizer, hf


def _merge(hf: PreTrainedModel, adapter: Path, name: str) -> PreTrainedModel:
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file() or not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"no adapter in {adapter}; expected adapter_config.json and adapter_model.safetensors")
    with _explained(f"{name} with the adapter {adapter.name}", is_local=True):
        return cast("PreTrainedModel", PeftModel.from_pretrained(hf, str(adapter)).merge_and_unload())


@contextmanager
def _explained(name: str, *, is_local: bool) -> Iterator[None]:
    """Turns whatever the loaders raise into one line."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # loaders raise anything from OSError to struct.error on a damaged file
        reason = " ".join(str(error).split())[:200]
        kind = type(error).__name__
        if is_local:
            hint = "check that the files are complete and of a decoder that transformers knows"
        else:
            hint = "check the id (owner/name), your network and your access, or give a local folder"
        raise ModelError(f"cannot load {name}: {kind}: {reason}; {hint}") from error


# Structure --------------------------------------------------------------------------------------------------------


def _refuse(hf: nn.Module, what: str) -> ModelError:
    return ModelError(
        f"architecture {type(hf).__name__} is not supported: {what}; expected a decoder-only transformer "
        "such as Llama, Qwen2/3, Gemma 2/3, Mistral or Phi-3"
    )


def _find_blocks(hf: PreTrainedModel, decoder: nn.Module, name: str) -> tuple[nn.Module, ...]:
    depth = getattr(hf.config.get_text_config(), "num_hidden_layers", None)
    if depth is None or getattr(hf.config, "is_encoder_decoder", False):
        raise _refuse(hf, f"{name} is not decoder-only")
    found = [
        tuple(module)
        for module in decoder.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and all(_attention_children(b) and _mlp_children(b) for b in module)
    ]
    if len(found) != 1:
        raise _refuse(hf, f"{len(found)} lists of {depth} blocks with attention and MLP, expected one")
    return found[0]


def _attention_children(block: nn.Module) -> list[nn.Module]:
    """Children that read an attention mask."""
    return [m for m in block.children() if "attention_mask" in inspect.signature(m.forward).parameters]


def _mlp_children(block: nn.Module) -> list[nn.Module]:
    """Children with weight matrices that read no attention mask (so neither norms nor attention)."""
    return [
        m
        for m in block.children()
        if "attention_mask" not in inspect.signature(m.forward).parameters and any(p.ndim >= 2 for p in m.parameters())
    ]


def _find_attention(block: nn.Module, hf: nn.Module, name: str) -> nn.Module:
    found = _attention_children(block)
    if len(found) != 1:
        raise _refuse(hf, f"a block of {name} has {len(found)} attention modules, expected one")
    return found[0]


def _find_mlp(block: nn.Module, hf: nn.Module, name: str) -> nn.Module:
    found = _mlp_children(block)
    if len(found) != 1:
        raise _refuse(hf, f"a block of {name} has {len(found)} MLP modules, expected one")
    return found[0]


@torch.inference_mode()
def _verify_blocks(model: ChatModel) -> None:
    """Refuses a model whose blocks' outputs are not its own `hidden_states`."""
    outputs: dict[int, Tensor] = {}
    handles: list[Any] = []
    try:
        for i, block in enumerate(model.blocks):

            def keep(_: nn.Module, __: Any, output: Any, i: int = i) -> None:
                outputs[i] = tensor_of(output)

            handles.append(block.register_forward_hook(keep))
        ids = torch.tensor([[model.pad_id] * 3], device=model.device)
        states = model.decoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    finally:
        for handle in handles:
            handle.remove()
    # The last entry of hidden_states has been through the final norm.
    same = len(states) == len(model.blocks) + 1 and all(
        (i in outputs and torch.equal(states[i + 1], outputs[i].to(states[i + 1].device))) or states[i + 1].isnan().any()
        for i in range(len(model.blocks) - 1)
    )
    if not same:
        raise _refuse(model.hf, "the blocks' outputs are not the model's hidden_states")
