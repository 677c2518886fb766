"""The methods under test: how each one turns activations into an intervention.

A method fits one map per block. On several blocks the transport maps are fitted in sequence, each on activations that
the earlier maps have already moved (Rodriguez et al., arXiv 2410.23054, section 3), because a map fitted on untouched
activations would move again what has been moved. Ablations are projections and need no such order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bures.data.extensions import Registry
from bures.errors import ConfigError, FitError
from bures.models.architecture import tensor_of
from bures.models.batching import pad, positions
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel
from bures.models.tokens import in_scope, kinds_of
from bures.results.records import Candidate, Scope
from bures.transport import (
    TransportMap,
    ablate_direction,
    fit_act,
    fit_mean_shift,
    fit_pca_ot,
    fit_pca_ot_path,
    fit_rfa,
    interpolate,
)

Rows = Float[Tensor, "n d"]
Targets = Float[Tensor, "m d"]
Fit = Callable[[Rows, Targets], TransportMap]


@dataclass(frozen=True)
class FitOptions:
    """What the Gaussian fit is regularised with: see `fit_pca_ot`."""

    ridge: float | None = None
    shrinkage: Literal["ledoit-wolf", "oas"] | None = None

    def keywords(self) -> dict[str, Any]:
        """Keywords for `fit_pca_ot`; the ridge is left to its documented default unless it was given."""
        given: dict[str, Any] = {"shrinkage": self.shrinkage}
        return given if self.ridge is None else {**given, "ridge": self.ridge}


@dataclass(frozen=True)
class Method:
    """One way to turn source and target activations into a map.

    Attributes:
        name: on the command line.
        label: in tables.
        sequential: whether several blocks are fitted one after the other on moved activations.
        fit: (source, target, rank, options) -> map; the rank is 0 for a method without one. Raises `FitError` where
            the activations do not allow it.
        ranked: whether it has a rank K.
        ablates: whether its map takes a direction away, however short the gap along it is.
    """

    name: str
    label: str
    sequential: bool
    fit: Callable[[Rows, Targets, int, FitOptions], TransportMap]
    ranked: bool = False
    ablates: bool = False


def _pca_ot(source: Rows, target: Targets, rank: int, options: FitOptions) -> TransportMap:
    return fit_pca_ot(source, target, rank, **options.keywords())


METHODS: Mapping[str, Method] = Registry(
    "bures.methods",
    Method,
    {
        m.name: m
        for m in (
            Method("rfa", "RFA", False, lambda x, y, _, __: fit_rfa(x, y), ablates=True),
            Method(
                "rfa-mean",
                "RFA + harmless mean",
                False,
                lambda x, y, _, __: fit_rfa(x, y, add_target_mean=True),
                ablates=True,
            ),
            Method("act", "Linear-AcT", True, lambda x, y, _, __: fit_act(x, y)),
            Method(
                "act-interval", "Linear-AcT, source interval", True, lambda x, y, _, __: fit_act(x, y, interval=True)
            ),
            Method("mean-act", "Mean-AcT", True, lambda x, y, _, __: fit_mean_shift(x, y)),
            Method("pca-ot", "PCA-OT", True, _pca_ot, ranked=True),
        )
    },
)
"""Ours, and those of installed packages (entry point group `bures.methods`)."""


def fit_of(name: str, rank: int | None, options: FitOptions) -> Fit:
    """The fit function of a method: (source, target) -> map.

    Raises:
        ConfigError: an unknown method, or a ranked one without a rank.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
    method = METHODS[name]
    if method.ranked and rank is None:
        raise ConfigError(f"method {name} needs a rank K; give --ranks")
    return lambda source, target: method.fit(source, target, rank or 0, options)


def fit_block(
    name: str, source: Rows, target: Targets, ranks: Sequence[int], options: FitOptions
) -> dict[int, TransportMap]:
    """All maps of a method at one block: rank -> map (rank 0 for methods without one); PCA-OT's decomposes once."""
    if name == "pca-ot":
        return dict(fit_pca_ot_path(source, target, list(ranks), **options.keywords()))
    if METHODS[name].ranked:
        return {rank: fit_of(name, rank, options)(source, target) for rank in ranks}
    return {0: fit_of(name, None, options)(source, target)}


def fit_reversed(
    name: str, source: Rows, target: Targets, ranks: Sequence[int], options: FitOptions
) -> dict[int, TransportMap]:
    """The maps of a method the other way, from target to source: what should make harmless prompts look harmful.

    An ablation has no way back; its reverse puts the source's mean along the direction, as `rfa-mean` does forwards.
    """
    return fit_block("rfa-mean" if name == "rfa" else name, target, source, ranks, options)


def arditi_sites(direction_block: TransportMap, n_blocks: int) -> dict[int | Site, TransportMap]:
    """One direction removed everywhere: block input, attention output and MLP output (Arditi et al., section 2.4).

    Args:
        direction_block: an RFA map; its direction is the one removed.
        n_blocks: depth of the network.
    """
    basis: Any = direction_block
    erase = ablate_direction(basis.basis_in[:, 0])
    return {Site(block, where): erase for block in range(n_blocks) for where in ("input", "attention", "mlp")}


@torch.inference_mode()
def fit_in_sequence(
    model: ChatModel,
    prompts: Iterable[str],
    targets: Mapping[int, Targets],
    fit: Fit,
    *,
    tokens: Scope,
    strength: float = 1.0,
    system: str | None = None,
) -> dict[int, TransportMap]:
    """Fits a map at each block of `targets`, first to last, each on source activations moved by the maps before it.

    The whole source set goes through the network once: at each wanted block the map is fitted on the last prompt token
    and applied, before the next block sees anything. All prompts are one batch, so memory grows with their number.

    Args:
        model: the model.
        prompts: the source prompts.
        targets: block -> the target's untouched activations there.
        fit: (source, target) -> map.
        tokens: the scope that the maps will be applied with.
        strength: lambda they will be applied with.
        system: optional system prompt.

    Raises:
        FitError: a fit failed, or the moved activations overflow; the block is named.
    """
    ids, attended = pad(model.encode(list(prompts), system=system), pad_id=model.pad_id, side="left")
    mask = attended.long().to(model.device)
    chosen = in_scope(kinds_of(attended, attended.sum(dim=1)), tokens)[..., None]
    maps: dict[int, TransportMap] = {}

    def at(block: int) -> Callable[..., Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            h = tensor_of(output)
            source = h[:, -1].float().cpu()
            if not bool(torch.isfinite(source).all()):
                raise FitError(
                    f"activations after block {block} are NaN or infinite once the blocks before it are moved; "
                    "use fewer blocks or a smaller strength"
                )
            try:
                maps[block] = fit(source, targets[block])
            except FitError as error:
                raise FitError(f"block {block}: {error}") from error
            move = interpolate(maps[block], strength).to(device=h.device, dtype=torch.float32)
            moved = torch.where(chosen.to(h.device), move(h), h)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return hook

    with ExitStack() as stack:
        for block in targets:
            stack.callback(model.blocks[block].register_forward_hook(at(block)).remove)
        model.decoder(
            input_ids=ids.to(model.device),
            attention_mask=mask,
            position_ids=positions(mask),
            use_cache=False,
        )
    return maps


def intervene(
    model: ChatModel,
    name: str,
    blocks: Sequence[int],
    rank: int | None,
    *,
    tokens: Scope,
    source_prompts: Sequence[str],
    source: Mapping[int, Rows],
    target: Mapping[int, Targets],
    options: FitOptions,
    strength: float = 1.0,
    system: str | None = None,
) -> Intervention:
    """The intervention of a method on given blocks, fitted on the fit split."""
    fit = fit_of(name, rank, options)
    if len(blocks) > 1 and METHODS[name].sequential:
        targets = {block: target[block] for block in sorted(blocks)}
        maps = fit_in_sequence(model, source_prompts, targets, fit, tokens=tokens, strength=strength, system=system)
    else:
        maps = {block: fit(source[block], target[block]) for block in sorted(blocks)}
    return Intervention({**maps}, tokens=tokens, strength=strength)


ARDITI_SITES = "rfa-sites"
"""Candidate name for one RFA direction at block input, attention output and MLP output of all blocks."""


@dataclass(frozen=True)
class FitData:
    """The fit split: source prompts, and both sides' activations at every block under consideration."""

    source_prompts: Sequence[str]
    source: Mapping[int, Float[Tensor, "n d"]]
    target: Mapping[int, Float[Tensor, "m d"]]
    options: FitOptions
    strength: float = 1.0
    system: str | None = None


def build(model: ChatModel, candidate: Candidate, fit: FitData) -> Intervention:
    """The candidate's intervention, fitted on the fit split."""
    if candidate.method == ARDITI_SITES:
        (block,) = candidate.blocks
        direction = fit_block("rfa", fit.source[block], fit.target[block], (), fit.options)[0]
        return Intervention(arditi_sites(direction, len(model.blocks)), candidate.tokens, fit.strength)
    return intervene(
        model,
        candidate.method,
        candidate.blocks,
        candidate.rank,
        tokens=candidate.tokens,
        source_prompts=fit.source_prompts,
        source=fit.source,
        target=fit.target,
        options=fit.options,
        strength=fit.strength,
        system=fit.system,
    )
