"""Going on behind a block whose output is held, instead of computing again what did not change.

The held-back modules return what is held; everything else (masks, rotary embeddings, sliding windows, sharding, scaled
logits) is the model's own forward pass, so no architecture needs code of its own. Where later blocks use more than the
stream (the keys and values of an earlier block, say), a pass that enters there is another one: so each place is tried
once a model against a whole pass, and `Entries` remembers what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from bures.models.room import is_out_of_memory

if TYPE_CHECKING:
    from bures.models.loading import ChatModel

_SAME = 1e-3
"""Largest difference of a log-probability in one pass computed twice in float32."""

_SAME_IN_HALF = 0.02
"""Largest KL, in nats, between the two in half precision, where sums over other numbers of rows round otherwise."""


@dataclass
class Entries:
    """Where a pass may begin.

    Attributes:
        behind: block -> whether a pass that begins behind it is the whole one; blocks that were not tried are left out.
        at_head: the same of what follows the decoder; None: not tried.
        over_prefix: the same of what stands behind the common beginning of prompts.
        over_cache: the same of the end of a prompt, over the keys and values of what stands before it.
    """

    behind: dict[int, bool] = field(default_factory=dict[int, bool])
    at_head: bool | None = None
    over_prefix: bool | None = None
    over_cache: bool | None = None

    @classmethod
    def nowhere(cls, n_blocks: int) -> Entries:
        """Of a model of which every pass is a whole one, of all places through all blocks: what others are held to."""
        return cls(dict.fromkeys(range(n_blocks), False), at_head=False, over_prefix=False, over_cache=False)


def same(found: Tensor, whole: Tensor, dtype: torch.dtype) -> bool:
    """Whether log-probabilities (rows, vocabulary) are those of one pass computed twice."""
    if dtype == torch.float32:
        both_zero = found.isneginf() & whole.isneginf()
        return bool((((found - whole).abs() <= _SAME) | both_zero).all())
    kl = torch.where(whole.isneginf(), 0.0, whole.exp() * (whole - found)).sum(dim=-1)
    return bool((kl <= _SAME_IN_HALF).all())


def agrees(computed: Callable[[], Tensor], whole: Tensor, dtype: torch.dtype) -> bool:
    """Whether log-probabilities that are computed another way are those of the whole pass; False where they cannot be.

    Raises:
        Exception: memory ran out.
    """
    try:
        found = computed()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False  # a modelling file misses what is not computed
    return same(found, whole, dtype)


@contextmanager
def entered(model: ChatModel, block: int, output: Any) -> Generator[None]:
    """Inside, the blocks up to this one return the given output at once; their hooks still see it pass."""
    with ExitStack() as stack:
        for module in model.blocks[: block + 1]:
            stack.enter_context(returning(module, output))
        yield


class _End(Exception):  # noqa: N818
    """Ends a forward pass; never leaves `ended`."""


@contextmanager
def ended(model: ChatModel, block: int) -> Generator[None]:
    """Around one forward pass, which ends when a block has handed on its output."""

    def end(*_: object) -> None:
        raise _End

    handle = model.blocks[block].register_forward_hook(end)
    try:
        yield
    except _End:
        return
    finally:
        handle.remove()


@contextmanager
def returning(module: nn.Module, output: Any) -> Generator[None]:
    """Inside, a module returns the given output instead of computing."""
    own = module.__dict__.get("forward")  # set where a library has wrapped the module's forward
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def keeping(found: dict[Any, Any], key: object) -> Callable[..., None]:
    """A forward hook that puts what a module returns under a key."""

    def hook(_: object, __: object, output: Any) -> None:
        found[key] = output

    return hook


def shortened(returned: Any, keep: int) -> Any:
    """What a decoder returned, of the last positions alone; None where it is not what transformers' own return."""
    states: object = getattr(returned, "last_hidden_state", None)
    if not isinstance(states, Tensor):
        return None
    return cast("Any", type(returned))(last_hidden_state=states[:, -keep:].clone())  # and no keys and values


def end_of(stream: Any, end: int) -> Any:
    """The last positions of what a block hands on: a tensor, or a tuple that begins with one."""
    if isinstance(stream, tuple):
        return (stream[0][:, -end:], *stream[1:])
    return stream[:, -end:] if isinstance(stream, Tensor) else stream


def rows_of(stream: Any, rows: slice) -> Any:
    """Some rows of what a block hands on: a tensor, or a tuple that begins with one."""
    if isinstance(stream, tuple):
        return (stream[0][rows], *stream[1:])
    return stream[rows] if isinstance(stream, Tensor) else stream
