"""Interventions: transport maps applied to the residual stream, in memory, for the length of a `with` block.

One `Intervention` says which map goes where, to which tokens and how strongly; its one context manager, built on an
`ExitStack`, is the only place in the package that edits activations. Nothing is changed in place, and no hook outlives
the block, whatever is raised inside it or while it is set up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bures.errors import ConfigError
from bures.models.loading import ChatModel
from bures.models.probing import tensor_of, with_tensor
from bures.models.tokens import in_scope, kinds_of_pass
from bures.models.writers import Role
from bures.results.records import Scope
from bures.transport import TransportMap, interpolate

Where = Literal["output", "input", "attention", "mlp"]


class Site(NamedTuple):
    """A place in the network: the residual stream before or after a block, or what its attention or MLP writes.

    Where several modules write in one of these roles (a state space beside the attention, experts beside the MLP),
    each is moved by itself; in a block that has no attention or no MLP there is nothing to move there.
    """

    block: int
    where: Where = "output"


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
        if self.tokens not in get_args(Scope):
            raise ConfigError(f"unknown token scope {self.tokens!r}; expected one of {', '.join(get_args(Scope))}")
        if not 0.0 <= self.strength < float("inf"):
            raise ConfigError(f"strength {self.strength} is not a finite number of at least 0; 1 applies the map as is")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the maps go."""
        return tuple(Site(key) if isinstance(key, int) else Site(*key) for key in self.maps)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks touched, in order."""
        return tuple(sorted({site.block for site in self.sites}))

    @contextmanager
    def applied(self, model: ChatModel) -> Iterator[None]:
        """Applies the maps to every forward pass of `model` inside the `with` block.

        Raises:
            ConfigError: a block that does not exist, a map of another width, or a site that was not found in this
                architecture. Nothing is left behind.
        """
        self._check(model)
        with ExitStack() as stack:
            if self.maps and self.strength > 0:
                view = _View(self.tokens)
                view.attach(model, stack)
                for site, map_ in zip(self.sites, self.maps.values(), strict=True):
                    _attach(model, site, _Edit(map_, self.strength, view), stack)
            yield

    def _check(self, model: ChatModel) -> None:
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


class _View:
    """What the current forward pass shows: which of its positions are in scope.

    The mask is read where the pass begins. A decoder inside a larger model may be handed masks that are made for its
    kinds of attention, so it is asked only where it is called by itself.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope
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
        chosen = in_scope(kinds_of_pass(module, args, kwargs), self.scope)
        self.nothing = not bool(chosen.any())
        self.chosen = None if bool(chosen.all()) else chosen


class _Edit:
    """Forward hook: h + lambda (T(h) - h) at the positions in scope."""

    def __init__(self, map_: TransportMap, strength: float, view: _View) -> None:
        # float32 is enough to apply a map (the fit was float64); half precision is not.
        self.map = interpolate(map_, strength).to(dtype=torch.float32)
        self.view = view
        self.on: dict[torch.device, TransportMap] = {}

    def _map_on(self, device: torch.device) -> TransportMap:
        if device not in self.on:
            self.on[device] = self.map.to(device=device)
        return self.on[device]

    def move(self, h: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        if self.view.nothing:
            return h
        moved = self._map_on(h.device)(h)
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


def count_hooks(model: ChatModel) -> int:
    """How many forward hooks hang on the model; equal before and after proves that none was left.

    Not 0 on an idle model: transformers keeps hooks of its own once `output_hidden_states` has been asked for.
    """
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())
