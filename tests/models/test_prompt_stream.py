"""First-token scores against brute force, and re-entry against whole forward passes."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch

from bures.errors import ConfigError
from bures.models import prompt_stream
from bures.models.batching import Batches
from bures.models.first_token import FirstToken
from bures.models.intervention import Intervention, Site
from bures.models.loading import ChatModel, wrap
from bures.models.prompt_stream import PromptStream, first_token
from bures.models.reentry import shortened
from bures.models.shared_prefix import common
from bures.results.records import Scope
from helpers import families, reference, tiny
from helpers.counting import counted
from helpers.families import FAMILIES
from helpers.intervened import intervention, log_probs, the_map


@pytest.mark.parametrize("scope", [None, "all", "last", "generated"])
def test_first_token_is_brute_force(any_model: ChatModel, scope: Scope | None) -> None:
    heads = any_model.encode(tiny.PROMPTS)
    expected = torch.stack([log_probs(any_model, head, scope, len(head))[-1] for head in heads])
    found = first_token(any_model, tiny.PROMPTS, intervention(any_model, scope), token_budget=200)
    torch.testing.assert_close(found.log_probs.double(), expected, rtol=1e-5, atol=1e-5)

    chosen = (7, 40, 200)
    inside = expected.exp()[:, list(chosen)].sum(dim=1)
    torch.testing.assert_close(found.log_odds(chosen), torch.log(inside / (1 - inside)), rtol=1e-4, atol=1e-6)

    original = torch.stack([log_probs(any_model, head, None, len(head))[-1] for head in heads])
    kl = float((original.exp() * (original - expected)).sum(dim=1).mean())
    before = first_token(any_model, tiny.PROMPTS, Intervention())
    assert before.kl_to(found) == pytest.approx(kl, rel=1e-3, abs=1e-6)
    if scope in ("all", "last"):
        assert before.kl_to(found) > 1e-3
    else:
        assert before.kl_to(found) < 1e-6


@pytest.mark.parametrize("scope", [None, "all", "prompt", "last", "generated"])
def test_behind_a_forced_beginning_the_next_token_is_brute_force(any_model: ChatModel, scope: Scope | None) -> None:
    begin = (40, 7)
    heads = any_model.encode(tiny.PROMPTS)
    expected = torch.stack([log_probs(any_model, [*head, *begin], scope, len(head))[-1] for head in heads])
    move = intervention(any_model, scope)
    stream = PromptStream(any_model, tiny.PROMPTS, begin=begin, token_budget=200)
    torch.testing.assert_close(stream.first_token(move).log_probs.double(), expected, rtol=1e-5, atol=1e-5)
    stream.advance(min((site.block for site in move.sites), default=1))
    if all(site.where == "output" for site in move.sites):
        torch.testing.assert_close(stream.first_token(move).log_probs.double(), expected, rtol=1e-5, atol=1e-5)
    plain = first_token(any_model, tiny.PROMPTS, move)
    assert not torch.allclose(plain.log_probs.double(), expected, atol=1e-2)


def test_log_odds_by_hand() -> None:
    rows = FirstToken(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]]).log())
    assert rows.log_odds([0]).tolist() == pytest.approx([0.0, math.log(0.2 / 0.8)], abs=1e-6)
    assert rows.log_odds([1, 2]).tolist() == pytest.approx([0.0, math.log(0.8 / 0.2)], abs=1e-6)
    other = FirstToken(torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.4, 0.4]]).log())
    assert rows.kl_to(other) == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(0.5)) / 2)


def test_log_odds_stay_finite_at_certainty() -> None:
    rows = FirstToken(torch.tensor([[0.0, -200.0, -200.0]]))
    assert 20 < float(rows.log_odds([0])) < 1000
    assert -1000 < float(rows.log_odds([1])) < -20


def test_log_odds_of_no_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match="no refusal tokens"):
        FirstToken(torch.zeros(1, 3)).log_odds([])


# Re-entry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "last", "prompt"])
def test_re_entry_equals_whole_passes(any_model: ChatModel, scope: Scope) -> None:
    stream = PromptStream(any_model, tiny.PROMPTS, token_budget=200)
    assert len(stream) == len(tiny.PROMPTS)
    for block in range(3):
        stream.advance(block)
        assert stream.block == block
        for later in range(block, 3):
            move = Intervention({later: the_map(any_model)}, tokens=scope)
            whole = first_token(any_model, tiny.PROMPTS, move, token_budget=200)
            torch.testing.assert_close(stream.first_token(move).log_probs, whole.log_probs, rtol=1e-6, atol=1e-6)
    untouched = stream.first_token(Intervention()).log_probs
    whole = first_token(any_model, tiny.PROMPTS, Intervention(), token_budget=200).log_probs
    torch.testing.assert_close(untouched, whole, rtol=1e-6, atol=1e-6)


def test_blocks_may_be_jumped_over(llama: ChatModel) -> None:
    walked, jumped = PromptStream(llama, tiny.PROMPTS), PromptStream(llama, tiny.PROMPTS)
    for block in (0, 1, 2):
        walked.advance(block)
    jumped.advance(2)
    move = intervention(llama, None)
    torch.testing.assert_close(walked.first_token(move).log_probs, jumped.first_token(move).log_probs)


def test_what_lies_behind_is_refused(llama: ChatModel) -> None:
    stream = PromptStream(llama, tiny.PROMPTS)
    stream.advance(1)
    with pytest.raises(ConfigError, match="cannot be reached"):
        stream.advance(0)
    with pytest.raises(ConfigError, match="cannot be reached"):
        stream.advance(3)
    for site in (Site(0), Site(1, "input"), Site(1, "mlp")):
        with pytest.raises(ConfigError, match="lies before block 1"):
            stream.first_token(Intervention({site: the_map(llama)}))
    stream.first_token(Intervention({Site(2, "mlp"): the_map(llama)}))


def test_blocks_compute_again_afterwards(llama: ChatModel) -> None:
    before = first_token(llama, tiny.PROMPTS, Intervention()).log_probs
    own = llama.blocks[0]
    wrapped = MethodType(type(own).forward, own)  # as libraries do that move inputs between devices
    own.forward = wrapped
    try:
        stream = PromptStream(llama, tiny.PROMPTS)
        stream.advance(1)
        stream.first_token(Intervention())
        with pytest.raises(RuntimeError):  # a map without data: whatever is raised inside, nothing stays replaced
            stream.first_token(Intervention({1: the_map(llama).to(device="meta")}))
    finally:
        assert own.__dict__["forward"] is wrapped
        del own.forward
    assert all("forward" not in block.__dict__ for block in llama.blocks)
    assert torch.equal(first_token(llama, tiny.PROMPTS, Intervention()).log_probs, before)


def test_no_prompts_are_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="no prompts"):
        PromptStream(llama, [])


# What all prompts begin with --------------------------------------------------------------------------------------

SYSTEM = "You answer in one short sentence, whatever you are asked."


def scored(model: ChatModel, move: Intervention, block: int, *, shared: bool) -> torch.Tensor:
    model.entries.over_prefix = None if shared else False
    stream = PromptStream(model, tiny.PROMPTS, system=SYSTEM, token_budget=400)
    if block >= 0:
        stream.advance(block)
    found = stream.first_token(move).log_probs
    model.entries.over_prefix = None
    return found


@pytest.mark.parametrize("scope", ["all", "last", "prompt", "generated"])
def test_a_common_beginning_changes_no_score(any_model: ChatModel, scope: Scope) -> None:
    for block in (0, 2):
        move = Intervention({block: the_map(any_model)}, scope)
        whole = scored(any_model, move, -1, shared=False)
        for entry in (-1, block):
            torch.testing.assert_close(scored(any_model, move, entry, shared=True), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_scores_the_same_behind_a_common_beginning(name: str) -> None:
    model = wrap(families.network(name), tiny.tokenizer(), name)
    move = Intervention({1: reference.low_rank(model.d_model, seed=3)})
    whole = scored(model, move, -1, shared=False)
    torch.testing.assert_close(scored(model, move, 1, shared=True), whole, rtol=1e-4, atol=1e-4)


def test_a_common_beginning_is_computed_once_a_candidate(llama: ChatModel) -> None:
    prompts = [*tiny.PROMPTS, *tiny.PROMPTS]
    stream = PromptStream(llama, prompts, system=SYSTEM, token_budget=10_000)
    stream.advance(0)
    with counted(llama) as seen:
        stream.first_token(Intervention({0: the_map(llama)}))
    sequences = llama.encode(prompts, system=SYSTEM)
    begin, longest = common(sequences), max(map(len, sequences))
    own = sum(batch.ids.numel() for batch in Batches(sequences, pad_id=0, token_budget=10_000))
    assert sum(seen) == 2 * (begin + own - len(prompts) * begin)
    assert own < len(prompts) * longest, "and little of it is pads"


def test_what_is_read_is_of_these_and_the_originals_distributions(llama: ChatModel) -> None:
    stream = PromptStream(llama, tiny.PROMPTS, token_budget=200)
    stream.advance(1)
    move = Intervention({1: the_map(llama)})
    before, after = stream.first_token(Intervention()), stream.first_token(move)
    for _ in range(2):
        found = stream.read(move, lambda moved, original: original().kl_each(moved))
        torch.testing.assert_close(found, before.kl_each(after), rtol=1e-5, atol=1e-8)


def test_what_a_decoder_returned_is_kept_without_its_keys_and_values(llama: ChatModel) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    returned = llama.decoder(input_ids=ids, use_cache=True)
    kept = shortened(returned, 2)
    assert [*kept.values()] == [kept.last_hidden_state]
    assert torch.equal(kept.last_hidden_state, returned.last_hidden_state[:, -2:])


@pytest.mark.parametrize(("room", "heads"), [(1 << 20, [2, 1, 1]), (0, [2, 2, 2])])
def test_the_originals_distributions_are_kept_where_they_are_few(
    llama: ChatModel, monkeypatch: pytest.MonkeyPatch, room: int, heads: list[int]
) -> None:
    monkeypatch.setattr(prompt_stream, "KEPT", room)
    llama.entries.at_head = True
    stream, ran = PromptStream(llama, ["How far is it?"] * 3), list[int]()
    stream.advance(1)
    head: Any = llama.hf.get_output_embeddings()
    handle, found = head.register_forward_hook(lambda *_: ran.append(1)), list[torch.Tensor]()
    try:
        for seen in heads:
            ran.clear()
            found.append(stream.read(Intervention({1: the_map(llama)}), lambda moved, was: was().kl_each(moved)))
            assert len(ran) == seen, "once moved, and as it was"
    finally:
        handle.remove()
    assert float(found[0].min()) > 1e-6
    for each in found[1:]:
        torch.testing.assert_close(each, found[0])


def test_distributions_over_a_large_vocabulary_are_not_kept(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_stream, "KEPT", 0)
    prompts = [f"What is {i} times {i}?" for i in range(40)]
    stream = PromptStream(llama, prompts, token_budget=200)
    stream.advance(2)
    seen: list[weakref.ref[torch.Tensor]] = []

    def look(moved: FirstToken, original: Callable[[], FirstToken]) -> torch.Tensor:
        before = original()
        seen.extend([weakref.ref(moved.log_probs), weakref.ref(before.log_probs)])
        return before.kl_each(moved)

    assert stream.read(Intervention({2: the_map(llama)}), look).shape == (len(prompts),)
    gc.collect()
    assert len(seen) >= 10
    assert [i for i, each in enumerate(seen) if each() is not None] == []
