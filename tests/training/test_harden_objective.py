"""The objective of a hardening: the attack reaches the loss, the gradient goes through it, the mean is right."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from bures.data.corpora import Corpus
from bures.jobs.examples import Example, answer_states, log_probs, losses, token_weights, with_original
from bures.jobs.progress import Silent
from bures.models.fitting import arditi_sites
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel
from bures.models.tokens import kinds_of, token_kinds
from bures.results.names import Scope
from bures.results.run_folder import RunFolder
from bures.training.harden.objective import MovingMaps, Streams
from bures.training.harden.plan import Plan
from bures.training.harden.pool import RUINOUS, Attack, Pool
from bures.training.harden.rows import HEAD, PIECE, Rows, pieces
from bures.training.loop import Trainer, train
from bures.training.lora import attach
from bures.transport import ablate_direction, fit_mean_shift
from helpers import hardening, tiny

SCOPES: tuple[Scope, ...] = get_args(Scope)


def shift(model: ChatModel, block: int = 1, **how: Any) -> Intervention:
    """A map that moves everything by something."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 9, model.d_model, generator=generator, dtype=torch.float64)
    return Intervention({block: fit_mean_shift(source, target + 3.0)}, **how)


def token_losses(model: ChatModel, row: Example, intervention: Intervention) -> torch.Tensor:
    """Cross-entropy of each answer token of one row; an oracle that shares no code with the objective."""
    ids = torch.tensor([[*row.prompt, *row.answer]])
    asked = len(row.prompt) - row.begun
    with intervention.applied(model, prompt_lengths=[asked]):
        logits = model.hf(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].double()
    picked = [logits[len(row.prompt) - 1 + i].log_softmax(-1)[token] for i, token in enumerate(row.answer)]
    return -torch.stack(picked)


def row_loss(model: ChatModel, row: Example, intervention: Intervention) -> torch.Tensor:
    """Their mean."""
    return token_losses(model, row, intervention).mean()


@pytest.mark.parametrize("scope", SCOPES)
def test_the_loss_under_an_attack_is_that_of_a_loop_over_rows_and_tokens(scope: Scope) -> None:
    model = hardening.model()
    rows = hardening.refusals(model, opener_share=0.5)
    assert {row.begun > 0 for row in rows} == {True, False}
    attack = shift(model, tokens=scope, strength=0.7)
    with torch.no_grad():
        found, _ = losses(model, rows, [], attack)
        expected = sum(float(row_loss(model, row, attack)) for row in rows)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_reaches_the_loss(scope: Scope) -> None:
    model = hardening.model()
    rows = hardening.refusals(model)
    with torch.no_grad():
        clean, _ = losses(model, rows, [])
        attacked, _ = losses(model, rows, [], shift(model, tokens=scope))
    assert abs(float(attacked) - float(clean)) > 0.01


def test_that_test_sees_an_attack_that_cannot_reach_the_loss() -> None:
    """The one public implementation of ReFAT moves the last token of prompt and answer, whose logits it drops."""
    model = hardening.model()
    rows = hardening.refusals(model, opener_share=0.0)[:1]
    ids = torch.tensor([[*rows[0].prompt, *rows[0].answer]])
    whole = torch.ones_like(ids, dtype=torch.bool)
    attack = shift(model, tokens="last")
    with torch.no_grad():
        clean = answer_states(model, rows)
        with attack.applied(model), token_kinds(kinds_of(whole, torch.tensor([ids.shape[1]]))):
            states = model.decoder(input_ids=ids, attention_mask=whole.long(), use_cache=False).last_hidden_state
        there = states[0, len(rows[0].prompt) - 1 : -1]
        with attack.applied(model):
            ours = answer_states(model, rows)
    torch.testing.assert_close(there, clean)
    assert float((ours - clean).abs().max()) > 0.1


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("everywhere", [False, True])
def test_the_gradient_goes_through_the_attack(scope: Scope, everywhere: bool) -> None:
    """Central differences of weights before, at and behind the block that is moved."""
    model = hardening.model(double=True)
    plan = hardening.plan(model, first_block=0)
    adapted = attach(model, plan)
    rows = hardening.refusals(model)[:2]
    attack = shift(model, tokens=scope, strength=0.8)
    if everywhere:
        direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        attack = Intervention(arditi_sites(ablate_direction(direction), 3), scope)
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    for p in trained.values():  # a fresh LoRA is zero on one side, and so would be half of its gradients
        p.data.normal_(generator=torch.Generator().manual_seed(2), std=0.1)
    losses(model, rows, [], attack)[0].backward()
    step = 1e-3  # the norms of the network compute in float32, so that smaller ones drown in rounding
    for block in range(3):
        mine = [p for name, p in trained.items() if f".layers.{block}." in name]
        along = [p.grad.clone() for p in mine if p.grad is not None]
        assert len(along) == len(mine)
        length = float(torch.cat([each.flatten() for each in along]).norm())
        values: list[float] = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, each in zip(mine, along, strict=True):
                    p += sign * step * each / length
                values.append(float(losses(model, rows, [], attack)[0]))
                for p, each in zip(mine, along, strict=True):
                    p -= sign * step * each / length
        assert length > 0.1
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(length, rel=1e-2)


def test_harmless_answers_are_not_attacked_and_their_kl_is_that_of_the_definition() -> None:
    model = hardening.model()
    rows = hardening.kept(model)

    def whole(row: Example) -> torch.Tensor:
        return model.hf(torch.tensor([[*row.prompt, *row.answer]])).logits[0].double().log_softmax(-1)

    with torch.no_grad():
        before = [
            model.hf(torch.tensor([[*row.prompt, *row.answer]])).logits[0].double().log_softmax(-1) for row in rows
        ]
        model.hf.get_parameter("model.layers.2.mlp.down_proj.weight").mul_(1.5)
        found = float(losses(model, [], rows)[1])
        expected = 0.0
        for row, old in zip(rows, before, strict=True):
            new = whole(row)
            at = slice(len(row.prompt) - 1, len(row) - 1)
            expected += float((old[at].exp() * (old[at] - new[at])).sum())
    assert found == pytest.approx(expected, rel=1e-3)
    assert expected > 0.01


def test_passes_that_begin_in_the_middle_have_the_loss_of_whole_ones_wherever_the_maps_are() -> None:
    model = hardening.model()
    held = with_original(model, hardening.refusals(model), first_block=1, rows=3, teach=False)
    direction = torch.ones(model.d_model)
    for attack in (
        shift(model, 1),
        shift(model, 2, tokens="last"),
        Intervention({Site(1, "input"): ablate_direction(direction)}),
        Intervention(arditi_sites(ablate_direction(direction), 3)),  # before the entry, too
        shift(model, 0),
    ):
        with torch.no_grad():
            entered, whole = (float(losses(model, held, [], attack, entry)[0]) for entry in (1, 0))
        assert entered == pytest.approx(whole, rel=1e-5)


def objective(model: ChatModel, plan: Plan) -> MovingMaps:
    learned, kept = hardening.refusals(model), hardening.kept(model)
    pool = Pool(model, plan.attacks, range(1, 3), hardening.ASKED, tiny.PROMPTS[:6], random.Random("pool"))
    return MovingMaps(model, Streams.of(Rows(learned, kept[:3], kept[3:]), plan), plan, pool)


def test_passes_and_processes_add_up_to_the_gradient_of_one_batch() -> None:
    found: list[list[torch.Tensor]] = []
    for accumulate in (1, 3):
        model = hardening.model(double=True)
        plan = hardening.plan(model, accumulate=accumulate, attack_share=0.5)
        adapted = attach(model, plan)
        for part in objective(model, plan).parts(0):
            part.loss.backward()
        found.append([p.grad for p in adapted.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)
    assert max(float(each.abs().max()) for each in found[0]) > 1e-3


def test_the_share_that_is_attacked_rises_from_nothing_and_has_the_right_mean() -> None:
    model = hardening.model()
    plan = hardening.plan(model, attack_warmup=10, attack_share=0.45)
    made = objective(model, plan)
    assert [plan.attacks.share_at(step) for step in (0, 5, 10, 99)] == pytest.approx([0.0, 0.225, 0.45, 0.45])
    counts = [len(made._attacked(5, 0.45)) for _ in range(2000)]
    assert set(counts) == {2, 3}
    assert sum(counts) / len(counts) == pytest.approx(2.25, abs=0.05)
    assert made._attacked(5, 0.0) == frozenset()


def test_the_control_is_never_attacked_and_sees_the_same_rows_in_the_same_order() -> None:
    seen: list[list[list[int]]] = []
    for setting in ("moving", "control"):
        model = hardening.model()
        plan = hardening.plan(model, setting=setting)
        attach(model, plan)
        made = objective(model, plan)
        figures: Counter[str] = Counter()
        rows: list[list[int]] = []
        for step in range(4):
            for part in made.parts(step):
                figures.update(part.figures)
            rows += [stream.order[stream.at - 1] for stream in (made.streams.harmful, made.streams.lookalikes)]
        seen.append(rows)
        assert ("attacked" in figures) == (setting == "moving")
        assert (made.pool.newest == []) == (setting == "control")
    assert seen[0] == seen[1]


# --- the pool --------------------------------------------------------------------------------------------------------


def pool(model: ChatModel, **changes: Any) -> Pool:
    plan = hardening.plan(model, **changes)
    return Pool(model, plan.attacks, range(1, 3), hardening.ASKED, tiny.PROMPTS, random.Random("pool"))


def test_what_is_drawn_covers_methods_placements_scopes_and_ranks_and_leaves_out_what_ruins() -> None:
    made = pool(hardening.model(), n_fit=20)
    drawn = [made.draw_candidate([1, 2, 3, 4]) for _ in range(2000)]
    assert {c.method for c in drawn} == {"rfa", "mean-act", "act", "pca-ot"}
    assert {c.tokens for c in drawn} == set(SCOPES)
    assert {c.rank for c in drawn if c.method == "pca-ot"} == {1, 2, 8}
    assert {len(c.blocks) for c in drawn} == {1, 2, 4}
    assert {c.method for c in drawn if c.sites} == {"rfa"}
    whole = [c for c in drawn if len(c.blocks) == 4 and c.method != "rfa"]
    assert whole
    assert not {c.tokens for c in whole} & RUINOUS
    assert {c.tokens for c in drawn if len(c.blocks) == 4 and c.method == "rfa"} == set(SCOPES)


def test_maps_are_fitted_on_the_model_as_it_has_become() -> None:
    model = hardening.model()
    made = pool(model, setting="refat", n_fit=6, memory=0)
    made.refit(0)
    first = made.newest[0]
    with torch.no_grad():
        model.hf.get_parameter("model.layers.1.mlp.down_proj.weight").mul_(-2.0)
    made.refit(4)
    second = made.newest[0]
    assert made.memory == []
    moved = [each.intervention.maps[1](torch.eye(model.d_model)) for each in (first, second)]
    assert float((moved[0] - moved[1]).abs().max()) > 1e-3


def test_half_of_the_draws_are_of_the_memory_which_is_of_fixed_size() -> None:
    made = pool(hardening.model(), maps=3, memory=4, originals=0, hardest_of=1)
    assert made.draw() is None
    for step in (0, 3, 6, 9):
        made.refit(step)
        assert {each.born for each in made.newest} == {step}
        assert len(made.memory) == min(4, 3 * (step // 3))
    newest = {each.name for each in made.newest}
    drawn = [each for each in (made.draw() for _ in range(1000)) if each is not None]
    assert len(drawn) == 1000
    assert all(0.5 <= intervention.strength <= 1.25 for _, intervention in drawn)
    share = sum(name in newest for name, _ in drawn) / len(drawn)
    assert share == pytest.approx(0.5, abs=0.05)
    assert min(each.born for each in made.memory) < 9
    assert len(made.names) == 7


def test_a_quarter_of_the_draws_are_of_maps_of_the_model_before_its_training_which_stay(tmp_path: Path) -> None:
    made = pool(hardening.model(), maps=2, memory=2, originals=5, hardest_of=1)
    for step in (0, 3, 6):
        made.refit(step)
    held = {each.name for each in made.originals}
    assert len(held) == 5
    assert {each.born for each in made.originals} == {0}
    assert held < made.names
    drawn = [found[0] for found in (made.draw() for _ in range(4000)) if found is not None]
    assert sum(name in held for name in drawn) / len(drawn) == pytest.approx(0.25, abs=0.03)
    assert {*drawn} >= held
    (tmp_path / "maps").mkdir()
    again = pool(hardening.model(), maps=2, memory=2, originals=5, hardest_of=1)
    again.restore(RunFolder(tmp_path), json.loads(json.dumps(made.keep(RunFolder(tmp_path)))))
    assert [each.name for each in again.originals] == [each.name for each in made.originals]
    assert pool(hardening.model(), setting="refat").attacks.originals == 0


def test_the_hardest_of_those_drawn_attacks_and_what_has_not_attacked_yet_goes_first(tmp_path: Path) -> None:
    made = pool(hardening.model(), maps=4, memory=0, originals=0, hardest_of=2)
    made.refit(0)
    names = [each.name for each in made.newest]
    assert len(names) == 4
    for name, loss in zip(names, (1.0, 2.0, 4.0, 3.0), strict=True):
        made.was_met(name, loss)
    drawn = Counter(found[0] for found in (made.draw() for _ in range(4000)) if found is not None)
    # of two draws with replacement: the largest of four with 7 of 16, then 5, 3, 1
    assert [drawn[name] / 4000 for name in names] == pytest.approx([1 / 16, 3 / 16, 7 / 16, 5 / 16], abs=0.03)
    made.was_met(names[2], 0.0)
    made.was_met(names[2], 0.0)
    assert made.met[names[2]] == 1.0  # halved each time
    (tmp_path / "maps").mkdir()
    again = pool(hardening.model(), maps=4, memory=0, originals=0, hardest_of=2)
    again.restore(RunFolder(tmp_path), json.loads(json.dumps(made.keep(RunFolder(tmp_path)))))
    assert again.met == made.met
    del made.met[names[0]]
    drawn = Counter(found[0] for found in (made.draw() for _ in range(4000)) if found is not None)
    assert drawn[names[0]] / 4000 == pytest.approx(7 / 16, abs=0.03)


def test_the_attacked_rows_of_a_step_are_shared_among_the_draws_and_their_losses_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = hardening.model()
    plan = hardening.plan(model, attack_share=1.0, draws=3, hardest_of=1)
    made = objective(model, plan)
    made.pool.refit(0)
    named = [(each.name, each.at(1.0)) for each in made.pool.newest][:3]
    turns = iter(named)
    monkeypatch.setattr(made.pool, "draw", lambda: next(turns))
    monkeypatch.setattr(made.pool, "refit", lambda step: None)
    rows = made.streams.harmful.examples
    parts = list(made.parts(1))
    learned = [rows[place] for place in made.streams.harmful.order[0]]
    with torch.no_grad():
        for number, (name, attack) in enumerate(named):
            mine = learned[number::3]
            expected = sum(
                float((token_losses(model, row, attack) * weights(len(row.answer), plan.early_share)).sum())
                for row in mine
            )
            assert made.pool.met[name] == pytest.approx(expected / len(mine), rel=1e-4)
    told = [part.figures["attacked"] for part in parts if "attacked" in part.figures]
    share = [len(learned[number::3]) / len(learned) for number in range(3)]
    means = [made.pool.met[name] for name, _ in named]
    assert sum(told) == pytest.approx(sum(a * b for a, b in zip(share, means, strict=True)), rel=1e-6)


def test_pieces_of_text_are_kept_beside_the_answers_and_their_kl_counts_each_token() -> None:
    model = hardening.model()
    plan = replace(hardening.plan(model), text_rows=2)
    rows = hardening.kept(model)
    text = Corpus("text", "nowhere", "0" * 64, " ".join(f"a fox and {number} dogs" for number in range(400)))
    parts = pieces(model, text, plan, random.Random(0))
    kept_tokens = PIECE - HEAD + (model.tokenizer.bos_token_id is not None)  # a text begins with it
    assert {(len(piece.prompt), len(piece.answer)) for piece in parts} == {(HEAD, kept_tokens)}
    assert len({piece.prompt + piece.answer for piece in parts}) == len(parts) <= plan.steps * 2
    assert pieces(model, None, plan, random.Random(0)) == []
    held = with_original(model, parts, first_block=0, rows=4, teach=True)
    made = Streams.of(Rows(hardening.refusals(model), rows[:3], rows[3:], held), plan)
    kept = made.kept()
    assert [len(piece.answer) for piece in kept][-2:] == [kept_tokens] * 2
    state = json.loads(json.dumps(made.state()))
    after = [(each.prompt, each.answer) for each in made.kept()]
    made.restore(state)
    assert [(each.prompt, each.answer) for each in made.kept()] == after


def test_the_first_tokens_of_a_refusal_have_their_share_of_its_weight() -> None:
    assert token_weights(25, 0.5) == pytest.approx([0.1] * 5 + [0.025] * 20)
    assert token_weights(25, 0.0) == pytest.approx([1 / 25] * 25)
    assert token_weights(6, 0.5) == pytest.approx([1 / 6] * 6)  # half would be less than their part
    assert token_weights(3, 0.5) == pytest.approx([1 / 3] * 3)
    for n, share in ((1, 0.9), (5, 0.2), (40, 0.7), (40, 1.0)):
        assert sum(token_weights(n, share)) == pytest.approx(1.0)
    model = hardening.model()
    rows = hardening.refusals(model)
    with torch.no_grad():
        found, _ = losses(model, rows, [], shift(model), early_share=0.7)
        expected = sum(
            float((token_losses(model, row, shift(model)) * weights(len(row.answer), 0.7)).sum()) for row in rows
        )
    assert float(found) == pytest.approx(expected, rel=1e-4)


def weights(n: int, share: float) -> torch.Tensor:
    """By the definition: five tokens have the share between them, or as much as any five where that is more."""
    held = torch.full((n,), 1.0 / n, dtype=torch.float64)
    if n > 5 and share > 5.0 / n:
        held[:5], held[5:] = share / 5.0, (1.0 - share) / (n - 5)
    return held


def test_the_fail_closed_setting_projects_out_all_directions_found_so_far() -> None:
    model = hardening.model()
    made = pool(model, setting="fail-closed", n_fit=6)
    for step, rank in ((0, 1), (3, 2), (6, 3)):
        made.refit(step)
        drawn = made.draw()
        assert drawn is not None
        attack = drawn[1]
        assert attack.strength == 1.0
        assert len(attack.sites) == 3 * 3
        kept = attack.maps[Site(0, "input")](torch.eye(model.d_model))
        assert int(torch.linalg.matrix_rank(kept, tol=1e-4)) == model.d_model - rank
    found = torch.stack(made.directions.found)
    torch.testing.assert_close(found @ found.T, torch.eye(3, dtype=torch.float64), atol=1e-10, rtol=0)


def test_maps_may_stand_in_a_graph() -> None:
    """Those that are fitted in inference mode may not, and would stop the first step."""
    model = hardening.model()
    made = pool(model, maps=12)
    attach(model, hardening.plan(model))
    made.refit(0)
    rows = hardening.refusals(model)[:2]
    assert len(made.newest) >= 10
    for each in made.newest:
        losses(model, rows, [], each.at(0.9))[0].backward()


def test_attacked_refusals_are_learned() -> None:
    """After a short training under one fixed attack the refusals survive it; before they did not."""
    model = hardening.model()
    plan = hardening.plan(model, steps=40, attack_share=1.0, learning_rate=2e-2, kl_weight=0.1, memory=0)
    plan = replace(plan, attacks=replace(plan.attacks, every=1000))
    trainer = Trainer(model, attach(model, plan), plan)
    made = objective(model, plan)
    attack = shift(model)
    made.pool.newest = [Attack("fixed", 0, "mean-act", attack)]
    made.pool.refit = lambda step: None  # pyright: ignore[reportAttributeAccessIssue]
    train(trainer, made, Silent())
    course = [each["attacked"] for each in trainer.losses]
    assert sum(course[-5:]) < 0.8 * sum(course[:5])


def test_log_probs_of_a_float64_model_stay_float64() -> None:
    model = hardening.model(double=True)
    assert log_probs(model, answer_states(model, hardening.refusals(model)[:1])).dtype == torch.float64


def test_a_pool_that_is_read_again_attacks_bit_for_bit_alike(tmp_path: Path) -> None:
    """Also where a fit hands out tensors that lie column by column, as decompositions do."""
    folder = RunFolder(tmp_path)
    (tmp_path / "maps").mkdir()
    model = hardening.model()
    rows = hardening.refusals(model)[:2]
    for changes in ({"maps": 20, "n_fit": 8}, {"setting": "fail-closed"}):
        made, again = pool(model, **changes), pool(model, **changes)
        for step in (0, 3):
            made.refit(step)
        again.restore(folder, json.loads(json.dumps(made.keep(folder))))
        assert again.names == made.names
        for one, other in zip((*made.newest, *made.memory), (*again.newest, *again.memory), strict=True):
            with torch.no_grad():
                attacked = [float(losses(model, rows, [], each.at(0.7))[0]) for each in (one, other)]
            assert attacked[0] == attacked[1], one.name
        made.refit(6)
        again.refit(6)
        assert made.names == again.names
