"""Interventions against the same edits made without hooks; what is touched, what is not, and what is left behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import bures.models.intervention
from bures.errors import ConfigError
from bures.models.batching import pad
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel, wrap
from bures.models.past import past_for, past_of
from bures.models.tokens import TokenKind, kinds_of, token_kinds
from bures.results.records import Scope
from helpers import reference, tiny

SCOPES: tuple[Scope, ...] = ("all", "prompt", "last", "generated")
Side = Literal["left", "right"]


def tensor_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def logits_of(model: ChatModel, ids: Sequence[int]) -> Tensor:
    with torch.inference_mode():
        return model.hf(input_ids=torch.tensor([list(ids)])).logits


@contextmanager
def recorded(model: ChatModel, block: int) -> Iterator[list[Tensor]]:
    """What a block hands on to hooks that are registered later than this one."""
    seen: list[Tensor] = []
    handle = model.blocks[block].register_forward_hook(lambda _, __, output: seen.append(tensor_of(output).clone()))
    try:
        yield seen
    finally:
        handle.remove()


def before_and_after(
    model: ChatModel, intervention: Intervention, block: int, run: Callable[[], object]
) -> tuple[list[Tensor], list[Tensor]]:
    """A block's outputs in every forward pass, as they come and as the intervention hands them on."""
    with (
        torch.inference_mode(),
        recorded(model, block) as plain,
        intervention.applied(model),
        recorded(model, block) as moved,
    ):
        run()
    return plain, moved


# What is done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(3))
def test_a_map_at_a_block_output_is_the_edit_by_hand(any_model: ChatModel, block: int) -> None:
    map_ = reference.low_rank(any_model.d_model, seed=block)
    ids = any_model.encode(["How do I bake bread?"])[0]
    with reference.replaced(any_model.blocks[block], reference.dense(map_)):
        expected = logits_of(any_model, ids)
    with Intervention({block: map_}).applied(any_model):
        actual = logits_of(any_model, ids)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert float((actual - logits_of(any_model, ids)).abs().max()) > 1e-2  # the edit does something


@pytest.mark.parametrize("where", ["input", "attention", "mlp"])
@pytest.mark.parametrize("block", [0, 2])
def test_a_map_at_another_site_is_the_edit_by_hand(any_model: ChatModel, where: Any, block: int) -> None:
    map_ = reference.low_rank(any_model.d_model, seed=7)
    ids = any_model.encode(["Name three rivers."])[0]
    layer: Any = any_model.blocks[block]
    attention, mlp = reference.writers(layer)
    module = {"input": layer, "attention": attention, "mlp": mlp}[where]
    with reference.replaced(module, reference.dense(map_), where):
        expected = logits_of(any_model, ids)
    with Intervention({Site(block, where): map_}).applied(any_model):
        actual = logits_of(any_model, ids)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert float((actual - logits_of(any_model, ids)).abs().max()) > 1e-3


def test_several_sites_at_once(llama: ChatModel) -> None:
    maps = [reference.low_rank(llama.d_model, seed=i) for i in range(3)]
    ids = llama.encode(["List four colours."])[0]
    layer: Any = llama.blocks[1]
    with (
        reference.replaced(llama.blocks[0], reference.dense(maps[0])),
        reference.replaced(layer.mlp, reference.dense(maps[1])),
        reference.replaced(layer, reference.dense(maps[2])),
    ):
        expected = logits_of(llama, ids)
    with Intervention({0: maps[0], Site(1, "mlp"): maps[1], Site(1): maps[2]}).applied(llama):
        torch.testing.assert_close(logits_of(llama, ids), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("make", [reference.low_rank, reference.shift])
def test_strength_interpolates_and_extrapolates(llama: ChatModel, strength: float, make: Any) -> None:
    map_ = make(llama.d_model)
    ids = torch.tensor([llama.encode(["2 + 2?"])[0]])
    plain, moved = before_and_after(
        llama, Intervention({1: map_}, strength=strength), 1, lambda: llama.decoder(input_ids=ids)
    )
    h = plain[0].double()
    whole = reference.dense(map_)(h)
    torch.testing.assert_close(moved[0].double(), h + strength * (whole - h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nothing", [Intervention(), Intervention({1: reference.shift(32)}, strength=0.0)])
def test_no_maps_or_no_strength_is_the_model_itself(llama: ChatModel, nothing: Intervention) -> None:
    ids = llama.encode(["2 + 2?"])[0]
    before, hooks = logits_of(llama, ids), count_hooks(llama)
    with nothing.applied(llama):
        assert count_hooks(llama) == hooks
        assert torch.equal(logits_of(llama, ids), before)


def test_nested_interventions_apply_in_the_order_of_entry(llama: ChatModel) -> None:
    outer, inner = reference.low_rank(llama.d_model, seed=1), reference.low_rank(llama.d_model, seed=2)
    ids = llama.encode(["2 + 2?"])[0]
    F, G = reference.dense(outer), reference.dense(inner)
    with reference.replaced(llama.blocks[1], lambda h: G(F(h))):
        expected_both = logits_of(llama, ids)
    with reference.replaced(llama.blocks[1], F):
        expected_outer = logits_of(llama, ids)
    with Intervention({1: outer}).applied(llama):
        with Intervention({1: inner}).applied(llama):
            torch.testing.assert_close(logits_of(llama, ids), expected_both, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits_of(llama, ids), expected_outer, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected_both, expected_outer, atol=1e-3)


def test_nested_scopes_do_not_disturb_each_other(llama: ChatModel) -> None:
    wide, narrow = reference.shift(llama.d_model, seed=1), reference.shift(llama.d_model, seed=2)
    ids = torch.tensor([llama.encode(["2 + 2?"])[0]])
    with (
        torch.inference_mode(),
        recorded(llama, 0) as plain,
        Intervention({0: wide}, tokens="all").applied(llama),
        Intervention({0: narrow}, tokens="last").applied(llama),
        recorded(llama, 0) as moved,
    ):
        llama.decoder(input_ids=ids)
    change = (moved[0] - plain[0]).double()[0]
    torch.testing.assert_close(change[:-1], wide.bias.expand(len(change) - 1, -1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(change[-1], wide.bias + narrow.bias, rtol=1e-4, atol=1e-5)


def test_a_bfloat16_model_is_moved_in_float32() -> None:
    model = wrap(tiny.network("llama").bfloat16(), tiny.tokenizer(), "half")
    map_ = reference.low_rank(model.d_model, rank=4)
    ids = torch.tensor([model.encode(["Write a short poem about the sea."])[0]])
    plain, moved = before_and_after(model, Intervention({1: map_}), 1, lambda: model.decoder(input_ids=ids))
    assert moved[0].dtype == torch.bfloat16
    full = reference.dense(map_.to(dtype=torch.float32).to(dtype=torch.float64))(plain[0].float()).bfloat16()
    half = map_.to(dtype=torch.bfloat16)
    coarse = (
        plain[0] + ((plain[0] - half.mean) @ half.basis_in @ half.matrix.mT + half.offset) @ half.basis_out.mT
    )  # what it would be in bfloat16
    assert float((moved[0] == full).float().mean()) > 0.99  # up to ties in rounding
    assert float((moved[0] == coarse).float().mean()) < 0.9


# Which tokens ---------------------------------------------------------------------------------------------------


def padded(model: ChatModel, side: Side) -> tuple[Tensor, Tensor, list[int]]:
    rows = model.encode(["How do I bake bread?", "2 + 2?", "Name three rivers."])
    ids, attended = pad(rows, pad_id=model.pad_id, side=side)
    return ids, attended, [len(row) for row in rows]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("scope", SCOPES)
def test_scopes_move_exactly_their_positions_and_never_a_pad(any_model: ChatModel, scope: Scope, side: Side) -> None:
    ids, attended, lengths = padded(any_model, side)
    width = ids.shape[1]
    expected = torch.zeros_like(attended)
    for row, length in enumerate(lengths):
        first = width - length if side == "left" else 0
        if scope in ("all", "prompt"):
            expected[row, first : first + length] = True
        if scope == "last":
            expected[row, first + length - 1] = True
    plain, moved = before_and_after(
        any_model,
        Intervention({1: reference.shift(any_model.d_model)}, tokens=scope),
        1,
        lambda: any_model.decoder(input_ids=ids, attention_mask=attended.long(), use_cache=False),
    )
    assert torch.equal((plain[0] != moved[0]).any(dim=-1), expected)
    assert torch.equal(plain[0][~attended], moved[0][~attended])
    torch.testing.assert_close(
        moved[0][expected], reference.dense(reference.shift(any_model.d_model))(plain[0][expected])
    )


@pytest.mark.parametrize("scope", SCOPES)
def test_generation_with_a_cache_tells_prompt_from_answer(any_model: ChatModel, scope: Scope) -> None:
    ids, attended, _ = padded(any_model, "left")
    intervention = Intervention({1: reference.shift(any_model.d_model)}, tokens=scope)
    hf: Any = any_model.hf
    plain, moved = before_and_after(
        any_model,
        intervention,
        1,
        lambda: hf.generate(ids, attention_mask=attended.long(), max_new_tokens=4, min_new_tokens=4, do_sample=False),
    )
    assert [h.shape[1] for h in plain] == [ids.shape[1], 1, 1, 1]
    changed = [(a != b).any(dim=-1) for a, b in zip(plain, moved, strict=True)]
    in_prompt = torch.zeros_like(attended)
    if scope in ("all", "prompt"):
        in_prompt = attended
    if scope == "last":
        in_prompt[:, -1] = True
    assert torch.equal(changed[0], in_prompt)
    for step in changed[1:]:
        assert bool(step.all()) if scope in ("all", "generated") else not bool(step.any())


@torch.inference_mode()
def stepwise(model: ChatModel, ids: Tensor, attended: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Greedy tokens (b, steps) and the logits (b, steps, v) that chose them, one token at a time with a cache."""
    mask, feed, cache = attended.long(), ids, None
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    tokens, logits = [], []
    for _ in range(steps):
        output = model.hf(
            input_ids=feed, attention_mask=mask, position_ids=places, **past_for(model.hf, cache), use_cache=True
        )
        cache = past_of(output)
        logits.append(output.logits[:, -1])
        feed = logits[-1].argmax(dim=-1, keepdim=True)
        tokens.append(feed)
        mask = torch.cat([mask, torch.ones_like(feed)], dim=1)
        places = mask.sum(dim=1, keepdim=True) - 1
    return torch.cat(tokens, dim=1), torch.stack(logits, dim=1)


@torch.inference_mode()
def forced(model: ChatModel, ids: Tensor, attended: Tensor, answers: Tensor, *, told: bool) -> Tensor:
    """The same logits from one pass over prompt and answer together."""
    whole = torch.cat([ids, answers], dim=1)
    mask = torch.cat([attended, torch.ones_like(answers, dtype=torch.bool)], dim=1)
    places = (mask.long().cumsum(dim=1) - 1).clamp(min=0)

    def run() -> Tensor:
        logits = model.hf(input_ids=whole, attention_mask=mask.long(), position_ids=places, use_cache=False).logits
        return logits[:, -answers.shape[1] - 1 : -1]

    if not told:
        return run()
    with token_kinds(kinds_of(mask, attended.sum(dim=1))):
        return run()


@pytest.mark.parametrize("scope", SCOPES)
def test_teacher_forcing_sees_what_generation_saw(any_model: ChatModel, scope: Scope) -> None:
    ids, attended, _ = padded(any_model, "left")
    with Intervention({1: reference.low_rank(any_model.d_model)}, tokens=scope).applied(any_model):
        answers, expected = stepwise(any_model, ids, attended, 5)
        torch.testing.assert_close(forced(any_model, ids, attended, answers, told=True), expected, rtol=1e-4, atol=1e-5)
        if scope != "all":  # one pass alone cannot know where the answer begins
            assert not torch.allclose(forced(any_model, ids, attended, answers, told=False), expected, atol=1e-4)


# What is told by nobody -------------------------------------------------------------------------------------------


@torch.inference_mode()
def in_pieces(model: ChatModel, ids: Tensor, attended: Tensor, answers: Tensor) -> Tensor:
    """The same logits: the prompts cached in two pieces, the answers in one."""
    mask = torch.cat([attended, torch.ones_like(answers, dtype=torch.bool)], dim=1).long()
    places, whole = (mask.cumsum(dim=1) - 1).clamp(min=0), torch.cat([ids, answers], dim=1)
    cuts = [0, ids.shape[1] // 2, ids.shape[1], whole.shape[1]]
    cache, logits = None, []
    for start, end in pairwise(cuts):
        output = model.hf(
            input_ids=whole[:, start:end],
            attention_mask=mask[:, :end],
            position_ids=places[:, start:end],
            **past_for(model.hf, cache),
            use_cache=True,
        )
        cache = past_of(output)
        logits.append(output.logits)
    return torch.cat(logits, dim=1)[:, -answers.shape[1] - 1 : -1]


@torch.inference_mode()
def uncached(model: ChatModel, ids: Tensor, attended: Tensor, steps: int) -> Tensor:
    """Greedy tokens, every pass from the beginning."""
    whole, mask = ids, attended.long()
    for _ in range(steps):
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = model.hf(input_ids=whole, attention_mask=mask, position_ids=places, use_cache=False).logits
        whole = torch.cat([whole, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return whole[:, ids.shape[1] :]


@pytest.mark.parametrize("scope", SCOPES)
def test_with_the_lengths_of_the_prompts_every_road_gives_the_same(any_model: ChatModel, scope: Scope) -> None:
    ids, attended, _ = padded(any_model, "left")
    move = Intervention({1: reference.low_rank(any_model.d_model)}, tokens=scope)
    with move.applied(any_model):
        answers, expected = stepwise(any_model, ids, attended, 5)
    lengths = attended.sum(dim=1)
    for given in (lengths, lengths.tolist()):
        with move.applied(any_model, prompt_lengths=given):
            torch.testing.assert_close(stepwise(any_model, ids, attended, 5)[1], expected, rtol=1e-4, atol=1e-5)
            whole = forced(any_model, ids, attended, answers, told=False)
            torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
            if not any_model.parts.pads_matter:
                pieces = in_pieces(any_model, ids, attended, answers)
                torch.testing.assert_close(pieces, expected, rtol=1e-4, atol=1e-5)
            assert torch.equal(uncached(any_model, ids, attended, 5), answers)


@pytest.mark.parametrize("scope", ["prompt", "last", "generated"])
def test_what_cannot_be_told_is_refused(llama: ChatModel, scope: Scope) -> None:
    ids, attended, _ = padded(llama, "left")
    answers = torch.full((ids.shape[0], 3), 70)
    move = Intervention({1: reference.low_rank(llama.d_model)}, tokens=scope)
    with move.applied(llama), pytest.raises(ConfigError, match="cached ones, which may be"):
        in_pieces(llama, ids, attended, answers)
    with move.applied(llama), pytest.raises(ConfigError, match="generation without a cache; give prompt_lengths"):
        uncached(llama, ids, attended, 3)
    with Intervention(move.maps).applied(llama):  # scope `all` needs to know nothing
        in_pieces(llama, ids, attended, answers)
        uncached(llama, ids, attended, 3)


def test_beams_are_rows_of_their_prompts(llama: ChatModel) -> None:
    ids, attended, _ = padded(llama, "left")
    map_, lengths = reference.low_rank(llama.d_model), attended.sum(dim=1)

    def search() -> Tensor:
        return llama.hf.generate(  # pyright: ignore[reportCallIssue]
            ids, attention_mask=attended.long(), num_beams=3, do_sample=False, max_new_tokens=4, pad_token_id=0
        )

    with Intervention({1: map_}, tokens="last").applied(llama):
        expected = search()
    with Intervention({1: map_}, tokens="last").applied(llama, prompt_lengths=lengths):
        assert torch.equal(search(), expected)
    move = Intervention({1: map_}, tokens="last").applied(llama, prompt_lengths=lengths[:-1])
    with move, pytest.raises(ConfigError, match="2 prompt_lengths for a batch of 9 rows"):
        search()


@pytest.mark.parametrize("lengths", [[], [0, 3], [1.5], [[1], [2]], torch.tensor([2.0])])
def test_bad_lengths_are_refused(llama: ChatModel, lengths: Any) -> None:
    move = unchecked(maps={0: reference.shift(llama.d_model)}, tokens="last")
    with pytest.raises(ConfigError, match="prompt_lengths") as caught, plain_applied(move, llama, lengths):
        pytest.fail("entered")
    assert "\n" not in str(caught.value)


def test_kinds_by_hand() -> None:
    attended = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    kinds = kinds_of(attended, torch.tensor([2, 4]))
    P, L, G, _ = TokenKind.PROMPT, TokenKind.LAST, TokenKind.GENERATED, TokenKind.PAD
    assert kinds.tolist() == [[0, 0, P, L, G, G], [P, P, P, L, 0, 0]]
    assert kinds_of(attended, torch.tensor([9, 9])).tolist() == [[0, 0, P, P, P, P], [P, P, P, P, 0, 0]]


def test_token_kinds_end_with_their_block(llama: ChatModel) -> None:
    ids = torch.tensor([llama.encode(["2 + 2?"])[0]])
    kinds = torch.full_like(ids, int(TokenKind.PAD))
    intervention = Intervention({0: reference.shift(llama.d_model)})

    def fail() -> None:
        llama.decoder(input_ids=ids)
        raise RuntimeError("on purpose")

    def run() -> None:
        with pytest.raises(RuntimeError, match="on purpose"), token_kinds(kinds):
            fail()
        llama.decoder(input_ids=ids)

    plain, moved = before_and_after(llama, intervention, 0, run)
    assert torch.equal(plain[0], moved[0])  # all pads, it was said
    assert bool((plain[1] != moved[1]).any(dim=-1).all())


def test_masks_and_inputs_by_other_names(llama: ChatModel) -> None:
    ids, attended, _ = padded(llama, "left")
    intervention = Intervention({0: reference.shift(llama.d_model)})
    embedded = llama.hf.get_input_embeddings()(ids)
    calls: list[Callable[[], object]] = [
        lambda: llama.decoder(ids, attended.long()),
        lambda: llama.decoder(input_ids=ids, attention_mask=attended),
        lambda: llama.decoder(inputs_embeds=embedded, attention_mask=attended.float()),
    ]
    for run in calls:
        plain, moved = before_and_after(llama, intervention, 0, run)
        assert torch.equal((plain[0] != moved[0]).any(dim=-1), attended)
    plain, moved = before_and_after(llama, intervention, 0, lambda: llama.decoder(input_ids=ids))
    assert bool((plain[0] != moved[0]).any(dim=-1).all())  # no mask: nothing is a pad
    square = torch.zeros(3, 1, ids.shape[1], ids.shape[1])
    with intervention.applied(llama), pytest.raises(ConfigError, match="2-d attention mask"):
        llama.decoder(input_ids=ids, attention_mask=square)


# What is left behind ---------------------------------------------------------------------------------------------


def test_hooks_are_there_inside_and_gone_afterwards(any_model: ChatModel) -> None:
    hooks = count_hooks(any_model)
    ids = any_model.encode(["2 + 2?"])[0]
    before = logits_of(any_model, ids)
    map_ = reference.shift(any_model.d_model)
    with Intervention({0: map_, Site(1, "attention"): map_}).applied(any_model):
        assert count_hooks(any_model) == hooks + 2 + 3  # three read the mask
        assert not torch.equal(logits_of(any_model, ids), before)
    assert count_hooks(any_model) == hooks
    assert torch.equal(logits_of(any_model, ids), before)


def test_an_exception_inside_the_block_leaves_nothing(llama: ChatModel) -> None:
    hooks = count_hooks(llama)

    def fail() -> None:
        assert count_hooks(llama) > hooks
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Intervention({0: reference.shift(llama.d_model)}).applied(llama):
        fail()
    assert count_hooks(llama) == hooks


def test_an_exception_in_the_forward_pass_leaves_nothing(llama: ChatModel) -> None:
    hooks = count_hooks(llama)

    def fail(_: Tensor) -> Tensor:
        raise ZeroDivisionError

    with (
        reference.replaced(llama.blocks[2], fail),
        pytest.raises(ZeroDivisionError),
        Intervention({0: reference.shift(llama.d_model)}).applied(llama),
    ):
        logits_of(llama, [1, 2, 3])
    assert count_hooks(llama) == hooks


def test_an_exception_while_registering_leaves_nothing(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = count_hooks(llama)
    attach: Any = vars(bures.models.intervention)["_attach"]
    inside: list[int] = []

    def second_fails(model: ChatModel, site: Site, edit: Any, stack: Any) -> Any:
        if site.block == 1:
            inside.append(count_hooks(model))
            raise MemoryError
        return attach(model, site, edit, stack)

    monkeypatch.setattr(bures.models.intervention, "_attach", second_fails)
    map_ = reference.shift(llama.d_model)
    with pytest.raises(MemoryError), Intervention({0: map_, 1: map_}).applied(llama):
        pass
    assert inside == [hooks + 4]  # the first site was there already, and three that read the mask
    assert count_hooks(llama) == hooks


def test_activations_are_not_edited_in_place(llama: ChatModel) -> None:
    ids = torch.tensor([llama.encode(["2 + 2?"])[0]])
    kept: list[tuple[Tensor, Tensor]] = []
    handle = llama.blocks[0].register_forward_hook(
        lambda _, __, output: kept.append((tensor_of(output), tensor_of(output).clone()))
    )
    try:
        for scope in SCOPES:
            with torch.inference_mode(), Intervention({0: reference.shift(llama.d_model)}, scope).applied(llama):
                llama.decoder(input_ids=ids)
    finally:
        handle.remove()
    assert len(kept) == 4
    assert all(torch.equal(tensor, copy) for tensor, copy in kept)


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("intervention", "words"),
    [
        (Intervention({3: reference.shift(32)}), "block 3 does not exist"),
        (Intervention({-1: reference.shift(32)}), "block -1 does not exist"),
        (Intervention({0: reference.shift(32), 9: reference.shift(32)}), "expected 0 to 2"),
        (Intervention({1: reference.shift(16)}), "width 16"),
    ],
)
def test_an_intervention_that_does_not_fit_is_refused(llama: ChatModel, intervention: Any, words: str) -> None:
    hooks = count_hooks(llama)
    with pytest.raises(ConfigError, match=words) as caught, intervention.applied(llama):
        pytest.fail("entered")
    assert "\n" not in str(caught.value)
    assert count_hooks(llama) == hooks


def test_an_unknown_site_is_refused(llama: ChatModel) -> None:
    where: Any = "nowhere"
    intervention = Intervention({Site(1, where): reference.shift(32)})
    with pytest.raises(ConfigError, match="nowhere"), intervention.applied(llama):
        pytest.fail("entered")


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_bad_strength_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength") as caught:
        Intervention({}, strength=strength)
    assert "\n" not in str(caught.value)


def unchecked(**fields: Any) -> Intervention:
    """An intervention past the type checks that only tests have; nothing has checked it."""
    made = object.__new__(Intervention)
    for name, value in {"maps": {}, "tokens": "all", "strength": 1.0, **fields}.items():
        object.__setattr__(made, name, value)
    return made


@contextmanager
def plain_applied(move: Intervention, model: ChatModel, lengths: Any) -> Iterator[None]:
    """`applied` without the type check of its arguments."""
    undecorated: Any = inspect.unwrap(Intervention.applied)
    with contextmanager(undecorated)(move, model, prompt_lengths=lengths):
        yield


@pytest.mark.parametrize("key", [np.int64(1), np.int32(1), torch.tensor(1), (1,), (np.int64(1), "output")])
def test_whole_numbers_of_other_types_name_blocks(llama: ChatModel, key: Any) -> None:
    map_ = reference.shift(llama.d_model)
    made = unchecked(maps={key: map_})
    made.__post_init__()
    assert made.sites == (Site(1),)
    assert type(made.sites[0].block) is int
    ids = llama.encode(["2 + 2?"])[0]
    with Intervention({1: map_}).applied(llama):
        expected = logits_of(llama, ids)
    with made.applied(llama):
        assert torch.equal(logits_of(llama, ids), expected)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ({"0": reference.shift(32)}, "'0' of type str is neither"),
        ({1.0: reference.shift(32)}, "of type float is neither"),
        ({None: reference.shift(32)}, "of type NoneType is neither"),
        ({(): reference.shift(32)}, "of type tuple is neither"),
        ({(0, "mlp", 1): reference.shift(32)}, "of type tuple is neither"),
        ([reference.shift(32)], "the maps are a list; expected a dict"),
        (reference.shift(32), "expected a dict"),
        ({0: torch.zeros(32)}, "is a Tensor, no map"),
        ({0: {1: reference.shift(32)}}, "is a dict, no map"),
    ],
)
def test_maps_that_are_none_are_refused(maps: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        unchecked(maps=maps).__post_init__()
    assert "\n" not in str(caught.value)


def test_an_unknown_scope_is_refused() -> None:
    made = unchecked(tokens="some")
    with pytest.raises(ConfigError, match="unknown token scope 'some'; expected one of all, prompt") as caught:
        made.__post_init__()
    assert "\n" not in str(caught.value)


def test_sites_and_blocks_are_listed() -> None:
    map_ = reference.shift(4)
    intervention = Intervention({2: map_, Site(0, "mlp"): map_, Site(2, "input"): map_})
    assert intervention.sites == (Site(2), Site(0, "mlp"), Site(2, "input"))
    assert intervention.blocks == (0, 2)
