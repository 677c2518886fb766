"""A decoding step with maps on it beside the same step without; `side_by_side.py` runs it.

Both take turns step by step behind one prefilled cache, so that what else the machine does meets both.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor
from turns import Row, arguments, compared, keep, spent

from bures.data.prompts import load_prompts
from bures.models.activations import collect
from bures.models.batching import pad, positions
from bures.models.caches import view
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model
from bures.transport import fit_pca_ot

STEPS = 4
"""Steps of each side in one turn, behind one that is not timed."""


class Decoding:
    """The step behind some prompts, again and again."""

    def __init__(self, model: ChatModel, prompts: list[str]) -> None:
        """Runs the prompts."""
        ids, attended = pad(model.encode(prompts), pad_id=model.pad_id, side="left")
        returned = model.hf(
            input_ids=ids,
            attention_mask=attended.long(),
            position_ids=positions(attended),
            use_cache=True,
            logits_to_keep=1,
        )
        self.model, self.cache = model, returned.past_key_values
        self.token = returned.logits[:, -1].argmax(dim=-1, keepdim=True)
        self.attended = torch.cat([attended, torch.ones_like(self.token, dtype=torch.bool)], dim=1)

    def step(self) -> Tensor:
        """The logits of the next token."""
        return self.model.hf(
            input_ids=self.token,
            attention_mask=self.attended.long(),
            position_ids=positions(self.attended)[:, -1:],
            past_key_values=view(self.cache),
            use_cache=True,
            logits_to_keep=1,
        ).logits


@torch.inference_mode()
def main() -> None:
    """Checks that a map of next to no strength changes no token, times and keeps."""
    given = arguments()
    torch.set_num_threads(1)
    model = load_model(given.model, dtype="bfloat16")
    prompts, middle = list(load_prompts("advbench").texts)[:8], len(model.blocks) // 2
    sides = [collect(model, side, blocks=[middle])[middle] for side in (prompts, load_prompts("alpaca:fit").texts[:8])]
    map_ = fit_pca_ot(sides[0], sides[1], rank=2)
    rows: list[Row] = []
    for batch, blocks in ((1, 1), (1, 2), (8, 2)):
        decoding = Decoding(model, prompts[:batch])
        moved = Intervention(dict.fromkeys(range(middle, middle + blocks), map_), strength=1e-6)
        taken: list[list[tuple[float, float]]] = [[], []]
        tokens: list[Tensor] = [torch.empty(0)] * 2
        for number in range(4 * given.rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                with moved.applied(model) if which == 0 else nullcontext():
                    tokens[which] = decoding.step().argmax(dim=-1)
                    taken[which] += [spent(decoding.step) for _ in range(STEPS)]
        if not torch.equal(*tokens):
            raise SystemExit("a map of next to no strength changes the tokens: nothing is compared")
        row = {"ours": f"a decoding step, batch {batch}, PCA-OT at {blocks} block(s)", "theirs": "the bare step"}
        rows.append(row | {"equal": "the next token"} | compared(*taken))
    keep("hooks", rows, note=f"{model.name} in bfloat16. {given.note}")


if __name__ == "__main__":
    main()
