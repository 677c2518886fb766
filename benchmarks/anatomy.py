"""Where PCA-OT's effect and cost come from: its shift, its stretch, and the tokens it was never fitted on.

    python benchmarks/anatomy.py MODEL --block 12 [--ranks 1,2,8] [--tokens 24] [--fit 128] [--select 32]
        [--harmful-fit FILE --harmless-fit FILE --harmful-select FILE --harmless-select FILE]

At one block, on the selection split: RFA, Mean-AcT, and PCA-OT in full, without its stretch (A = I: only the shift
inside the subspace), and without its shift (only the stretch about the source mean), each at every token and at the
last prompt token. Below it, how far tokens lie from the activations that the map was fitted on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from bures.data.conversations import asked
from bures.data.prompts import load_prompts
from bures.jobs.metrics import answer_costs
from bures.judges.phrases import ARDITI
from bures.models.activations import collect
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention, Site
from bures.models.loading import load_model
from bures.results.records import Scope
from bures.transport import LowRankAffine, TransportMap, fit_mean_shift, fit_pca_ot, fit_rfa

DEFAULTS = {
    "harmful-fit": "advbench",
    "harmless-fit": "alpaca:fit",
    "harmful-select": "harmbench:select",
    "harmless-select": "alpaca:select",
}


def parts(full: LowRankAffine, source: torch.Tensor) -> dict[str, TransportMap]:
    """The map h + P [m_t + A (z - m_s) - z], with A = I, and with m_t = m_s."""
    z = ((source.double() - full.mean) @ full.basis_in).mean(dim=0)
    shift = full.offset + full.matrix @ z  # m_t - m_s
    nothing = torch.zeros_like(full.matrix)
    return {
        "full": full,
        "shift only (A = I)": replace(full, matrix=nothing, offset=shift),
        "stretch only": replace(full, offset=full.offset - shift),
    }


def rms_distance(rows: torch.Tensor, source: torch.Tensor, full: LowRankAffine) -> float:
    """How far rows lie from the source mean along the components, in the source's standard deviations."""
    z, s = ((x.double() - full.mean) @ full.basis_in for x in (rows, source))
    return float((((z - s.mean(dim=0)) / s.std(dim=0)) ** 2).mean(dim=1).median().sqrt())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--block", type=int, required=True)
    parser.add_argument("--ranks", default="1,2,8")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--fit", type=int, default=128)
    parser.add_argument("--select", type=int, default=32)
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", default=value)
    options = vars(parser.parse_args())
    model, block = load_model(options["model"]), options["block"]
    sets = {
        name: list(load_prompts(options[name.replace("-", "_")]).sample(options["fit" if "fit" in name else "select"]))
        for name in DEFAULTS
    }
    source = collect(model, sets["harmful-fit"], blocks=[block])[block]
    target = collect(model, sets["harmless-fit"], blocks=[block])[block]
    answers = generate_ids(model, sets["harmless-select"], max_new_tokens=options["tokens"])
    original = answer_costs(model, sets["harmless-select"], answers, Intervention()).perplexity.value

    seen = {
        "harmful, last token": source,
        "harmless, last token": target,
        "harmless, five tokens earlier": collect(model, sets["harmless-fit"], blocks=[block], position=-6)[block],
    }

    def show(name: str, maps: dict[int | Site, TransportMap], scope: Scope) -> None:
        move = Intervention(maps, scope)
        with move.applied(model):
            texts = decode(model, generate_ids(model, sets["harmful-select"], max_new_tokens=options["tokens"]))
        pairs = zip(map(asked, sets["harmful-select"]), texts, strict=True)
        asr = sum(not ARDITI.is_refusal(prompt, text) for prompt, text in pairs) / len(texts)
        costs = answer_costs(model, sets["harmless-select"], answers, move)
        ratio = costs.perplexity.value / original
        print(f"{name:34s} {scope:5s} ASR {asr:.2f}  ppl x{ratio:.3f}  KL {costs.kl.value:.3f}", flush=True)

    print(
        f"{model.name}, block {block}: {len(source)} + {len(target)} fit, {len(sets['harmful-select'])} select prompts"
    )
    scopes: tuple[Scope, ...] = ("all", "last")
    for scope in scopes:
        show("none", {}, scope)
        show("RFA", {block: fit_rfa(source, target)}, scope)
        show("Mean-AcT", {block: fit_mean_shift(source, target)}, scope)
    for rank in map(int, options["ranks"].split(",")):
        full = fit_pca_ot(source, target, rank=rank)
        stretch = torch.linalg.eigvalsh(full.matrix + torch.eye(rank, dtype=torch.float64)).tolist()
        print(f"K = {rank}: gap share {full.metadata['mean_gap_share']:.2f}, eigenvalues of A", end=" ")
        print(" ".join(f"{x:.2f}" for x in stretch))
        for name, map_ in parts(full, source).items():
            for scope in scopes:
                show(f"PCA-OT K={rank}, {name}", {block: map_}, scope)
        far = {name: rms_distance(rows, source, full) for name, rows in seen.items()}
        print("  distance from the source mean, in its standard deviations (rms over components): ", end="")
        print(", ".join(f"{name} {value:.1f}" for name, value in far.items()))


if __name__ == "__main__":
    main()
