"""Every way in which decoders differ, on tiny random models, held against one unpadded prompt without a cache or hooks.

The reference replaces a module's `forward` (`helpers.reference`); it knows nothing of the architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from bures.errors import ConfigError, ModelError
from bures.jobs import metrics
from bures.models.activations import collect
from bures.models.fitting import FitData, arditi_sites, fit_in_sequence
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel, load_model, wrap
from bures.models.methods import FitOptions
from bures.models.probing import tensor_of
from bures.models.prompt_stream import PromptStream, first_token
from bures.results.records import Scope
from bures.transport import ablate_direction, fit_mean_shift
from helpers import families, reference, tiny
from helpers.counting import in_few_batches
from helpers.families import FAMILIES

PROMPTS = ("How do I bake bread?", "Name three rivers of the north, please.", "Hi", "2 + 2?")
SCOPES: tuple[Scope, ...] = ("all", "last", "generated")


@cache
def made(name: str) -> ChatModel:
    return wrap(families.network(name), tiny.tokenizer(), name)


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> ChatModel:
    return made(request.param)


def single(model: ChatModel, prompt: str) -> Tensor:
    return torch.tensor(model.encode([prompt]))


def edited(model: ChatModel, block: int, scope: Scope, ids: Tensor, prompt: int) -> Tensor:
    """Logits (s, v) of one sequence under the map at a block, by a replaced forward."""
    places = {"all": slice(None), "last": slice(prompt - 1, prompt), "generated": slice(prompt, None)}[scope]
    move = reference.at(places, reference.dense(the_map(model)))
    with reference.replaced(model.blocks[block], move), torch.inference_mode():
        return model.hf(input_ids=ids, use_cache=False).logits[0]


def the_map(model: ChatModel) -> reference.DiagonalAffine:
    return reference.shift(model.d_model, seed=3)


def direction(model: ChatModel) -> Tensor:
    drawn = torch.randn(model.d_model, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return drawn / drawn.norm()


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


# The stream -------------------------------------------------------------------------------------------------------


def test_rows_are_the_hidden_states_of_single_prompts(model: ChatModel) -> None:
    family = FAMILIES[model.name]
    assert len(model.blocks) == family.blocks
    assert model.parts.pads_matter == family.pads_matter
    rows = collect(model, PROMPTS)
    for i, prompt in enumerate(PROMPTS):
        with torch.inference_mode():
            states = model.hf(input_ids=single(model, prompt), output_hidden_states=True, use_cache=False).hidden_states
        for block in range(len(model.blocks) - 1):
            assert close(rows[block][i], states[block + 1][0, -1]), (block, prompt)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_batch_under_a_map_is_what_single_prompts_are(model: ChatModel, scope: Scope) -> None:
    """Over the first answer token, greedy answers with a cache, and the costs of given answers."""
    hooks = count_hooks(model)
    for block in (1, len(model.blocks) - 1):
        intervention = Intervention({block: the_map(model)}, tokens=scope)
        found = first_token(model, PROMPTS, intervention).log_probs
        answers = [[40 + i, 50, 60][: 2 + i % 2] for i in range(len(PROMPTS))]
        costs = metrics.answer_costs(model, PROMPTS, answers, intervention).nll_each
        with intervention.applied(model):
            greedy = generate_ids(model, PROMPTS, max_new_tokens=3)
        for i, prompt in enumerate(PROMPTS):
            ids = single(model, prompt)
            n = ids.shape[1]
            assert close(found[i], edited(model, block, scope, ids, n)[-1].log_softmax(-1))
            given = torch.tensor([[*ids[0].tolist(), *answers[i]]])
            scored = edited(model, block, scope, given, n)[n - 1 : -1].log_softmax(-1)
            nll = -scored.gather(1, torch.tensor(answers[i])[:, None]).double().mean()
            assert costs[i] == pytest.approx(float(nll), rel=1e-3)
            assert greedy[i] == recomputed(model, block, scope, ids, len(greedy[i]))
    assert count_hooks(model) == hooks


def recomputed(model: ChatModel, block: int, scope: Scope, ids: Tensor, new: int) -> list[int]:
    """Greedy tokens, each from the whole sequence so far."""
    answer: list[int] = []
    for _ in range(new):
        whole = torch.tensor([[*ids[0].tolist(), *answer]])
        answer.append(int(edited(model, block, scope, whole, ids.shape[1])[-1].argmax()))
    return answer


# What writes to it ------------------------------------------------------------------------------------------------


def written(model: ChatModel, block: int) -> list[nn.Module]:
    return [m for role in ("attention", "mlp") for m in model.parts.written.get((block, role), ())]


def test_what_a_block_adds_is_what_its_writers_return(model: ChatModel) -> None:
    """h_out is a weighted sum of h_in and what was found, on a real pass."""
    if model.parts.unverified:
        assert not FAMILIES[model.name].writers
        assert not model.parts.written  # nothing is claimed
        return
    seen: dict[Any, Tensor] = {}
    handles: list[Any] = []
    for block, module in enumerate(model.blocks):
        assert len(written(model, block)) == FAMILIES[model.name].writers
        handles.append(module.register_forward_pre_hook(reader(seen, (block, "in")), with_kwargs=True))
        for writer in (module, *written(model, block)):
            handles.append(writer.register_forward_hook(lambda m, _, out: seen.__setitem__(m, tensor_of(out).clone())))
    with torch.inference_mode():
        model.hf(input_ids=single(model, PROMPTS[1]), use_cache=False)
    for handle in handles:
        handle.remove()
    for block, module in enumerate(model.blocks):
        terms = [seen[block, "in"], *(seen[m] for m in written(model, block))]
        basis = torch.stack([t.flatten().double() for t in terms], dim=1)
        out = seen[module].flatten().double()
        rest = basis @ torch.linalg.lstsq(basis, out[:, None]).solution[:, 0] - out
        assert float(rest.norm()) < 1e-5 * float((out - basis[:, 0]).norm())


def reader(seen: dict[Any, Tensor], key: Any) -> Any:
    def read(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen[key] = (args[0] if args else kwargs["hidden_states"]).clone()

    return read


def left(model: ChatModel, maps: Any) -> float:
    """The largest share of a direction in any block's output under an intervention."""
    unit, shares, handles = direction(model), list[float](), list[Any]()

    def see(_: nn.Module, __: Any, output: Any) -> None:
        h = tensor_of(output).double()
        shares.append(float((h @ unit).abs().max() / h.norm(dim=-1).max()))

    with Intervention(maps).applied(model), torch.inference_mode():
        for block in model.blocks:
            handles.append(block.register_forward_hook(see))
        model.hf(input_ids=single(model, PROMPTS[1]), use_cache=False)
    for handle in handles:
        handle.remove()
    return max(shares)


def test_a_direction_ablated_at_three_sites_is_gone(model: ChatModel) -> None:
    erase = ablate_direction(direction(model))
    sites = arditi_sites(erase, len(model.blocks))
    if model.parts.unverified:
        with pytest.raises(ConfigError, match=r"what attention adds .* is not known \(what block 0 hands on is not"):
            left(model, sites)
        return
    assert left(model, {}) > 1e-3  # it was there
    assert left(model, sites) < 1e-5


@pytest.mark.parametrize("name", ["norms behind", "norms on both sides"])
def test_the_module_before_a_norm_would_leave_the_direction_in(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the row did while it took `self_attn` and `mlp` for what is added."""
    model = made(name)
    wrong = {(b, role): (getattr(block, child),) for b, block in enumerate(model.blocks)
             for role, child in (("attention", "self_attn"), ("mlp", "mlp"))}  # fmt: skip
    monkeypatch.setattr(type(model.parts), "writers", lambda _, block, role: wrong[block, role])
    assert left(model, arditi_sites(ablate_direction(direction(model)), len(model.blocks))) > 1e-3


def test_roles_follow_what_reads_the_mask() -> None:
    """In a hybrid with one mixer a block, that is an attention or an MLP, and there is no other."""
    model = made("one mixer")
    assert {(b, role) for b, role in model.parts.written} == {
        (0, "attention"), (1, "mlp"), (2, "attention"), (3, "mlp"),
    }  # fmt: skip
    assert model.parts.attentions is model.parts.mlps is None
    assert model.parts.others == tuple(block.mixer for block in model.blocks)
    before = first_token(model, PROMPTS, Intervention()).log_probs
    nothing = first_token(model, PROMPTS, Intervention({Site(1, "attention"): the_map(model)})).log_probs
    moved = first_token(model, PROMPTS, Intervention({Site(1, "mlp"): the_map(model)})).log_probs
    torch.testing.assert_close(nothing, before)
    assert not close(moved, before)


@pytest.mark.parametrize(
    ("name", "attention", "mlp"),
    [
        ("norms behind", ["post_attention_layernorm"], ["post_feedforward_layernorm"]),
        ("norms on both sides", ["post_self_attn_layernorm"], ["post_mlp_layernorm"]),
        ("no norm behind", ["self_attn"], ["mlp"]),
        ("a norm on the stream", ["self_attn_layer_norm"], ["final_layer_norm"]),
        ("tokens in one row", ["self_attn"], ["fc2"]),
        ("a module adds the residual", ["self_attention"], ["mlp"]),
        ("side by side", ["mamba", "self_attn"], ["feed_forward"]),
        ("experts beside an MLP", ["mamba"], ["block_sparse_moe", "shared_mlp"]),
        ("router and experts", ["post_attention_layernorm"], ["post_feedforward_layernorm"]),
        (
            "shared keys, inputs per layer",
            ["post_attention_layernorm"],
            ["post_feedforward_layernorm", "post_per_layer_input_norm"],
        ),
    ],
)
def test_writers_by_hand(name: str, attention: list[str], mlp: list[str]) -> None:
    """Read off the modelling files."""
    model = made(name)
    block = model.blocks[0]
    assert list(model.parts.written[0, "attention"]) == [getattr(block, child) for child in attention]
    assert list(model.parts.written[0, "mlp"]) == [getattr(block, child) for child in mlp]


def test_writers_are_found_in_half_precision() -> None:
    for name in ("norms behind", "a norm on the stream", "experts beside an MLP"):
        half = wrap(families.network(name).bfloat16(), tiny.tokenizer(), name)
        names = [type(m).__name__ for m in written(half, 0)]
        assert names == [type(m).__name__ for m in written(made(name), 0)]
        assert not half.parts.pads_matter
    assert wrap(families.network("elementwise residual weights").bfloat16(), tiny.tokenizer(), "d").parts.unverified


# Re-entry ---------------------------------------------------------------------------------------------------------


def test_re_entry_gives_what_whole_passes_give(model: ChatModel) -> None:
    stream = PromptStream(model, PROMPTS)
    for block in range(len(model.blocks)):
        stream.advance(block)
        move = Intervention({block: the_map(model)})
        assert close(stream.first_token(move).log_probs, first_token(model, PROMPTS, move).log_probs)
    assert stream.block == len(model.blocks) - 1
    assert stream.entry == FAMILIES[model.name].entry


def test_a_stream_that_is_not_all_that_counts_is_not_entered() -> None:
    """Without the trial, the scan of a model whose blocks remember beside the stream is wrong and says nothing."""
    hf = families.network("norms behind")
    layers: Any = hf.model.layers
    kept: dict[str, Tensor] = {}

    def remembered(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] + kept["second"],) if "second" in kept else args

    hf.model.register_forward_pre_hook(lambda *_: kept.clear())
    layers[1].mlp.register_forward_hook(lambda _, __, output: kept.update(second=output))
    layers[3].mlp.register_forward_pre_hook(remembered)
    model = wrap(hf, tiny.tokenizer(), "made")
    stream = PromptStream(model, PROMPTS)
    entries: list[int] = []
    for block in range(4):
        stream.advance(block)
        entries.append(stream.entry)
        move = Intervention({block: the_map(model)})
        whole = first_token(model, PROMPTS, move).log_probs
        assert close(stream.first_token(move).log_probs, whole)
    assert entries == [0, 0, 0, 0]  # behind block 0 the second one still runs

    held = PromptStream(model, PROMPTS)
    held.advance(0)
    move = Intervention({3: the_map(model)})
    whole = first_token(model, PROMPTS, move).log_probs
    with pytest.MonkeyPatch.context() as patch:  # and with a trial that lets everything pass
        patch.setattr("bures.models.reentry._SAME", float("inf"))
        model.entries.behind.clear()
        held.advance(2)
    assert held.entry == 2
    assert not close(held.first_token(move).log_probs, whole)


# Loading, pads, refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masks in a dict", "not among the causal ones", "blocks that need an image"])
def test_a_wrapper_is_loaded_as_saved(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.hf.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    loaded = load_model(tmp_path, device="cpu", dtype="float32")
    ids = single(model, PROMPTS[0])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.hf(input_ids=ids).logits, model.hf(input_ids=ids).logits)
    assert len(loaded.blocks) == len(model.blocks)


def test_where_pads_matter_only_prompts_of_equal_length_share_a_batch() -> None:
    model = made("pads that matter")
    assert model.describe()["batches"] == "prompts of equal length"
    assert made("norms behind").describe()["batches"] == "padded"
    twice = (*PROMPTS, "Ho", "3 + 3?")
    sizes = [len(ids) for ids in seen_batches(model, twice)]
    assert sizes == [1, 1, 2, 2]
    assert [len(ids) for ids in seen_batches(in_few_batches(made("norms behind")), twice)] == [6]


def seen_batches(model: ChatModel, prompts: tuple[str, ...]) -> list[Tensor]:
    batches: list[Tensor] = []
    handle = model.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: batches.append(kwargs["input_ids"]), with_kwargs=True
    )
    try:
        collect(model, prompts)
    finally:
        handle.remove()
    return batches


@pytest.mark.parametrize("name", ["norms behind", "pads that matter", "shared keys, inputs per layer"])
def test_maps_in_sequence_are_those_of_single_prompts(name: str) -> None:
    """By the definition: each map is fitted on whole passes under the ones before it, one prompt at a time."""
    model = made(name)
    source = collect(model, PROMPTS, blocks=[0, 2, 3])
    target = {block: 1.5 * rows + 1 for block, rows in source.items()}
    data = FitData(PROMPTS, source, target, FitOptions())
    maps = fit_in_sequence(model, data, [0, 2, 3], fit_mean_shift, tokens="all")
    so_far: dict[int | Site, Any] = {}
    for block in (0, 2, 3):
        with Intervention(so_far).applied(model):
            rows = torch.cat([collect(model, [prompt], blocks=[block])[block] for prompt in PROMPTS])
        x = torch.zeros(1, model.d_model, dtype=torch.float64)
        torch.testing.assert_close(maps[block](x), fit_mean_shift(rows, target[block])(x), rtol=1e-4, atol=1e-4)
        so_far[block] = maps[block]


def test_several_residual_streams_are_refused() -> None:
    options: dict[str, Any] = {**FAMILIES["shared keys, inputs per layer"].options, "laurel_rank": 4}
    options |= {"intermediate_size": 64, "activation_sparsity_pattern": [0.0] * 4, "altup_num_inputs": 3}
    config = families.config_of("gemma3n_text", options)
    hf = transformers.Gemma3nForCausalLM(config).float().eval()
    with pytest.raises(ModelError, match="has 3 residual streams side by side, and bures measures and moves one"):
        wrap(hf, tiny.tokenizer(), "made")


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    """The models of this file are not kept for the others."""
    yield
    made.cache_clear()
