"""Several directions of refusal, one after the other: each is found while those before it are projected out.

    r_1 = mean(X) - mean(Y),   r_{k+1} = the same of activations under h - Q_k Q_k' h,   Q_k = qr(r_1 ... r_k)

The projection stands at block input, attention output and MLP output of every block (Arditi et al., arXiv 2406.11717,
section 2.4). A model whose refusal comes back along another direction once one is taken away (Wollschlaeger et al.
2025, arXiv 2502.17420; Coalson and Hong 2026, arXiv 2602.16977) is attacked by this and not by one ablation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from bures.data.conversations import PromptLike
from bures.errors import FitError
from bures.models.activations import gather
from bures.models.finite import overflowing
from bures.models.fitting import arditi_sites
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel
from bures.transport import LowRankAffine, ablate_subspace


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions found so far.

    Attributes:
        found: unit vectors, first to last, orthogonal to each other.
        blocks: after which block each was found.
    """

    found: tuple[Float64[Tensor, " d"], ...] = ()
    blocks: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def ablation(self) -> LowRankAffine:
        """The projection of all of them.

        Raises:
            FitError: there is none yet.
        """
        if not self.found:
            raise FitError("no direction has been found yet")
        return ablate_subspace(torch.stack(self.found, dim=1))

    def everywhere(self, n_blocks: int) -> Intervention:
        """The model without them: the projection at three sites of every block; nothing where there are none."""
        return Intervention(arditi_sites(self.ablation(), n_blocks) if self.found else {})

    def further(
        self,
        model: ChatModel,
        harmful: Sequence[PromptLike],
        harmless: Sequence[PromptLike],
        blocks: Sequence[int],
        *,
        system: str | None = None,
    ) -> list[Directions]:
        """These and one more, once for each block: what tells the sides apart there while these are projected out.

        Args:
            model: the model.
            harmful: prompts to fit on.
            harmless: the same of the other side.
            blocks: where the direction may be found.
            system: system prompt.

        Returns:
            First the block whose means lie farthest apart, measured by the spread around them.

        Raises:
            FitError: at no block there is a direction left, or all overflow.
        """
        with self.everywhere(len(model.blocks)).applied(model):
            source, target = (gather(model, side, blocks=list(blocks), system=system) for side in (harmful, harmless))
        bad = overflowing(source) | overflowing(target)
        found: list[tuple[float, Directions]] = []
        for block in (each for each in blocks if each not in bad):
            X, Y = source[block].double(), target[block].double()
            gap = self._without(X.mean(dim=0) - Y.mean(dim=0))
            spread = float(X.var(dim=0).sum() + Y.var(dim=0).sum())
            length = float(gap.norm())
            if length > 1e-9 * float(X.mean(dim=0).norm()) and spread > 0.0:
                more = Directions((*self.found, self._without(gap / length)), (*self.blocks, block))
                found.append((length**2 / spread, more))
        if not found:
            raise FitError(f"no direction is left at blocks {', '.join(map(str, blocks))}")
        return [more for _, more in sorted(found, key=lambda each: -each[0])]

    def _without(self, vector: Tensor) -> Tensor:
        """A vector without its part along these."""
        for each in self.found:
            vector = vector - each * (each @ vector)
        return vector

    def rows(self) -> dict[str, list[list[float]] | list[int]]:
        """As JSON has them, without loss."""
        return {"found": [each.tolist() for each in self.found], "blocks": list(self.blocks)}

    @staticmethod
    def of(rows: dict[str, list[list[float]] | list[int]]) -> Directions:
        """What `rows` returned."""
        found = tuple(torch.tensor(each, dtype=torch.float64) for each in rows["found"])
        return Directions(found, tuple(int(str(block)) for block in rows["blocks"]))
