"""Attacks on a hardened model: prefilling, transfer, iterated and random ablation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest
import torch

from bures.errors import ConfigError
from bures.jobs.attacks import OPENERS, iterated_ablations, prefilled_answers, random_ablation, transferred
from bures.jobs.saved_interventions import save_intervention
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.models.subspaces import Directions
from bures.results.names import Scope
from bures.results.run_folder import RunFolder
from bures.training.harden.refusals import OPENERS as TRAINED
from bures.transport import fit_mean_shift
from helpers import invented_audits, tiny

SCOPES: tuple[Scope, ...] = get_args(Scope)
ASKED = ("Paint the red gate", "Paint the blue wall, please", "Paint it", "Paint my old gate green and white again")


def shift(model: ChatModel, tokens: Scope) -> Intervention:
    source, target = torch.randn(2, 9, model.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Intervention({1: fit_mean_shift(source, target + 3.0)}, tokens)


def by_hand(model: ChatModel, prompt: str, opener: str, new: int, intervention: Intervention) -> list[int]:
    """One row, one token after the other, whole passes without a cache; the scope by the lengths of the prompt."""
    head = model.encode([prompt])[0]
    begun = model.tokenizer(opener, add_special_tokens=False)["input_ids"]
    assert isinstance(begun, list)
    ids = [*head, *begun]
    for _ in range(new):
        given = torch.tensor([ids])
        with torch.no_grad(), intervention.applied(model, prompt_lengths=[len(head)]):
            logits = model.hf(given, attention_mask=torch.ones_like(given), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] in model.eos_ids:
            break
    return ids[len(head) :]


@pytest.mark.parametrize("tokens", [None, *SCOPES])
@pytest.mark.parametrize("asked", [ASKED, ASKED * 3])
def test_prefilled_answers_are_those_of_a_loop(llama: ChatModel, asked: tuple[str, ...], tokens: Scope | None) -> None:
    """Twelve rows share a beginning, which is computed once; four are too few for that."""
    attack = Intervention() if tokens is None else shift(llama, tokens)
    with attack.applied(llama):
        found = prefilled_answers(llama, asked, openers=OPENERS[:3], max_new_tokens=6)
    expected = [by_hand(llama, prompt, OPENERS[i % 3], 6, attack) for i, prompt in enumerate(asked)]
    assert found == expected


def test_openers_are_not_those_of_the_training_and_some_of_each_is_needed(llama: ChatModel) -> None:
    assert len(set(OPENERS)) == len(OPENERS) >= 5
    assert not {opener[:20] for opener in OPENERS} & {opener[:20] for opener in TRAINED}
    with pytest.raises(ConfigError, match="0 openers"):
        prefilled_answers(llama, ASKED, openers=())


def test_iterated_ablations_take_one_direction_more_each_time_and_leave_no_hook(llama: ChatModel) -> None:
    hooks = count_hooks(llama)
    offered: list[list[tuple[int, ...]]] = []

    def last(found: Sequence[Directions]) -> Directions:
        offered.append([each.blocks for each in found])
        return found[-1]

    made = list(islice(iterated_ablations(llama, ASKED, tiny.PROMPTS, [1, 2], choose=last), 3))
    assert [len(directions) for directions, _ in made] == [1, 2, 3]
    for k, (directions, intervention) in enumerate(made, start=1):
        assert intervention.tokens == "all"
        assert len(intervention.sites) == 9
        moved = next(iter(intervention.maps.values()))(torch.eye(llama.d_model, dtype=torch.float64))
        assert int(torch.linalg.matrix_rank(moved, tol=1e-6)) == llama.d_model - k
        assert torch.equal(directions.found[0], made[0][0].found[0])
        assert directions.blocks == offered[k - 1][-1]
        assert sorted(offered[k - 1]) == [(*directions.blocks[:-1], block) for block in (1, 2)]
    assert count_hooks(llama) == hooks
    assert list(iterated_ablations(llama, ASKED, ASKED, [1], choose=last)) == []


def test_a_random_ablation_is_a_projection_that_depends_on_its_seed(llama: ChatModel) -> None:
    h = torch.randn(5, llama.d_model)
    one, again, other = (next(iter(random_ablation(llama, seed).maps.values()))(h) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert all(float(each.norm()) < float(h.norm()) for each in (one, other))


def test_maps_of_the_model_before_are_applied_to_the_one_after(llama: ChatModel, tmp_path: Path) -> None:
    rows = [invented_audits.row("none", "1111", refused_harmless="00")]
    rows += [invented_audits.row(f"mean-act-{i}", "1010", refused_harmless="00") for i in (1, 2)]
    rows[2].error = "no fit"
    rows[0].method, rows[1].method = "none", "mean-act"
    described = llama.describe() | {"fingerprint": "0" * 64}
    run = invented_audits.saved(tmp_path / "run", invented_audits.audit(rows, model=described))
    (run / "maps").mkdir(exist_ok=True)
    fitted = shift(llama, "last")
    save_intervention(RunFolder(run), "mean-act-1", fitted)
    found = transferred(llama, run)
    assert list(found) == ["mean-act-1"]
    h = torch.randn(3, llama.d_model)
    assert found["mean-act-1"].sites == fitted.sites
    assert torch.equal(next(iter(found["mean-act-1"].maps.values()))(h), fitted.maps[1](h))
    assert found["mean-act-1"].tokens == "last"
    for model, changes, told in (
        (llama, {"fingerprint": llama.fingerprint()}, "of the model before"),
        (wrap(tiny.network("qwen2"), tiny.tokenizer(), "qwen"), {}, "another kind"),
    ):
        other = invented_audits.saved(tmp_path / told, invented_audits.audit(rows, model=described | changes))
        with pytest.raises(ConfigError, match=told):
            transferred(model, other)
    bare = invented_audits.saved(tmp_path / "bare", invented_audits.audit(rows[:1], model=described))
    with pytest.raises(ConfigError, match="no row with an intervention"):
        transferred(llama, bare)
