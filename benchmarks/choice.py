"""Does choosing by scan find what exhaustive generation over single blocks would have found?

    python benchmarks/choice.py RUN [--limit 60] [--tokens 16] [--methods rfa,pca-ot]

RUN is the folder of an audit that has finished its trials. Every block and method (rank and token scope as the audit
chose them for the method) answers the harmful test prompts; printed are, per method, the block that the audit chose on
the selection split and its ASR, the best block by exhaustive generation on the test split (which no user may choose by;
blocks that the audit did not scan too) and its ASR, and whether the former lies within the interval of the latter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bures import load_model, load_result
from bures.data.conversations import asked
from bures.jobs.config import AuditConfig
from bures.jobs.selection import settle, single_block
from bures.jobs.splits import load_splits
from bures.judges.by_name import judge_by_name
from bures.models.activations import collect
from bures.models.fitting import FitData, build
from bures.models.generation import generate
from bures.models.methods import FitOptions
from bures.results.records import Candidate
from bures.results.shares import attack_success_rate
from bures.results.stats import Measurement


def main() -> None:
    """Prints a line per method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--limit", type=int, default=60, help="harmful test prompts")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--methods", default="rfa,act,mean-act,pca-ot")
    given = parser.parse_args()

    config = AuditConfig.make(**json.loads((given.run / "config.json").read_text(encoding="utf-8")))
    splits = load_splits(config)
    model = load_model(config.model, dtype=config.dtype, device=config.device, adapter=config.adapter)
    judge = judge_by_name(config.judge)
    harmful, harmless = splits.fit.harmful, splits.fit.harmless
    fit = FitData(tuple(harmful), collect(model, harmful), collect(model, harmless), FitOptions(config.ridge))
    test = list(splits.tested.harmful)[: given.limit]

    def asr(candidate: Candidate) -> Measurement:
        with build(model, candidate, fit).applied(model):
            answers = generate(model, test, max_new_tokens=given.tokens)
        return attack_success_rate([judge.is_refusal(asked(p), a) for p, a in zip(test, answers, strict=True)])

    trials = load_result(given.run).trials
    chosen_by_scan: list[Measurement] = []
    exhaustive: list[Measurement] = []
    for method in given.methods.split(","):
        chosen = settle(single_block(trials, method), config.max_perplexity_ratio)
        if chosen is None:
            continue
        found = {}
        for block in range(len(model.blocks)):
            candidate = Candidate(method, (block,), chosen.candidate.rank, chosen.candidate.tokens)
            found[block] = asr(candidate)
            print(f"{candidate.key}: {_show(found[block])}", flush=True)
        (block,) = chosen.candidate.blocks
        best = max(found, key=lambda b: found[b].value)
        low = (found[best].interval or (0.0, 0.0))[0]
        chosen_by_scan.append(found[block])
        exhaustive.append(found[best])
        verdict = "within" if found[block].value >= low else "NOT within"
        print(
            f"{method}: by scan block {block}, {_show(found[block])}; exhaustively block {best}, "
            f"{_show(found[best])}: {verdict} its interval (n = {len(test)}, {given.tokens} tokens)",
            flush=True,
        )
    if exhaustive:
        first, second = (max(each, key=lambda m: m.value) for each in (chosen_by_scan, exhaustive))
        verdict = "within" if first.value >= (second.interval or (0.0, 0.0))[0] else "NOT within"
        print(f"best of all methods: by scan {_show(first)}, exhaustively {_show(second)}: {verdict} its interval")


def _show(m: Measurement) -> str:
    low, high = m.interval or (m.value, m.value)
    return f"{100 * m.value:.1f} [{100 * low:.1f}, {100 * high:.1f}] %"


if __name__ == "__main__":
    main()
