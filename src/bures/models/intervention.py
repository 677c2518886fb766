"""Interventions: transport maps applied to the residual stream, in memory, for the length of a `with` block.

One `Intervention` says which map goes where, to which tokens and how strongly; its one context manager, built on an
`ExitStack`, is the only place in the package that edits activations. Nothing is changed in place, and no hook outlives
the block, whatever is raised inside it or while it is set up.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bures.errors import ConfigError, plain
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of, with_tensor
from bures.models.tokens import are_given, in_scope_of_pass, shown
from bures.models.writers import Role
from bures.results.records import Scope
from bures.transport import TransportMap, interpolate
from bures.transport.prepared import Move, prepared

Where = Literal["output", "input", "attention", "mlp"]


class Site(NamedTuple):
    """A place in the network: the residual stream before or after a block, or what its attention or MLP writes.

    Where several modules write in one of these roles (a state space beside the attention, experts beside the MLP),
    each is moved by itself; in a block that has no attention or no MLP there is nothing to move there.
    """

    block: int
    where: Where = "output"

    @classmethod
    def of(cls, key: object) -> Site:
        """The site that a key of `Intervention.maps` names: a block number, whatever its integer type, or a site.

        Raises:
            ConfigError: it names none.
        """
        block, *where = cast("tuple[object, ...]", key) if isinstance(key, tuple) and key else (key,)
        try:
            if len(where) < 2:
                return cls(operator.index(cast("Any", block)), *cast("Any", where))
        except TypeError:
            pass
        raise ConfigError(
            f"an intervention has maps by block number (an int, such as 13) or by Site; {str(key)[:40]!r} of type "
            f"{type(key).__name__} is neither"
        )


@dataclass(frozen=True)
class Intervention:
    """Transport maps at sites of a network.

    Attributes:
        maps: block number (its output) or `Site` -> map. Empty: the model as it is.
        tokens: which tokens are moved: `all`, `prompt`, `last` (the last prompt token) or `generated`. Pads never are.
        strength: lambda in h + lambda (T(h) - h); 0 does nothing, 1 is the map.
    """

    maps: Mapping[int | Site, TransportMap] = field(default_factory=dict[int | Site, TransportMap])
    tokens: Scope = "all"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.maps), Mapping):
            kind = type(cast("object", self.maps)).__name__
            raise ConfigError(f"the maps are a {kind}; expected a dict from block number to map, such as {{13: T}}")
        for key, map_ in self.maps.items():
            Site.of(key)
            if not callable(map_) or not hasattr(map_, "dim"):
                kind = type(cast("object", map_)).__name__
                raise ConfigError(f"what is given for {key!r} is a {kind}, no map; expected what fit_pca_ot returns")
        if self.tokens not in get_args(Scope):
            raise ConfigError(f"unknown token scope {self.tokens!r}; expected one of {', '.join(get_args(Scope))}")
        if not 0.0 <= self.strength < float("inf"):
            raise ConfigError(f"strength {self.strength} is not a finite number of at least 0; 1 applies the map as is")

    def __repr__(self) -> str:
        """One line: what goes where."""
        if not self.maps:
            return "Intervention(none)"
        kinds = ", ".join(dict.fromkeys(str(getattr(map_, "kind", type(map_).__name__)) for map_ in self.maps.values()))
        wheres = ", ".join(dict.fromkeys(site.where for site in self.sites))
        n, first, last = len(self.blocks), self.blocks[0], self.blocks[-1]
        place = f"block {first}" if n == 1 else f"{n} blocks ({first} to {last})"
        strength = "" if self.strength == 1.0 else f", strength {self.strength:g}"
        return plain(f"Intervention({kinds} at the {wheres} of {place}, tokens {self.tokens}{strength})")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the maps go."""
        return tuple(map(Site.of, self.maps))

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks touched, in order."""
        return tuple(sorted({site.block for site in self.sites}))

    @contextmanager
    def applied(self, model: ChatModel, *, prompt_lengths: Sequence[int] | Tensor | None = None) -> Generator[None]:
        """Applies the maps to every forward pass of `model` inside the `with` block.

        Which tokens are prompt and which are answer is told from the cache, where nobody says: what a pass brings
        before anything is cached is prompt, whatever comes after is answer, one token a pass. So does every generation
        with a cache (transformers' own, `bures.generate`), and `collect`, which has no answer. It is wrong of passes
        that bring prompt and answer together, of prompts that are cached in pieces, and of generation without a cache;
        the last two are refused. Callers that do such things give the lengths of the prompts. Scope `all`, which moves
        both alike, assumes nothing.

        Args:
            model: what they are applied to.
            prompt_lengths: tokens of every row's prompt, pads left out; the rows of all passes are then of these
                prompts, in this order (several rows of each, one after the other, in beam search).

        Raises:
            ConfigError: a block that does not exist, a map of another width, or a site that was not found in this
                architecture; nothing is left behind. Inside the block: a pass whose answer cannot be told.
        """
        self._check(model)
        with ExitStack() as stack:
            if self.maps and self.strength > 0:
                view = _View(self.tokens, _lengths(prompt_lengths))
                view.attach(model, stack)
                for site, map_ in zip(self.sites, self.maps.values(), strict=True):
                    _attach(model, site, _Edit(map_, self.strength, view), stack)
            yield

    def _check(self, model: ChatModel) -> None:
        if not isinstance(cast("object", model), ChatModel):
            raise ConfigError(
                f"an intervention is applied to what load_model or wrap returns, not to a {type(model).__name__}"
            )
        for site, map_ in zip(self.sites, self.maps.values(), strict=True):
            if not 0 <= site.block < len(model.blocks):
                raise ConfigError(
                    f"block {site.block} does not exist in {model.name}; expected 0 to {len(model.blocks) - 1}"
                )
            if site.where not in get_args(Where):
                raise ConfigError(f"unknown site {site.where!r}; expected one of {', '.join(get_args(Where))}")
            if site.where in get_args(Role):
                model.parts.writers(site.block, cast("Role", site.where))
            if map_.dim != model.d_model:
                raise ConfigError(
                    f"the map for block {site.block} has width {map_.dim} but {model.name} has {model.d_model}; "
                    "fit it on activations of this model"
                )


def _lengths(given: Any) -> Tensor | None:
    """Lengths of prompts as a tensor of whole numbers, 1 at least."""
    if given is None:
        return None
    try:
        found = torch.as_tensor(given).cpu()
        is_fine = found.ndim == 1 and len(found) > 0 and not found.is_floating_point() and bool((found > 0).all())
    except (TypeError, ValueError, RuntimeError):
        is_fine, found = False, torch.empty(0)
    if not is_fine:
        raise ConfigError("prompt_lengths are no list of whole numbers, 1 at least; give the tokens of every prompt")
    return found.long()


class _View:
    """What the current forward pass shows: which of its positions are in scope.

    The mask is read where the pass begins. A decoder inside a larger model may be handed masks that are made for its
    kinds of attention, so it is asked only where it is called by itself.
    """

    def __init__(self, scope: Scope, prompt_lengths: Tensor | None) -> None:
        self.scope: Scope = scope
        self.prompt_lengths = prompt_lengths
        self.before: Tensor | None = None  # the ids of the last pass without a cache
        self.chosen: Bool[Tensor, "b s"] | None = None  # None: every position
        self.nothing = False
        self.inside = False

    def attach(self, model: ChatModel, stack: ExitStack) -> None:
        """Registers the hooks that read; `stack` removes them."""
        decoder, hf = model.decoder, model.hf
        stack.callback(decoder.register_forward_pre_hook(self.read, with_kwargs=True).remove)
        if hf is not decoder:
            stack.callback(hf.register_forward_pre_hook(self.enter, with_kwargs=True).remove)
            stack.callback(hf.register_forward_hook(self.leave, always_call=True).remove)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the whole model."""
        self.inside = False
        self.read(module, args, kwargs)
        self.inside = True

    def leave(self, *_: Any) -> None:
        """Forward hook of the whole model, called whatever was raised."""
        self.inside = False

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the decoder."""
        if self.inside:
            return
        if self.scope != "all" and self.prompt_lengths is None and not are_given():
            self._require_told(*shown(module, args, kwargs))
        chosen = in_scope_of_pass(module, args, kwargs, self.scope, self.prompt_lengths)
        if torch.compiler.is_compiling():  # nothing may branch on what a tensor holds
            self.chosen, self.nothing = chosen, False
            return
        is_whole = bool(chosen.all())
        self.chosen = None if is_whole else chosen
        self.nothing = not is_whole and not bool(chosen.any())

    def _require_told(self, ids: Tensor, _: Any, cached: int) -> None:
        """Refuses passes whose answer would be taken for prompt, or prompt for answer."""
        what = None
        if cached and ids.shape[1] > 1:
            what = f"{ids.shape[1]} tokens come behind {cached} cached ones, which may be the rest of a prompt"
        grown = None if cached or ids.is_floating_point() else ids
        old = self.before
        if grown is not None and old is not None and torch.equal(grown[:, :-1], old):
            what = "the same tokens come again with one more, as in generation without a cache"
        self.before = grown
        if what is not None:
            raise ConfigError(
                f"token scope {self.scope!r} cannot tell prompt from answer: {what}; give prompt_lengths to applied(), "
                "or generate with a cache"
            )


class _Edit:
    """Forward hook: h + lambda (T(h) - h) at the positions in scope."""

    def __init__(self, map_: TransportMap, strength: float, view: _View) -> None:
        self.map = interpolate(map_, strength)
        self.view = view
        self.ready: dict[tuple[torch.device, torch.dtype], Move] = {}

    def _moved(self, h: Tensor) -> Tensor:
        """T(h). float32 is enough to apply a map (the fit was float64); half precision is not."""
        kind = (h.device, h.dtype)
        move = self.ready.get(kind)
        if move is None:
            wide = torch.promote_types(h.dtype, torch.float32)
            self.ready[kind] = move = prepared(self.map, h.device, wide)
        return move(h)

    def move(self, h: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        if self.view.nothing:
            return h
        moved = self._moved(h)
        if self.view.chosen is None:
            return moved
        chosen = self.view.chosen.to(h.device)
        if h.ndim == 3:
            chosen = chosen[:, -h.shape[1] :]  # late blocks may compute only the positions whose logits are wanted
        chosen = chosen.reshape(h.shape[:-1])  # a block may lay all its tokens in one row
        return torch.where(chosen[..., None], moved, h)

    def after(self, _: nn.Module, __: Any, output: Any) -> Any:
        return with_tensor(output, self.move(tensor_of(output)))

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self.move(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self.move(kwargs["hidden_states"])}


def _attach(model: ChatModel, site: Site, edit: _Edit, stack: ExitStack) -> None:
    """Registers one edit, on every module that writes at its site; `stack` removes it."""
    if site.where == "input":
        handle = model.blocks[site.block].register_forward_pre_hook(edit.before, with_kwargs=True)
        stack.callback(handle.remove)
        return
    output = (model.blocks[site.block],)
    for module in output if site.where == "output" else model.parts.writers(site.block, site.where):
        stack.callback(module.register_forward_hook(edit.after).remove)


def moves_prompts(intervention: Intervention) -> bool:
    """Whether it moves what stands before a prompt's last token."""
    return bool(intervention.maps) and intervention.tokens in ("all", "prompt")


def count_hooks(model: ChatModel) -> int:
    """How many forward hooks hang on the model; equal before and after proves that none was left.

    Not 0 on an idle model: transformers keeps hooks of its own once `output_hidden_states` has been asked for.
    """
    kinds = ("_forward_hooks", "_forward_pre_hooks")  # torch has no public way to count them
    return sum(len(getattr(module, kind)) for module in model.hf.modules() for kind in kinds)
