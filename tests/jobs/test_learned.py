"""A direction that is learned: its gradient, its loss by a loop, what it finds where the difference of means fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bures.errors import FitError
from bures.jobs.examples import Example, training_attention, with_original
from bures.jobs.learned import Learned, Learning, learned_direction
from bures.jobs.learned.course import STAGE
from bures.jobs.learned.objective import Objective, Taught
from bures.models.activations import collect
from bures.models.fitting import arditi_sites
from bures.models.generation import generate
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.transport import DiagonalAffine, ablate_direction
from helpers import hardening, scripted, tiny

SMALL = Learning(steps=6, rows=3, tokens=4, prompts=8, every=2)
TOPIC = scripted.HARMLESS[20:]


def taught(model: ChatModel) -> Taught:
    """Rows with answers of differing lengths that nobody gave."""
    harmful = [tuple(head) for head in model.encode(list(hardening.ASKED[:3]))]
    harmless = [tuple(head) for head in model.encode([tiny.PROMPTS[i] for i in (0, 1, 5)])]
    answered = [Example(head, head[2 : 4 + i]) for i, head in enumerate(harmful)]
    refused = [Example(head, head[1 : 5 - i]) for i, head in enumerate(harmless)]
    kept = [Example(head, head[3 : 5 + i]) for i, head in enumerate(harmless)]
    return Taught(answered, refused, with_original(model, kept, first_block=0, rows=3, teach=True))


def unit(d: int, seed: int = 0) -> Tensor:
    vector = torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vector / vector.norm()


def log_probs(model: ChatModel, row: Example, by: Intervention) -> Tensor:
    """(answer, vocabulary) of one whole row."""
    ids = torch.tensor([[*row.prompt, *row.answer]])
    with torch.no_grad(), by.applied(model):
        logits = model.hf(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].double()
    return logits[len(row.prompt) - 1 : -1].log_softmax(dim=-1)


def by_hand(objective: Objective, r: Tensor, rows: Taught) -> float:
    """The loss by a loop over rows and tokens, with maps that are no part of the objective."""
    model, how = objective.model, objective.options
    ablated = Intervention(arditi_sites(ablate_direction(r), len(model.blocks)))
    added = Intervention({objective.block: DiagonalAffine("by hand", torch.ones_like(r), objective.length * r)})

    def cross_entropy(row: Example, by: Intervention) -> float:
        logp = log_probs(model, row, by)
        return -sum(float(logp[i, token]) for i, token in enumerate(row.answer)) / len(row.answer)

    kls = list[float]()
    for row in rows.kept:
        p, q = log_probs(model, row, Intervention()), log_probs(model, row, ablated)
        kls += (p.exp() * (p - q)).sum(dim=-1).tolist()
    answering = sum(cross_entropy(row, ablated) for row in rows.answered) / len(rows.answered)
    refusing = sum(cross_entropy(row, added) for row in rows.refused) / len(rows.refused)
    return answering + how.adding * refusing + how.keeping * sum(kls) / len(kls)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_gradient_goes_through_ablation_and_addition(family: str) -> None:
    """Central differences of the loss by hand, along four directions; rows that hold a stream give the same."""
    model = hardening.model(family, double=True)
    at = unit(model.d_model).requires_grad_(True)
    with training_attention(model):
        rows, plain = taught(model), Objective(model, 1, 0.8, Learning(adding=0.7, keeping=1.3))
        begun = with_original(model, rows.refused, first_block=1, rows=4, teach=False)
        losses = [plain(at / at.norm(), rows), replace(plain, entry=1)(at / at.norm(), replace(rows, refused=begun))]
        gradients = [torch.autograd.grad(loss, at)[0] for loss in losses]
        r, changes = at.detach(), list[float]()
        steps = [1e-3 * unit(model.d_model, seed) for seed in range(1, 5)]
        for step in steps:
            ahead, back = r + step, r - step
            changes.append(by_hand(plain, ahead / ahead.norm(), rows) - by_hand(plain, back / back.norm(), rows))
        expected = by_hand(plain, r, rows)
        assert plain.of(r, rows) == pytest.approx(expected, rel=1e-5)
    for loss, gradient in zip(losses, gradients, strict=True):
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
        assert [float(2 * gradient @ step) for step in steps] == pytest.approx(changes, rel=2e-2, abs=1e-6)


REFUSING = len(scripted.Script().words)
"""The coordinate in which the confounded model holds that a word is forbidden, and by which it refuses."""


def confounded() -> ChatModel:
    """The scripted model, with one coordinate for refusal; half of the harmless words have a topic besides."""
    script = scripted.Script()
    network = scripted.network(script)
    attention: Any = network.model.layers[0].self_attn
    heard, topic = REFUSING + 1, REFUSING + 2
    with torch.no_grad():
        for matrix in (attention.v_proj.weight, attention.o_proj.weight):
            matrix[heard] = 0.0
            matrix[REFUSING, REFUSING] = 1.0
        table = network.lm_head.weight
        table[:, REFUSING] = table[:, heard]
        table[:, heard] = 0.0
        network.model.embed_tokens.weight[[script.words.index(word) for word in TOPIC], topic] = -6.0
    return wrap(network, scripted.tokenizer(script), "confounded")


def refusing(model: ChatModel) -> Tensor:
    direction = torch.zeros(model.d_model, dtype=torch.float64)
    direction[REFUSING] = 1.0
    return direction


def sides(n: int) -> tuple[list[str], list[str]]:
    """Forbidden prompts without the topic, and harmless ones of nothing but it."""
    harmful = [" ".join(w for w in text.split() if w not in TOPIC) for text in scripted.prompts(n, bad=True)]
    harmless = [" ".join(TOPIC[(i * 7 + k * k) % 20] for k in range(3 + i % 4)) for i in range(n)]
    return list(dict.fromkeys(harmful)), list(dict.fromkeys(harmless))


def test_it_is_found_where_the_difference_of_means_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusal is one coordinate of the stream, the sides differ mostly in another: ablating the means leaves it."""
    monkeypatch.setattr("bures.jobs.learned.rows.OPENERS", (scripted.ANSWERED,))
    model = confounded()
    harmful, harmless = sides(24)
    heard = refusing(model)
    means = collect(model, harmful)[1].double().mean(0) - collect(model, harmless)[1].double().mean(0)
    assert abs(float(means @ heard / means.norm())) < 0.4
    assert set(generate(model, harmful)) == {scripted.REFUSED}
    with Intervention(arditi_sites(ablate_direction(means), 3)).applied(model):
        assert set(generate(model, harmful)) == {scripted.REFUSED}
    hooks, asking = count_hooks(model), [p.requires_grad for p in model.hf.parameters()]
    found = learned_direction(model, harmful, harmless, options=Learning(rate=0.1, adding=1.0, tokens=6))
    assert abs(float(found.direction @ heard)) > 0.75
    assert float(found.direction.norm()) == pytest.approx(1.0, abs=1e-6)
    assert found.loss < 0.5 * found.at_means
    assert count_hooks(model) == hooks
    assert [p.requires_grad for p in model.hf.parameters()] == asking
    assert all(p.grad is None for p in model.hf.parameters())
    with found.intervention.applied(model):
        assert set(generate(model, harmful)) == {scripted.ANSWERED}
    assert set(generate(model, harmful)) == {scripted.REFUSED}
    assert set(generate(model, harmless)) == {scripted.ANSWERED}


class Told:
    """Counts what was announced and what was done."""

    def __init__(self) -> None:
        self.totals = dict[str, int]()
        self.done = 0

    def stage(self, name: str, total: int) -> None:
        self.totals[name], self.done = total, 0

    def advance(self, n: int = 1) -> None:
        self.done += n

    def row(self, result: object) -> None:
        raise AssertionError(result)

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_the_same_seed_learns_the_same_and_another_one_another() -> None:
    model, told = confounded(), Told()
    harmful, harmless = sides(10)
    one, again, other = (
        learned_direction(model, harmful, harmless, options=replace(SMALL, seed=seed), progress=told)
        for seed in (0, 0, 1)
    )
    assert torch.equal(one.direction, again.direction)
    assert one.loss == again.loss
    assert not torch.equal(one.direction, other.direction)
    assert told.totals == {STAGE: 7}
    assert told.done == 7


def test_answers_under_the_strongest_intervention_are_what_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not openers, where that intervention makes the model answer."""
    model = confounded()
    harmful, harmless = sides(10)
    strongest = Intervention(arditi_sites(ablate_direction(refusing(model)), 3))
    seen = list[tuple[int, ...]]()

    def learn(_: Objective, rows: Taught, means: Tensor, *__: object) -> Learned:
        seen.extend(row.answer for row in rows.answered)
        return Learned(means, "means", 1, 0.0, 0.0, 3)

    monkeypatch.setattr("bures.jobs.learned.course.learn", learn)
    learned_direction(model, harmful, harmless, strongest=strongest, options=SMALL)
    learned_direction(model, harmful, harmless, options=SMALL)
    n = min(len(harmful), SMALL.prompts)
    said = [str(model.tokenizer.decode(list(ids))) for ids in seen]
    assert said[:n] == [" ".join(scripted.ANSWER[:4])] * n
    assert not {*said[n:]} & {*said[:n]}


def test_there_has_to_be_something_to_take_away_and_to_keep() -> None:
    model = scripted.model()
    good, bad = scripted.prompts(4, bad=False), scripted.prompts(4, bad=True)
    with pytest.raises(FitError, match="refuses none of 4 harmful"):
        learned_direction(model, good, good, options=SMALL)
    with pytest.raises(FitError, match="refuses all of 4 harmless"):
        learned_direction(model, bad, bad, options=SMALL)
    with pytest.raises(FitError, match="1 rows"):
        learned_direction(model, bad[:1], good[:1], options=SMALL)
