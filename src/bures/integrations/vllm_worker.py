"""What runs inside vLLM's workers: transport maps on the decoder's blocks, while vLLM generates.

vLLM mixes `Bures` into its worker class (`worker_extension_cls`); the engine in the main process then calls the
`bures_*` methods by name, with JSON text as the only argument. Maps arrive as files.

Two things differ from transformers. A pass holds the new tokens of all requests one behind the other, (tokens, d), so
which of them are prompt and which are answer is reckoned from the runner's book-keeping and checked against the
positions that the model is given. And a block may return (h, r), where the residual stream is h + r: the map gets that
sum, and (T(h + r), 0) is handed on. This module does not import vLLM.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from bures.errors import ConfigError, ModelError
from bures.models.tokens import TokenKind, in_scope
from bures.results.records import Scope
from bures.transport import TransportMap, interpolate, load_map

Move = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""(h, r) to (h, r), both (tokens, d); r is None where a module has no residual beside its output."""


class Bures:
    """Methods of every worker, called by name from the main process. All state is in `bures_stack`."""

    model_runner: Any
    rank: int

    def bures_attach(self, spec: str) -> None:
        """Applies an intervention to every pass from now on; one that was applied before is taken off.

        Args:
            spec: JSON with `modules` (see `find_modules`), `tokens`, `strength` and `sites`: `block`, `where`, `path`.
        """
        self.bures_detach()
        self.bures_stack = attached(self.model_runner, json.loads(spec))

    def bures_watch(self, spec: str) -> None:
        """Keeps what passes the sites at the last token of the next pass.

        Args:
            spec: JSON with `modules` and `sites`: `block`, `where`.
        """
        self.bures_detach()
        self.bures_seen: dict[str, Tensor] = {}
        self.bures_stack = watched(self.model_runner, json.loads(spec), self.bures_seen)

    def bures_tell(self, path: str) -> None:
        """Writes what `bures_watch` kept to a safetensors file, tensors named `where.block`; the first worker does."""
        if self.rank == 0:
            save_file({name: row.contiguous() for name, row in self.bures_seen.items()}, path)

    def bures_detach(self) -> None:
        """Takes every hook off again."""
        stack: ExitStack | None = getattr(self, "bures_stack", None)
        if stack is not None:
            stack.close()
        self.bures_stack = None

    def bures_hooks(self) -> int:
        """How many forward hooks hang on the model."""
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in self.model_runner.get_model().modules())


# Setting up -------------------------------------------------------------------------------------------------------


def attached(runner: Any, spec: Mapping[str, Any]) -> ExitStack:
    """The hooks of an intervention, in a stack that takes them off; none is left where this raises."""
    model: nn.Module = runner.get_model()
    with ExitStack() as stack:
        blocks = find_modules(model, spec["modules"])
        step = Step(runner, spec["tokens"])
        if spec["tokens"] != "all":
            stack.callback(blocks["output"][0].register_forward_pre_hook(step.read, with_kwargs=True).remove)
        loaded: dict[str, TransportMap] = {}
        for site in spec["sites"]:
            path = site["path"]
            if path not in loaded:
                map_ = interpolate(load_map(path), spec["strength"])
                loaded[path] = map_.to(device=next(model.parameters()).device, dtype=torch.float32)
            stack.callback(_hook(blocks, site, Mover(loaded[path], step)).remove)
        return stack.pop_all()


def watched(runner: Any, spec: Mapping[str, Any], seen: dict[str, Tensor]) -> ExitStack:
    """Hooks that fill `seen` in the first pass, in a stack that takes them off."""
    with ExitStack() as stack:
        modules = find_modules(runner.get_model(), spec["modules"])
        for site in spec["sites"]:

            def keep(h: Tensor, r: Tensor | None, name: str = f"{site['where']}.{site['block']}") -> Any:
                if name not in seen:
                    seen[name] = (h if r is None else h + r)[-1].detach().float().cpu().clone()
                return h, r

            stack.callback(_hook(modules, site, keep).remove)
        return stack.pop_all()


def find_modules(model: nn.Module, names: Mapping[str, Any]) -> dict[str, list[nn.Module]]:
    """The modules whose output is read or written, block by block.

    Args:
        model: vLLM's model.
        names: `depth`, how many blocks there are, and the names that the attention and the MLP (or the norm behind it)
            have in a block of the transformers model. vLLM's models keep them, since checkpoints are loaded by name.

    Raises:
        ModelError: there is not one list of so many blocks, or a block lacks such a module.
    """
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == names["depth"]]
    if len(lists) != 1:
        raise ModelError(
            f"{len(lists)} lists of {names['depth']} blocks in vLLM's {type(model).__name__}, expected one"
        )
    found: dict[str, list[nn.Module]] = {"output": list(lists[0]), "input": list(lists[0])}
    for where in ("attention", "mlp"):
        children = [getattr(block, names[where], None) for block in lists[0]]
        found[where] = [child for child in children if isinstance(child, nn.Module)]
        if len(found[where]) != names["depth"]:
            found[where] = []
    return found


def _hook(modules: Mapping[str, list[nn.Module]], site: Mapping[str, Any], move: Move) -> Any:
    """Registers a move at a site and returns its handle."""
    where = site["where"]
    if not modules[where]:
        raise ModelError(f"no {where} modules in vLLM's blocks")
    module = modules[where][site["block"]]
    if where == "input":
        return module.register_forward_pre_hook(_before(module, move), with_kwargs=True)
    return module.register_forward_hook(_after(move))


def _before(block: nn.Module, move: Move) -> Callable[..., Any]:
    """Forward pre-hook of a block, which is given `hidden_states`, with or without a `residual`."""
    signature = inspect.signature(block.forward)

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = signature.bind(*args, **kwargs)
        if "hidden_states" not in bound.arguments:
            raise ModelError(f"{type(block).__name__} is given no hidden_states")
        h, r = move(bound.arguments["hidden_states"], bound.arguments.get("residual"))
        bound.arguments["hidden_states"] = h
        if "residual" in bound.arguments:
            bound.arguments["residual"] = r
        return bound.args, bound.kwargs

    return hook


def _after(move: Move) -> Callable[..., Any]:
    """Forward hook of a module that returns its output, or that and a residual."""

    def hook(module: nn.Module, _: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return move(output, None)[0]
        if isinstance(output, tuple) and len(output) == 2 and all(isinstance(part, Tensor) for part in output):
            return move(*output)
        raise ModelError(f"{type(module).__name__} returns neither a tensor nor a tensor and its residual")

    return hook


# In every pass ----------------------------------------------------------------------------------------------------


class Step:
    """Which tokens of the current pass are in scope."""

    def __init__(self, runner: Any, scope: Scope) -> None:
        self.runner = runner
        self.scope: Scope = scope
        self.chosen: Bool[Tensor, " tokens"] | None = None  # None: all of them
        self.nothing = False

    def read(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the first block.

        Raises:
            ConfigError: the runner is not the one that this was written for, or its books do not fit the pass.
        """
        given = inspect.signature(block.forward).bind(*args, **kwargs).arguments
        if "positions" not in given:
            raise ConfigError(f"{type(block).__name__} is given no positions; use token scope 'all'")
        kinds, places = packed_kinds(*_books(self.runner))
        positions = given["positions"]
        device, width = positions.device, positions.shape[-1]
        if positions.ndim != 1 or len(places) > width or not torch.equal(positions[: len(places)], places.to(device)):
            raise ConfigError("vLLM's positions are not those of its requests; use token scope 'all'")
        kinds = torch.nn.functional.pad(kinds, (0, width - len(places)), value=TokenKind.PAD)
        chosen = in_scope(kinds[None], self.scope)[0]
        self.nothing = not bool(chosen.any())
        self.chosen = None if bool(chosen.all()) else chosen.to(device)


def _books(runner: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The first token of every request in the pass and the end, how far each was computed before, and its prompt."""
    try:
        batch = runner.input_batch
        n = int(batch.num_reqs)
        starts, computed = runner.query_start_loc.np[: n + 1], batch.num_computed_tokens_cpu[:n]
        prompts = batch.num_prompt_tokens[:n]
    except AttributeError as error:
        raise ConfigError(f"this vLLM's model runner is not known here ({error}); use token scope 'all'") from error
    return torch.tensor(starts).long(), torch.tensor(computed).long(), torch.tensor(prompts).long()


def packed_kinds(
    starts: Int[Tensor, " ends"], computed: Int[Tensor, " n"], prompts: Int[Tensor, " n"]
) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " tokens"]]:
    """Kinds of the tokens of a packed pass, and their places in their requests.

    Args:
        starts: where each request's new tokens begin, and behind the last one where they end.
        computed: how many tokens of each request earlier passes held (also where a prompt comes in chunks, or is
            computed again after its cache was given up).
        prompts: how many tokens its prompt has.
    """
    owner = torch.repeat_interleave(torch.arange(len(prompts)), starts.diff())
    places = torch.arange(len(owner)) - starts[owner] + computed[owner]
    last = prompts[owner] - 1
    kinds = torch.where(places < last, TokenKind.PROMPT, TokenKind.GENERATED)
    return torch.where(places == last, TokenKind.LAST, kinds), places


class Mover:
    """T at the tokens in scope; the others keep their h and r bit for bit."""

    def __init__(self, map_: TransportMap, step: Step) -> None:
        self.map = map_
        self.step = step

    def __call__(
        self, h: Float[Tensor, "tokens d"], r: Float[Tensor, "tokens d"] | None
    ) -> tuple[Float[Tensor, "tokens d"], Float[Tensor, "tokens d"] | None]:
        if self.step.nothing:
            return h, r
        moved = self.map(h if r is None else h + r)
        if self.step.chosen is None:
            return moved, None if r is None else torch.zeros_like(r)
        chosen = self.step.chosen[:, None]
        return torch.where(chosen, moved, h), None if r is None else torch.where(chosen, 0, r)
