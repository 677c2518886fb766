"""Packed weights: on loading, and in checkpoints; what cannot be read is one line that names what is missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bures.errors import ConfigError, ModelError
from bures.models.activations import collect
from bures.models.before_loading import foreseen
from bures.models.checkpoints import organism_adapter
from bures.models.generation import generate, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import load_model, wrap
from bures.models.prompt_stream import PromptStream
from bures.models.quantization import Quantization, is_packed
from helpers import scripted, tiny
from helpers.intervened import the_map

BITS: tuple[Quantization, ...] = ("bnb-4bit", "bnb-8bit")


def labelled(path: Path, **packing: Any) -> Path:
    """A model folder whose configuration says how its weights are packed."""
    tiny.folder(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "quantization_config": packing}))
    return path


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    path = tiny.folder(tmp_path)
    for how in BITS:
        with pytest.raises(ConfigError, match=rf"--quantization {how} needs .*bures\[quantization\]"):
            load_model(path, quantization=how)


@pytest.mark.parametrize(
    ("packing", "said"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "optimum"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "gptqmodel"),
        (
            {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {}},
            "compressed-tensors",
        ),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao"),
        ({"quant_method": "aqlm"}, "aqlm"),
    ],
)
def test_checkpoints_whose_package_is_missing_name_it(packing: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"needs what is not installed here: .*{said}"):
        load_model(labelled(tmp_path, **packing))


@pytest.mark.parametrize("method", ["modelopt", "zip9"])
def test_a_packing_that_transformers_does_not_know_is_refused(method: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"packed as {method}, which this transformers does not unpack"):
        load_model(labelled(tmp_path, quant_method=method))


def test_weights_that_are_not_in_the_files_are_not_made_up(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path)
    file = path / "model.safetensors"
    tensors = load_file(file)
    gone = "model.layers.1.mlp.down_proj.weight"
    del tensors[gone]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"lack 1 of the weights .*{gone}"):
        load_model(path)


def test_packing_twice_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ModelError, match="packed as fp8 already; leave --quantization out"):
        load_model(labelled(tmp_path, quant_method="fp8", weight_block_size=[16, 16]), quantization="bnb-4bit")


# FP8, as published ------------------------------------------------------------------------------------------------


def fp8(path: Path, size: int = 16) -> tuple[Path, Path]:
    """A checkpoint with float8 weights and a scale for every square of them; and the same numbers as float32."""
    whole = tiny.folder(path / "whole")
    network = tiny.network("llama")
    names = {f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Linear) and name != "lm_head"}
    packed, unpacked = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, values in load_file(whole / "model.safetensors").items():
        packed[name] = unpacked[name] = values
        if name in names:
            n, m = (side // size for side in values.shape)
            squares = values.reshape(n, size, m, size)
            scales = squares.abs().amax(dim=(1, 3)) / 448
            packed[name] = (squares / scales[:, None, :, None]).reshape(values.shape).to(torch.float8_e4m3fn)
            packed[f"{name}_scale_inv"] = scales
            unpacked[name] = packed[name].float().reshape(n, size, m, size).mul(scales[:, None, :, None]).flatten(2)
            unpacked[name] = unpacked[name].reshape(values.shape)
    save_file(unpacked, whole / "model.safetensors", metadata={"format": "pt"})
    small = labelled(
        path / "fp8", quant_method="fp8", weight_block_size=[size, size], modules_to_not_convert=["lm_head"]
    )
    save_file(packed, small / "model.safetensors", metadata={"format": "pt"})
    return small, whole


@pytest.mark.skipif(torch.cuda.is_available(), reason="packed while it computes, where there is a device")
def test_a_float8_checkpoint_is_unpacked_where_no_device_computes_with_it(tmp_path: Path) -> None:
    small, whole = fp8(tmp_path)
    model, plain = load_model(small), load_model(whole)
    (note,) = model.notes
    assert "packed (fp8)" in note
    assert "unpacked to float32 on loading" in note
    assert plain.notes == ()
    assert not is_packed(model.hf)
    rows, expected = collect(model, tiny.PROMPTS), collect(plain, tiny.PROMPTS)
    for block in expected:
        torch.testing.assert_close(rows[block], expected[block], rtol=1e-2, atol=1e-2)
    shape = foreseen(small)
    assert shape is not None
    assert shape.weights == sum(p.nbytes for p in model.hf.parameters())


# MXFP4, as GPT-OSS is published -----------------------------------------------------------------------------------

FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def mxfp4(path: Path) -> tuple[Path, Path]:
    """GPT-OSS with experts of two numbers a byte and a power of two for every 32; and the same numbers as float32."""
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    config = GptOssConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        sliding_window=16,
        rope_parameters=rope,
        dtype=torch.float32,
    )
    network = GptOssForCausalLM(config)
    packed, unpacked = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    for name, values in network.state_dict().items():
        if not name.endswith(("gate_up_proj", "down_proj")):
            packed[name] = unpacked[name] = values.clone()
            continue
        experts, inside, outside = values.shape
        codes = torch.randint(0, 16, (experts, outside, inside // 32, 32))
        scales = torch.randint(121, 125, (experts, outside, inside // 32))  # 2 to the (scale - 127)
        packed[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)  # the lower half first
        packed[f"{name}_scales"] = scales.to(torch.uint8)
        numbers = FP4[codes] * torch.exp2(scales - 127.0)[..., None]
        unpacked[name] = numbers.flatten(2).transpose(1, 2).contiguous()
    for folder, tensors in ((path / "mxfp4", packed), (path / "whole", unpacked)):
        network.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((path / "mxfp4" / "config.json").read_text())
    told["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (path / "mxfp4" / "config.json").write_text(json.dumps(told))
    return path / "mxfp4", path / "whole"


@pytest.mark.skipif(torch.cuda.is_available(), reason="packed while it computes, where there is a device")
def test_an_mxfp4_checkpoint_is_unpacked_where_nothing_computes_with_it(tmp_path: Path) -> None:
    small, whole = mxfp4(tmp_path)
    model, plain = load_model(small), load_model(whole)
    assert "packed (mxfp4)" in model.notes[0]
    rows, expected = collect(model, tiny.PROMPTS), collect(plain, tiny.PROMPTS)
    for block in expected:
        torch.testing.assert_close(rows[block], expected[block], rtol=1e-2, atol=1e-2)
    assert generate_ids(model, tiny.PROMPTS, max_new_tokens=4) == generate_ids(plain, tiny.PROMPTS, max_new_tokens=4)


# bitsandbytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BITS)
@pytest.mark.filterwarnings("ignore")
def test_a_packed_model_is_measured_as_any(how: Quantization, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    path = tiny.folder(tmp_path, width=64)
    model, plain = load_model(path, quantization=how, dtype="bfloat16"), load_model(path)
    assert is_packed(model.hf)
    said = str(model.describe()["quantization"])
    assert re.fullmatch(r"bitsandbytes [\d.]+, " + (r"4 bit \(nf4\)" if "4" in how else "8 bit"), said)
    assert model.describe()["n_parameters"] == plain.describe()["n_parameters"]
    fingerprint, answers = model.fingerprint(), generate_ids(model, tiny.PROMPTS, max_new_tokens=4)
    assert fingerprint != plain.fingerprint()
    assert model.fingerprint() == fingerprint == load_model(path, quantization=how, dtype="bfloat16").fingerprint()
    assert generate_ids(model, tiny.PROMPTS, max_new_tokens=4) == answers  # taking it changed nothing
    rows, expected = collect(model, tiny.PROMPTS), collect(plain, tiny.PROMPTS)
    for block, each in expected.items():
        assert 0 < float((rows[block] - each).norm() / each.norm()) < 0.3
    stream = PromptStream(model, tiny.PROMPTS)
    stream.advance(1)
    assert stream.entry == 1


@pytest.mark.parametrize("how", BITS)
@pytest.mark.filterwarnings("ignore")
def test_maps_are_applied_in_float32(how: Quantization, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load_model(tiny.folder(tmp_path, width=64), quantization=how, dtype="bfloat16")
    before = collect(model, tiny.PROMPTS, blocks=[1])[1]
    map_ = the_map(model)
    with Intervention({1: map_}).applied(model):
        after = collect(model, tiny.PROMPTS, blocks=[1])[1]
    expected = map_.to(dtype=torch.float32)(before).bfloat16().float()  # rounded once, when it is handed on
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_packed_model_refuses_what_it_refuses(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load_model(scripted.folder(tmp_path), quantization="bnb-8bit")
    assert generate(model, [scripted.BAD, scripted.GOOD]) == [scripted.REFUSED, scripted.ANSWERED]


@pytest.mark.filterwarnings("ignore")
def test_a_packing_that_does_not_compute_here_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load_model(tiny.folder(tmp_path, width=64), quantization="bnb-8bit")

    def fail(*_: Any) -> None:
        raise AssertionError("N must be divisible by block_n")

    model.blocks[1].register_forward_hook(fail)
    with pytest.raises(
        ModelError, match=r"does not run here with its weights packed \(bitsandbytes .*, 8 bit.*block_n"
    ):
        wrap(model.hf, model.tokenizer, "packed")


def test_an_adapter_is_not_merged_into_packed_weights(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    path = tiny.folder(tmp_path, width=64)
    with pytest.raises(ModelError, match=r"those of .* are packed; merge it into the unpacked model"):
        load_model(path, quantization="bnb-4bit", adapter=organism_adapter())


def test_a_gguf_file_is_not_packed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="is a GGUF file"):
        load_model(tmp_path / "model.gguf", quantization="bnb-8bit")


def test_packed_weights_are_foreseen(tmp_path: Path) -> None:
    path = tiny.folder(tmp_path, width=64)
    plain, packed = foreseen(path, dtype="bfloat16"), foreseen(path, dtype="bfloat16", quantization="bnb-4bit")
    assert plain is not None
    assert packed is not None
    assert packed.weights < plain.weights
    assert packed.while_loading == 0
