"""Layers that do not fit the device: the figures are those of a plain load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload

from bures.errors import ModelError
from bures.models.activations import collect
from bures.models.checkpoints import organism_adapter
from bures.models.generation import generate, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model, wrap
from bures.models.offloading import count, offloaded, whereabouts
from bures.models.prompt_stream import PromptStream
from helpers import scripted, tiny
from helpers.intervened import the_map


def small(monkeypatch: pytest.MonkeyPatch, **room: int) -> None:
    """A machine with as much memory as given, in bytes."""
    for place in ("transformers.integrations.accelerate", "accelerate.utils.modeling"):
        monkeypatch.setattr(f"{place}.get_max_memory", lambda *_, **__: {**room})


def same(a: ChatModel, b: ChatModel) -> None:
    """Everything that figures are made of is the same in both."""
    assert a.fingerprint() == b.fingerprint()
    assert generate_ids(a, tiny.PROMPTS, max_new_tokens=6) == generate_ids(b, tiny.PROMPTS, max_new_tokens=6)
    torch.testing.assert_close(collect(a, tiny.PROMPTS), collect(b, tiny.PROMPTS))
    assert a.parts.unverified == b.parts.unverified
    assert a.parts.pads_matter == b.parts.pads_matter
    ours, theirs = PromptStream(a, tiny.PROMPTS), PromptStream(b, tiny.PROMPTS)
    moved = Intervention({len(b.blocks) - 1: the_map(b)})
    for block in range(len(b.blocks)):
        for stream in (ours, theirs):
            stream.advance(block)
            assert stream.entry == block  # passes begin behind the held block, offloaded or not
        for each in (Intervention(), moved):
            torch.testing.assert_close(ours.first_token(each).log_probs, theirs.first_token(each).log_probs)
    assert ours.first_token(moved).kl_to(ours.first_token(Intervention())) > 1e-3


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_an_offloaded_model_gives_the_same_figures(family: str, where: str, tmp_path: Path) -> None:
    plain = wrap(tiny.network(family), tiny.tokenizer(), family)
    hf = tiny.network(family)
    if where == "memory":
        cpu_offload(hf, torch.device("cpu"))
    else:
        disk_offload(hf, str(tmp_path), execution_device=torch.device("cpu"))
    model = wrap(hf, tiny.tokenizer(), family)
    assert len(offloaded(hf)) == len(list(hf.named_parameters()))
    assert model.device == torch.device("cpu")
    same(model, plain)
    assert count(model.hf) == count(plain.hf)
    assert plain.notes == ()
    assert model.notes == (
        "100% of the weights are brought from memory or disk for every pass: slower, and the figures are the same.",
    )
    assert model.describe()["offloaded"] != plain.describe()["offloaded"] == "no"


def test_what_does_not_fit_is_read_from_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.folder(tmp_path, "qwen3")
    plain = load_model(path)
    small(monkeypatch, cpu=sum(p.numel() * 4 for p in plain.hf.parameters()) // 2)
    model = load_model(path, device="auto")
    away = offloaded(model.hf)
    assert 0 < len(away) < len(list(model.hf.named_parameters()))
    same(model, plain)


def test_weights_that_the_checkpoint_stores_otherwise_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=512,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    plain = load_model(tmp_path)
    small(monkeypatch, cpu=sum(p.numel() * 4 for p in plain.hf.parameters()) // 2)
    model = load_model(tmp_path, device="auto")
    assert any("experts" in name for name in offloaded(model.hf))
    assert model.fingerprint() == plain.fingerprint()
    assert generate_ids(model, tiny.PROMPTS, max_new_tokens=6) == generate_ids(plain, tiny.PROMPTS, max_new_tokens=6)


def test_offloaded_half_precision_that_overflows_is_widened_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = tiny.network("llama")
    with torch.no_grad():
        for block in hf.model.layers:  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            block.mlp.down_proj.weight *= 1e4
            block.mlp.up_proj.weight *= 1e3
    hf.half().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    plain = load_model(tmp_path)
    assert any("overflows" in note for note in plain.notes)
    small(monkeypatch, cpu=sum(p.numel() * 2 for p in plain.hf.parameters()) // 2)
    model = load_model(tmp_path, device="auto")
    assert whereabouts(model.hf)
    assert len(model.notes) == 2
    same(model, plain)


def test_an_adapter_is_not_merged_into_what_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.folder(tmp_path / "model")
    small(monkeypatch, cpu=40_000)
    before = {file: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(ModelError, match=r"cannot be merged into .*offloaded.*--device cpu"):
        load_model(path, device="auto", adapter=organism_adapter())
    assert {file: file.read_bytes() for file in path.iterdir()} == before


def test_values_that_are_nowhere_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny.folder(tmp_path / "model")
    small(monkeypatch, cpu=40_000)
    model = load_model(path, device="auto")
    name = sorted(offloaded(model.hf))[0]
    module = model.hf.get_submodule(name.rpartition(".")[0])
    monkeypatch.setattr(module._hf_hook, "weights_map", {})
    with pytest.raises(ModelError, match="on no device"):
        model.fingerprint()


def test_a_model_that_is_half_on_disk_refuses_what_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.folder(tmp_path)
    small(monkeypatch, cpu=120_000)
    model = load_model(tmp_path, device="auto")
    assert whereabouts(model.hf)
    assert generate(model, [scripted.BAD, scripted.GOOD]) == [scripted.REFUSED, scripted.ANSWERED]
