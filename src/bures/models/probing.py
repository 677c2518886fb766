"""A short forward pass that shows how a model is built: its blocks, whether it is causal, whether pads matter to it.

The pass holds two long rows that differ in their last token, and three short ones with pads in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bures.models.batching import pad, positions
from bures.models.offloading import device_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONG, _SHORT, _ROWS = 12, 5, 3


def tensor_of(output: Any) -> Tensor:
    """The residual stream in what a block returned: the tensor itself, or the first member of a tuple or list."""
    return cast("Tensor", output[0] if isinstance(output, tuple | list) else output)


def with_tensor(output: Any, stream: Tensor) -> Any:
    """What a block returned, with another stream in it."""
    return type(output)([stream, *output[1:]]) if isinstance(output, tuple | list) else stream


def tolerance(dtype: torch.dtype) -> float:
    """Largest relative difference of one sum that rounding explains."""
    return max(1e-4, torch.finfo(dtype).eps)


@dataclass(frozen=True)
class Seen:
    """What the pass showed.

    Attributes:
        ids: of the two long rows and the short ones.
        attended: False on pads.
        states: the model's `hidden_states`; empty if it has none.
        outputs: for each `ModuleList` of the decoder its members that ran, with what each returned, call by call.
    """

    ids: Int[Tensor, "b s"]
    attended: Bool[Tensor, "b s"]
    states: tuple[Tensor, ...]
    outputs: tuple[dict[nn.Module, list[Tensor]], ...]


@torch.inference_mode()
def look(hf: PreTrainedModel, decoder: nn.Module) -> Seen:
    """Runs the model once over the rows, and keeps what the members of its decoder's lists return."""
    device = device_of(hf)
    ids, attended = _rows(hf)
    kept: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        returned = cast("object", tensor_of(output))
        if isinstance(returned, Tensor):  # a module may return what it likes
            kept.setdefault(module, []).append(returned.detach().clone())

    lists = [tuple(m) for m in decoder.modules() if isinstance(m, nn.ModuleList)]
    with ExitStack() as stack:
        for module in {id(m): m for members in lists for m in members}.values():
            stack.callback(module.register_forward_hook(keep).remove)
        output = hf(
            input_ids=ids.to(device),
            attention_mask=attended.long().to(device),
            position_ids=positions(attended).to(device),
            output_hidden_states=True,
            use_cache=False,
        )
    return Seen(
        ids=ids.to(device),
        attended=attended.to(device),
        states=tuple(getattr(output, "hidden_states", None) or ()),
        outputs=tuple({m: kept[m] for m in members if m in kept} for members in lists),
    )


def blocks_of(seen: Seen, width: int) -> tuple[tuple[nn.Module, ...], str]:
    """The blocks, first to last, and why there are none."""
    if not seen.states:
        return (), "hands out no hidden_states"
    shape, rows = tuple(seen.states[0].shape), seen.ids.numel()
    if any(state.numel() != rows * width for state in seen.states[:-1]):  # the last may be projected
        streams, rest = divmod(seen.states[0].numel(), rows * width)
        if streams > 1 and not rest:
            return (), f"has {streams} residual streams side by side, and bures measures and moves one"
        return (), f"has hidden_states of shape {shape}, expected one stream of width {width}"
    for outputs in seen.outputs:
        if len(outputs) == len(seen.states) - 1 and _are(outputs, seen.states):
            if any(len(calls) > 1 for calls in outputs.values()):
                return (), "runs its blocks more than once in a forward pass"
            return tuple(outputs), ""
    return (), "is not a stack of blocks whose outputs are its hidden_states"


def is_causal(seen: Seen, last: nn.Module) -> bool:
    """Whether a later token leaves what earlier ones become alone."""
    (first, second), *_ = _last(seen, last).split(2)
    return not _apart(first[:-1], second[:-1]) > 4 * tolerance(first.dtype)  # NaN is no evidence


@torch.inference_mode()
def pads_matter(seen: Seen, decoder: nn.Module, last: nn.Module) -> tuple[bool, str]:
    """Whether the decoder makes something else of the short rows without their pads; and why it cannot be batched.

    The positions of padded rows are counted from 0 and handed over. Rows without pads, whose positions are left to the
    decoder, show whether it would count them so.
    """
    ids = seen.ids[2:, -_SHORT:]
    ones = torch.ones_like(ids)

    def alone(**given: Tensor) -> Tensor:
        found: list[Tensor] = []
        handle = last.register_forward_hook(lambda _, __, output: found.append(tensor_of(output).detach().clone()))
        try:
            decoder(input_ids=ids, attention_mask=ones, use_cache=False, **given)
        finally:
            handle.remove()
        return found[0].flatten(0, 1)

    padded = _last(seen, last)[2:, -_SHORT:].flatten(0, 1)
    own, limit = alone(), 4 * tolerance(padded.dtype)
    if not _apart(padded, own) > limit:
        return False, ""
    if _apart(alone(position_ids=positions(ones)), own) > limit:
        return True, "counts the positions of its tokens in a way of its own"
    return True, ""


def _rows(hf: PreTrainedModel) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b s"]]:
    """Ids of plain tokens (none that the configuration names) and their mask."""
    config: Any = hf.config
    named = set(_numbers(config.to_dict()))
    size = int(config.get_text_config().vocab_size)
    plain = [i for i in range(size) if i not in named][:4096] or [0]
    chosen = [plain[(7 * k + 3) % len(plain)] for k in range(_LONG + 1 + _ROWS * _SHORT)]
    long, other = chosen[:_LONG], chosen[_LONG]
    short = [chosen[_LONG + 1 + k * _SHORT :][:_SHORT] for k in range(_ROWS)]
    return pad([long, [*long[:-1], other], *short], pad_id=plain[0], side="left")


def _numbers(config: Any, name: str = "") -> Iterator[int]:
    """Token ids that a configuration names (end of text, an image, ...)."""
    if isinstance(config, dict):
        for key, value in cast("dict[str, Any]", config).items():
            yield from _numbers(value, str(key))
    elif "token" in name and isinstance(config, list):
        yield from (i for i in cast("list[Any]", config) if isinstance(i, int))
    elif "token" in name and isinstance(config, int):
        yield config


def _are(outputs: dict[nn.Module, list[Tensor]], states: Sequence[Tensor]) -> bool:
    """Whether the outputs are the states; the last state has been through the final norm and shows nothing."""
    return all(
        calls[-1].shape == state.shape and (torch.equal(calls[-1].to(state.device), state) or bool(state.isnan().any()))
        for calls, state in zip(list(outputs.values())[:-1], states[1:-1], strict=True)
    )


def _last(seen: Seen, last: nn.Module) -> Float[Tensor, "b s d"]:
    """What the last block handed on."""
    return next(outputs[last][-1] for outputs in seen.outputs if last in outputs)


def _apart(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> float:
    """Median over tokens of the relative difference: one token whose experts were nearly tied says nothing."""
    a, b = a.double().cpu(), b.double().cpu()
    return float(((a - b).norm(dim=-1) / a.norm(dim=-1).clamp(min=1e-12)).median())
