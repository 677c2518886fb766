"""What writes to the residual stream, found by what is added and not by what a module is called.

One forward pass in which every block reads noise instead of its input, and every module directly inside it returns
noise instead of its output. What the block then hands on is a weighted sum of those noises, and the weights are read
off by least squares: a module with a weight writes to the stream (an attention, or the norm behind it), one without
does not (an attention before a norm). If the sum leaves anything unexplained, something else writes too, and nothing
is claimed. As all terms are noise of one size, the check is as sharp in bfloat16 as in float32.

Some blocks put the stream itself through a module (a norm behind the sum, a module that adds the residual). Its output
is then the stream, and what stood before is sought in what that module was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bures.models.batching import positions
from bures.models.probing import tensor_of, tolerance, with_tensor

Role = Literal["attention", "mlp"]

_TOKENS = 6


@dataclass(frozen=True)
class Writers:
    """Block and role -> the modules whose outputs are added; and, where every block has one, column by column."""

    written: Mapping[tuple[int, Role], tuple[nn.Module, ...]] = field(
        default_factory=dict[tuple[int, Role], tuple[nn.Module, ...]]
    )
    attentions: tuple[nn.Module, ...] | None = None
    mlps: tuple[nn.Module, ...] | None = None
    others: tuple[nn.Module, ...] | None = None


@torch.inference_mode()
def find_writers(decoder: nn.Module, blocks: Sequence[nn.Module], ids: Tensor) -> tuple[Writers, str]:
    """What writes to the stream in each block; and why nothing is claimed (empty: it was found).

    Args:
        decoder: the network without `lm_head`.
        blocks: its blocks.
        ids: plain token ids (b, s) on the decoder's device.
    """
    ids = ids[:1, :_TOKENS]
    traces = [_Trace(block, number) for number, block in enumerate(blocks)]
    with ExitStack() as stack:
        for trace in traces:
            trace.attach(stack)
        ones = torch.ones_like(ids)
        decoder(input_ids=ids, attention_mask=ones, position_ids=positions(ones), use_cache=False)
    found: list[list[tuple[nn.Module, Role]]] = []
    for number, trace in enumerate(traces):
        writers = trace.writers()
        if writers is None:
            return Writers(), f"what block {number} hands on is not its input plus what its modules return"
        found.append(writers)
    modules = [id(module) for writers in found for module, _ in writers]
    if len(set(modules)) < len(modules):
        return Writers(), "blocks share the modules that write"
    return _columns(found), ""


def _columns(found: Sequence[Sequence[tuple[nn.Module, Role]]]) -> Writers:
    written: dict[tuple[int, Role], tuple[nn.Module, ...]] = {}
    for block, writers in enumerate(found):
        for role in ("attention", "mlp"):
            modules = tuple(module for module, its in writers if its == role)
            if modules:
                written[block, role] = modules
    rest = [[module for module, _ in writers] for writers in found]
    columns: dict[Role, tuple[nn.Module, ...] | None] = {}
    for role in ("attention", "mlp"):
        firsts = [written[block, role][0] for block in range(len(found)) if (block, role) in written]
        columns[role] = tuple(firsts) if len(firsts) == len(found) else None
        if len(firsts) == len(found):
            for modules, first in zip(rest, firsts, strict=True):
                modules.remove(first)
    others = tuple(modules[0] for modules in rest) if all(len(modules) == 1 for modules in rest) else None
    return Writers(written, columns["attention"], columns["mlp"], others)


@dataclass
class _Call:
    """One call of a module: what it was given of the stream's shape, and the noise that it returned."""

    module: nn.Module
    given: list[Tensor]
    noise: Tensor


class _Trace:
    """One block under noise."""

    def __init__(self, block: nn.Module, number: int) -> None:
        self.block = block
        self.generator = torch.Generator().manual_seed(number)
        self.source: Tensor | None = None
        self.calls: list[_Call] = []
        self.output: Tensor | None = None

    def attach(self, stack: ExitStack) -> None:
        """Registers the hooks; `stack` removes them."""
        stack.callback(self.block.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
        for module in _inside(self.block):
            stack.callback(module.register_forward_hook(self._return, with_kwargs=True).remove)
        stack.callback(self.block.register_forward_hook(self._leave).remove)

    # The hooks ----------------------------------------------------------------------------------------------------

    def _noise(self, like: Tensor) -> Tensor:
        """Of another length at every token, so that a norm is not a factor."""
        drawn = torch.randn(_TOKENS, like.numel() // _TOKENS, generator=self.generator)
        drawn *= torch.linspace(0.5, 2.0, _TOKENS)[torch.randperm(_TOKENS, generator=self.generator)][:, None]
        return drawn.reshape(like.shape).to(like)

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args and "hidden_states" not in kwargs:
            return None
        self.source = self._noise(args[0] if args else kwargs["hidden_states"])
        given = self.source.clone()  # some blocks work in place
        return ((given, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": given})

    def _return(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        returned = tensor_of(output)
        if self.source is None or not self._is_stream(returned):
            return None
        given = [t.detach().clone() for t in (*args, *kwargs.values()) if self._is_stream(t)]
        call = _Call(module, given, self._noise(returned))
        self.calls.append(call)
        return with_tensor(output, call.noise.clone())

    def _leave(self, _: nn.Module, __: Any, output: Any) -> None:
        self.output = tensor_of(output).detach().clone()

    def _is_stream(self, value: Any) -> bool:
        return (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and self.source is not None
            and value.numel() == self.source.numel()
            and value.shape[-1] == self.source.shape[-1]
        )

    # The sums -----------------------------------------------------------------------------------------------------

    def writers(self) -> list[tuple[nn.Module, Role]] | None:
        """The modules that write, in the order of their calls; None: the block's output is not explained."""
        if self.output is None:
            return None
        chain = self._chain(self.output, hidden=False)
        if chain is None:
            return None
        carriers = [call for call, carries in chain if carries]
        found: dict[nn.Module, Role] = {}
        for call in sorted((call for call, _ in chain), key=self.calls.index):
            found.setdefault(call.module, "attention" if self._mixes(call, carriers) else "mlp")
        return list(found.items())

    def _chain(self, total: Tensor, *, hidden: bool) -> list[tuple[_Call, bool]] | None:
        """The calls that write to the stream up to `total`, and whether each carries the stream through itself.

        Args:
            total: the stream at some place of the block.
            hidden: only one module is given it, and hands on the stream itself: what was added before is covered.
        """
        terms = self._terms(total)
        if terms is None:
            return None
        direct = None in terms
        calls = [call for call in terms if call is not None]
        if direct:
            return [] if hidden else [(call, False) for call in calls]
        ways: list[list[tuple[_Call, bool]]] = []
        for carrier in calls:
            visible = [(call, call is carrier) for call in calls if not hidden or call is carrier]
            befores = [self._chain(given, hidden=self._is_for_one(given)) for given in carrier.given]
            ways += [[*before, *visible] for before in befores if before is not None]
        return min(ways, key=len, default=None)  # a module may be given the stream twice, once through a norm

    def _terms(self, total: Tensor) -> list[_Call | None] | None:
        """What a tensor is the weighted sum of: calls, and None for the block's input. None: it is no such sum."""
        if self.source is None:
            return None
        names: list[_Call | None] = [None, *self.calls]
        basis = torch.stack([_flat(self.source), *(_flat(call.noise) for call in self.calls)], dim=1)
        target = _flat(total)
        weights = torch.linalg.lstsq(basis, target[:, None]).solution[:, 0]
        limit = tolerance(total.dtype)
        if not (basis @ weights - target).norm() < limit * target.norm():
            return None
        sizes = weights.abs()
        return [name for name, size in zip(names, sizes.tolist(), strict=True) if size > limit * float(sizes.max())]

    def _is_for_one(self, tensor: Tensor) -> bool:
        """Whether a single module is given this tensor."""
        return sum(any(torch.equal(_flat(t), _flat(tensor)) for t in call.given) for call in self.calls) == 1

    def _mixes(self, call: _Call, carriers: Sequence[_Call]) -> bool:
        """Whether what a call returns comes from a module that reads a mask, without the stream in between."""
        if reads_mask(call.module):
            return True
        for given in call.given:
            terms = self._terms(given)
            if terms is None or (None in terms and not (call in carriers and self._is_for_one(given))):
                continue  # it reads the stream itself
            if any(t is not None and t not in carriers and self._mixes(t, carriers) for t in terms):
                return True
        return False


def _flat(tensor: Tensor) -> Float[Tensor, " n"]:
    return tensor.detach().flatten().double().cpu()


def reads_mask(module: nn.Module) -> bool:
    """Whether a module takes an attention mask."""
    return any("attention_mask" in name for name in inspect.signature(module.forward).parameters)


def _inside(block: nn.Module) -> Iterator[nn.Module]:
    """The modules that a block calls itself; in evaluation mode a dropout only hands on what it is given."""
    for child in block.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _inside(child)
        elif not isinstance(child, nn.Dropout | nn.Identity):
            yield child
