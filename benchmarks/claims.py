"""What a finished audit's scan says of the paper's claims (arXiv 2603.04355), at the first answer token.

    python benchmarks/claims.py RUN [--json FILE] [--figure FILE]

The scan of an audit scored every method at every block, K and scope on the same selection prompts. Here the candidates
are grouped (method, scope, K, band of depth, limit of KL), the best of a group is chosen on one half of the prompts and
measured on the other, both ways round, and groups are compared prompt by prompt (bootstrap over prompts, 95 %). No
model is loaded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bures import load_result
from bures.jobs.localisation import probability
from bures.results.bootstrap import bootstrap_ratio_of_sums
from bures.results.inference import cross_fitted
from bures.results.records import ScanScore
from bures.results.schema import AuditResult

Array = NDArray[np.float64]
LIMITS = (0.1, 0.25, 0.5, 1.0, 3.0)
BAND = (0.4, 0.6)
"""The paper's depths."""


class Scan:
    """An audit's scores, and the refusal probability of each prompt before."""

    def __init__(self, result: AuditResult) -> None:
        if result.localisation is None:
            raise SystemExit("the audit says nothing of where refusal is decided: it has no refusal to take away")
        self.result, self.n_blocks = result, result.localisation.n_blocks
        self.before: Array = np.asarray(probability(result.localisation.original))

    def depth(self, score: ScanScore) -> float:
        """Share of the blocks up to the candidate's, that one included."""
        return (score.candidate.blocks[0] + 1) / self.n_blocks

    def left(self, wanted: Callable[[ScanScore], bool]) -> tuple[Array, ScanScore] | None:
        """What the best of a group leaves of every prompt's refusal, chosen on the other half; and the best of all."""
        group = [score for score in self.result.scan if len(score.each) and wanted(score)]
        if not group:
            return None
        each = np.array([score.each for score in group], dtype=np.float64)
        best = min(group, key=lambda score: score.refusal_log_odds)
        return np.asarray(cross_fitted(each, probability(each))), best

    def share(self, amount: Array) -> list[float]:
        """A sum over prompts, over the refusal probability before: value, low, high."""
        found = bootstrap_ratio_of_sums(amount, self.before)
        return [round(x, 3) for x in (found.value, *found.bounds)]


def within(limit: float, method: str, scope: str | None = None, rank: int | None = None) -> Callable[[ScanScore], bool]:
    """Candidates of a method whose KL is at most the limit."""
    return lambda s: (
        s.first_token_kl <= limit
        and s.candidate.method == method
        and scope in (None, s.candidate.tokens)
        and rank in (None, s.candidate.rank)
    )


def table(scan: Scan) -> list[dict[str, Any]]:
    """Per method, K, scope and limit of KL, the share of refusal removed."""
    kinds = dict.fromkeys((s.candidate.method, s.candidate.rank, s.candidate.tokens) for s in scan.result.scan)
    rows: list[dict[str, Any]] = []
    for method, rank, scope in kinds:
        for limit in LIMITS:
            found = scan.left(within(limit, method, scope, rank))
            if found is not None:
                left, best = found
                where = {"block": best.candidate.blocks[0], "depth": round(100 * scan.depth(best))}
                removed = scan.share(scan.before - left)
                rows.append(
                    {"method": method, "K": rank, "tokens": scope, "kl_limit": limit, "removed": removed, **where}
                )
    return rows


def differences(scan: Scan) -> list[dict[str, Any]]:
    """What one group removes more than another, in shares of the refusal before."""
    asked: list[tuple[str, Callable[[ScanScore], bool], Callable[[ScanScore], bool]]] = []
    for limit in LIMITS:
        for other in ("rfa", "act", "mean-act"):
            ours, theirs = within(limit, "pca-ot"), within(limit, other)
            asked.append((f"PCA-OT over {other}, KL at most {limit}", ours, theirs))
            both = [
                lambda s, f=f: f(s) and s.candidate.tokens == "all" and s.candidate.rank in (None, 1, 2)
                for f in (ours, theirs)
            ]
            asked.append((f"PCA-OT over {other}, every token, K of 1 and 2, KL at most {limit}", both[0], both[1]))
        for method in ("pca-ot", "rfa", "act", "mean-act"):
            fits = within(limit, method)
            inside = [lambda s, f=fits, i=i: f(s) and (BAND[0] <= scan.depth(s) <= BAND[1]) is i for i in (True, False)]
            asked.append((f"{method}: 40-60 % depth over the other blocks, KL at most {limit}", inside[0], inside[1]))
            scopes = [within(limit, method, scope) for scope in ("all", "last")]
            asked.append((f"{method}: every token over the last one, KL at most {limit}", scopes[0], scopes[1]))
            deep = [lambda s, f=f: f(s) and BAND[0] <= scan.depth(s) <= BAND[1] for f in scopes]
            name = f"{method}: every token over the last one at 40-60 % depth, KL at most {limit}"
            asked.append((name, deep[0], deep[1]))
        for low in (1, 2):
            asked.append(
                (
                    f"PCA-OT: K = 8 over K = {low}, KL at most {limit}",
                    within(limit, "pca-ot", None, 8),
                    within(limit, "pca-ot", None, low),
                )
            )
    rows: list[dict[str, Any]] = []
    for name, one, other in asked:
        here, there = scan.left(one), scan.left(other)
        if here is not None and there is not None:
            rows.append({"claim": name, "difference": scan.share(there[0] - here[0]), "n": len(scan.before)})
    return rows


def figure(scan: Scan, path: Path) -> None:
    """What every map at one block removes, over its KL, by depth and scope."""
    import vl_convert as vlc

    names = {"rfa": "RFA", "act": "Linear-AcT", "mean-act": "Mean-AcT", "pca-ot": "PCA-OT"}
    rows = [
        {
            "method": names.get(s.candidate.method, s.candidate.method)
            + (f", K={s.candidate.rank}" if s.candidate.rank else ""),
            "scope": "every token" if s.candidate.tokens == "all" else "last prompt token",
            "depth": 100 * scan.depth(s),
            "KL": s.first_token_kl,
            "removed": float(1 - np.asarray(probability(s.each)).sum() / scan.before.sum()),
        }
        for s in scan.result.scan
        if len(s.each)
    ]
    x = {"field": "depth", "type": "quantitative", "title": "depth of the block, %"}
    colour = {"field": "method", "type": "nominal", "title": None}

    def panel(y: dict[str, Any]) -> dict[str, Any]:
        mark = {"type": "line", "point": {"size": 12}, "strokeWidth": 1.2, "clip": True}
        spec = {"width": 300, "height": 190, "mark": mark, "encoding": {"x": x, "y": y, "color": colour}}
        return {"facet": {"column": {"field": "scope", "title": None}}, "spec": spec}

    removed = {"field": "removed", "type": "quantitative", "title": "refusal removed", "scale": {"domain": [-0.2, 1]}}
    kl = {"field": "KL", "type": "quantitative", "title": "KL, nats", "scale": {"type": "symlog", "constant": 0.05}}
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": rows},
        "vconcat": [panel(removed), panel(kl)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vlc.vegalite_to_svg(spec) + "\n", encoding="utf-8")


def main() -> None:
    """Prints both lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    result = load_result(given.run)
    if not isinstance(result, AuditResult):
        raise SystemExit(f"{given.run} is no audit")
    scan = Scan(result)
    rows, found = table(scan), differences(scan)
    for row in rows:
        value, low, high = row["removed"]
        named = f"{row['method']:9s} K={row['K'] or '-'} {row['tokens']:5s} KL<={row['kl_limit']:<5}"
        print(f"{named} removed {value:6.1%} [{low:.1%}, {high:.1%}] block {row['block']} ({row['depth']} %)")
    for row in found:
        value, low, high = row["difference"]
        print(f"{row['claim']:75s} {value:+.1%} [{low:+.1%}, {high:+.1%}]")
    if given.json is not None:
        about = {
            "model": result.model["name"],
            "command": result.command,
            "n": len(scan.before),
            "dtype": result.model["dtype"],
        }
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(
            json.dumps({**about, "groups": rows, "differences": found}, indent=1) + "\n", encoding="utf-8"
        )
    if given.figure is not None:
        figure(scan, given.figure)


if __name__ == "__main__":
    main()
