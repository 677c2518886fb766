"""Where PCA-OT's effect and cost come from: scope, depth, K, the token it is fitted on, its shift and its stretch.

    python benchmarks/anatomy.py organism --out docs/results/anatomy-organism.json --blocks 12,15,18,21,24,27
    python benchmarks/anatomy.py organism --out docs/results/anatomy-organism.json --figure docs/assets/anatomy.svg

Everything is scored at the first answer token, as `bures scan` scores it: the share of refusal probability that a map
removes from harmful selection prompts, and the KL from the original model on harmless ones. At each block, K and
position to fit on (the prompt's last token, the instruction's last token, both pooled) the map is taken apart:

    full      h + P [ m_t + A (z - m_s) - z ]
    shift     A = I: m_t - m_s inside the subspace
    stretch   m_t = m_s: A about the source mean

(the two last where it is fitted on the prompt's last token), and each is applied at every token and at the last
prompt token, beside RFA, Linear-AcT and Mean-AcT. Besides: the share of the
squared mean gap that the K components hold, the eigenvalues of A, and how far the full map moves harmless activations
of the selection split, over their distance from their own mean. `--kl` adds, for every full map and baseline, the
strength at which its KL is that budget, and what is removed there (bisection). `--draws` repeats with other fit
prompts. Finished cells stand in the JSON file and are not computed again, so a run may be stopped and gone on with;
`--seconds` stops it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bures import load_model
from bures.data.conversations import Prompt
from bures.data.prompts import load_prompts
from bures.jobs.parting import Parting
from bures.jobs.scanner import find_parting
from bures.judges.by_name import judge_by_name
from bures.models.activations import read
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.models.positions import places_of
from bures.models.prompt_stream import PromptStream
from bures.results.bootstrap import bootstrap_ratio_of_sums
from bures.results.names import Scope
from bures.transport import LowRankAffine, TransportMap, fit_act, fit_mean_shift, fit_pca_ot, fit_rfa

SCOPES: tuple[Scope, ...] = ("all", "last")
STEPS = 7
"""Bisections of a strength."""


def parts(full: LowRankAffine, source: torch.Tensor) -> dict[str, TransportMap]:
    """The map h + P [m_t + A (z - m_s) - z], with A = I, and with m_t = m_s."""
    z = ((source.double() - full.mean) @ full.basis_in).mean(dim=0)
    shift = full.offset + full.matrix @ z  # m_t - m_s
    return {
        "full": full,
        "shift": replace(full, matrix=torch.zeros_like(full.matrix), offset=shift),
        "stretch": replace(full, offset=full.offset - shift),
    }


class Bench:
    """A model, its prompts, and the two sides of the selection split on their way through the network."""

    def __init__(self, given: argparse.Namespace, draw: int) -> None:
        self.model: ChatModel = load_model(given.model, dtype=given.dtype)
        sizes = {"fit": given.fit, "select": given.select}
        self.sets: dict[str, list[Prompt]] = {}
        for name in ("harmful_fit", "harmless_fit", "harmful_select", "harmless_select"):
            source, n = load_prompts(getattr(given, name)), sizes[name.partition("_")[2]]
            is_drawn = draw and name.endswith("fit")
            self.sets[name] = random.Random(draw).sample(list(source), n) if is_drawn else list(source.sample(n))
        self.streams: dict[str, PromptStream] = {}

    def begin(self, tokens: list[int]) -> None:
        """Sends both sides of the selection split on their way; answers begin with these tokens."""
        for side in ("harmful", "harmless"):
            self.streams[side] = PromptStream(self.model, self.sets[f"{side}_select"], begin=tokens)

    def parting(self) -> Parting:
        """The model's own refusal tokens, as a scan finds them."""

        def answer(prompts: Any, tokens: int) -> list[list[int]]:
            return generate_ids(self.model, prompts, max_new_tokens=tokens)

        fit = self.sets["harmful_fit"][:24], self.sets["harmless_fit"][:24]
        return find_parting(self.model, *fit, judge_by_name("bures"), answer, max_new_tokens=12)

    def rows(self, name: str, blocks: list[int]) -> dict[int, torch.Tensor]:
        """Block -> activations at both positions, (n, 2, d)."""
        prompts = self.sets[name]
        places = places_of(self.model, prompts, ("last", "instruction"))
        return read(self.model, self.model.encode(prompts), blocks, places)

    def score(self, tokens: tuple[int, ...], move: Intervention) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-odds of refusal of each harmful prompt, and KL of each harmless one."""
        odds = self.streams["harmful"].read(move, lambda moved, _: moved.log_odds(tokens))
        kl = self.streams["harmless"].read(move, lambda moved, original: original().kl_each(moved))
        return odds.double(), kl.double()


def fits(
    source: torch.Tensor, target: torch.Tensor, ranks: list[int]
) -> Iterator[tuple[str, int | None, TransportMap]]:
    """(method, K, map) of every method."""
    yield "rfa", None, fit_rfa(source, target)
    yield "mean-act", None, fit_mean_shift(source, target)
    yield "act", None, fit_act(source, target)
    for rank in ranks:
        yield "pca-ot", rank, fit_pca_ot(source, target, rank=rank)


def figures(odds: torch.Tensor, kl: torch.Tensor, before: torch.Tensor) -> dict[str, Any]:
    """What is removed, with its interval, and the KL."""
    left, own = torch.sigmoid(odds).numpy(), torch.sigmoid(before).numpy()
    kept = bootstrap_ratio_of_sums(left, own)
    low, high = kept.bounds
    return {"removed": [round(1 - x, 4) for x in (kept.value, high, low)], "kl": round(float(kl.mean()), 4)}


def at_kl(bench: Bench, tokens: tuple[int, ...], block: int, map_: TransportMap, scope: Scope, budget: float) -> Any:
    """The strength at which the mean KL is the budget (at most 2), and the scores there."""
    low, high, best = 0.0, 2.0, None
    for _ in range(STEPS):
        strength = high if best is None else (low + high) / 2
        odds, kl = bench.score(tokens, Intervention({block: map_}, scope, strength))
        best = (strength, odds, kl)
        if float(kl.mean()) <= budget:
            low = strength
            if strength == high:
                break
        else:
            high = strength
    assert best is not None
    return best


def cells(bench: Bench, given: argparse.Namespace, held: dict[str, Any], draw: int) -> Iterator[tuple[str, Any]]:
    """Key and figures of every cell that is not held yet, block after block."""
    blocks = given.blocks
    collected = {name: bench.rows(name, blocks) for name in bench.sets if name != "harmful_select"}
    tokens = tuple(held["refusal_tokens"])
    before = torch.tensor(held["before"], dtype=torch.float64)
    for block in blocks:
        for stream in bench.streams.values():
            stream.advance(block)
        source, target, harmless = (
            collected[name][block].double() for name in ("harmful_fit", "harmless_fit", "harmless_select")
        )
        fit_on = {"last": (slice(0, 1),), "instruction": (slice(1, 2),), "pooled": (slice(0, 2),)}
        for position in given.positions:
            (at,) = fit_on[position]
            X, Y = source[:, at].flatten(0, 1), target[:, at].flatten(0, 1)
            for method, rank, map_ in fits(X, Y, given.ranks):
                of: dict[str, TransportMap] = {"full": map_}
                if isinstance(map_, LowRankAffine) and method == "pca-ot" and position == "last":
                    of = parts(map_, X)
                for part, moved in of.items():
                    for scope in SCOPES:
                        key = f"d{draw} b{block} {position} {method} k{rank or 0} {part} {scope}"
                        if key in held["cells"]:
                            continue
                        odds, kl = bench.score(tokens, Intervention({block: moved}, scope))
                        found = figures(odds, kl, before)
                        if part == "full":
                            found |= about(map_, X, Y, harmless[:, 0])
                            if given.kl and position == "last":
                                strength, odds, kl = at_kl(bench, tokens, block, map_, scope, given.kl)
                                found["at_kl"] = {**figures(odds, kl, before), "strength": round(strength, 3)}
                        yield key, found


def about(map_: TransportMap, X: torch.Tensor, Y: torch.Tensor, harmless: torch.Tensor) -> dict[str, Any]:
    """Of a full map: the gap that it holds, its stretch, and how far it moves harmless activations of other prompts."""
    moved = (map_(harmless) - harmless).norm(dim=1).mean()
    own = (harmless - Y.mean(dim=0)).norm(dim=1).mean()
    gap = (Y.mean(dim=0) - X.mean(dim=0)).norm()
    found: dict[str, Any] = {"harmless_moved": round(float(moved / own), 3), "in_gaps": round(float(moved / gap), 3)}
    if isinstance(map_, LowRankAffine) and "mean_gap_share" in map_.metadata:
        found["gap_share"] = round(float(map_.metadata["mean_gap_share"]), 3)
        stretch = torch.linalg.eigvalsh(map_.matrix + torch.eye(map_.rank, dtype=torch.float64))
        found["stretch"] = [round(float(x), 2) for x in stretch]
    return found


def figure(held: dict[str, Any], path: Path) -> None:
    """Removed against KL: one panel a scope, one mark a part of PCA-OT and a baseline, over blocks and K."""
    import vl_convert as vlc

    rows: list[dict[str, Any]] = []
    for key, cell in held["cells"].items():
        draw, block, position, method, rank, part, scope = key.split()
        if draw == "d0" and position == "last":
            name = (
                f"PCA-OT, {part}" if method == "pca-ot" else {"rfa": "RFA", "act": "Linear-AcT"}.get(method, "Mean-AcT")
            )
            rows.append(
                {
                    "map": name,
                    "scope": f"{scope} tokens" if scope == "all" else "last prompt token",
                    "K": rank[1:],
                    "block": int(block[1:]),
                    "KL": max(cell["kl"], 1e-4),
                    "removed": cell["removed"][0],
                }
            )
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": rows},
        "facet": {"column": {"field": "scope", "title": None}},
        "spec": {
            "width": 300,
            "height": 260,
            "mark": {"type": "point", "filled": True, "size": 55},
            "encoding": {
                "x": {
                    "field": "KL",
                    "type": "quantitative",
                    "scale": {"type": "log"},
                    "title": "KL on harmless prompts, nats",
                },
                "y": {
                    "field": "removed",
                    "type": "quantitative",
                    "title": "share of first-token refusal removed",
                    "scale": {"clamp": True, "domain": [-0.2, 1]},
                },
                "color": {"field": "map", "type": "nominal", "title": None},
                "shape": {"field": "map", "type": "nominal", "title": None},
            },
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vlc.vegalite_to_svg(spec) + "\n", encoding="utf-8")


def main() -> None:
    """Measures what is not held yet, or draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--blocks", type=lambda text: [int(x) for x in text.split(",")], default=[])
    parser.add_argument("--ranks", type=lambda text: [int(x) for x in text.split(",")], default=[1, 2, 8])
    parser.add_argument("--positions", type=lambda text: text.split(","), default=["last", "instruction", "pooled"])
    parser.add_argument("--fit", type=int, default=128)
    parser.add_argument("--select", type=int, default=32)
    parser.add_argument("--draws", type=lambda text: [int(x) for x in text.split(",")], default=[0])
    parser.add_argument("--kl", type=float, default=0.0)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seconds", type=float, default=1e9)
    for name, value in (
        ("harmful-fit", "advbench"),
        ("harmless-fit", "alpaca:fit"),
        ("harmful-select", "harmbench:select"),
        ("harmless-select", "alpaca:select"),
    ):
        parser.add_argument(f"--{name}", default=value)
    given = parser.parse_args()
    begun = time.monotonic()
    held: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {"cells": {}}
    for draw in given.draws if given.blocks else ():
        bench = Bench(given, draw)
        if "before" not in held:
            found = bench.parting()
            held |= {
                "model": Path(bench.model.name).name,
                "n": {name: len(prompts) for name, prompts in bench.sets.items()},
                "blocks": len(bench.model.blocks),
                "dtype": str(bench.model.hf.dtype).removeprefix("torch."),
                "refusal_tokens": list(found.tokens),
                "begin": list(found.begin),
            }
            bench.begin(held["begin"])
            odds, _ = bench.score(found.tokens, Intervention())
            held["before"] = [round(float(x), 4) for x in odds]
        bench.begin(held["begin"])
        for key, cell in cells(bench, given, held, draw):
            held["cells"][key] = cell
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(held, indent=0) + "\n", encoding="utf-8")
            if time.monotonic() - begun > given.seconds:
                return
    if given.figure is not None:
        figure(held, given.figure)


if __name__ == "__main__":
    main()
