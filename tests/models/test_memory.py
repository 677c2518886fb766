"""What memory a job needs: parameters of published shapes, batches that a pass is bounded by, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bures.errors import ModelError
from bures.models import memory
from bures.models.before_loading import foreseen
from bures.models.loading import load_model
from bures.models.memory import LIBRARIES, Passes, Shape, need, on_meta, shape_of, weight_bytes
from helpers import tiny

LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
QWEN_HALF_B = {
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def built(family: str, options: dict[str, Any]) -> tuple[Any, Any]:
    config = AutoConfig.for_model(family, **options)
    return config, on_meta(AutoModelForCausalLM, config)


def test_published_shapes() -> None:
    config, network = built("llama", LLAMA_8B)
    shape = shape_of(config, network, dtype=torch.bfloat16)
    assert shape.weights == 2 * 8_030_261_248  # as published of Llama 3.1 8B
    assert shape.cached == 2 * 32 * 8 * 128
    linear = 32 * (4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336)
    packed = shape_of(config, network, dtype=torch.bfloat16, quantization="bnb-4bit")
    assert packed.weights == pytest.approx(2 * (8_030_261_248 - linear) + linear * 4.5 / 8, abs=2)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_tied_weights_count_once() -> None:
    config, network = built("qwen2", QWEN_HALF_B)
    assert weight_bytes(network, torch.bfloat16, None) == 2 * 494_032_768  # as published of Qwen2.5 0.5B
    assert shape_of(config, network, dtype=torch.float32).weights == 4 * 494_032_768


SHAPE = Shape(
    weights=10**9, while_loading=0, itemsize=2, vocabulary=100_000, width=1000, inner=3000, blocks=20, cached=20_000
)


def test_every_stage_by_hand() -> None:
    assert need(SHAPE, Passes()).total == LIBRARIES + 10**9
    collected = need(SHAPE, Passes(fitted=256))
    assert collected.collected == 4 * 256 * 20 * 1000
    rows = 64  # 64 prompts of 64 tokens are the budget
    assert collected.passes == rows * 64 * (2 * (6 * 1000 + 3 * 3000) + 8 * 1000)

    few = need(SHAPE, Passes(prompt_tokens=36, new_tokens=64, answers=10))
    logits = 10 * 100_000 * (2 + 4 + 4)
    assert few.passes == 10 * 100 * 20_000 * 2 + 10 * 36 * (2 * 15_000 + 8000) + logits

    costs = need(SHAPE, Passes(prompt_tokens=36, new_tokens=64, costed=100))
    rows = memory.LOGIT_BUDGET // (100_000 * 65)
    assert costs.passes == rows * (100 * (2 * 15_000 + 8000) + 65 * 100_000 * (2 + 4 + 4 + 4))


def test_loading_takes_the_weights_once_more_where_they_are_converted() -> None:
    config, network = built("llama", LLAMA_8B)
    n = 8_030_261_248
    assert shape_of(config, network, dtype=torch.bfloat16, stored=torch.bfloat16).while_loading == 0
    assert shape_of(config, network, dtype=torch.float32, stored=torch.bfloat16).while_loading == 2 * n
    assert shape_of(config, network, dtype=torch.bfloat16, is_gguf=True).while_loading == 2 * n


@pytest.mark.parametrize("smaller", [{"token_budget": 512}, {"costed": 4}, {"prompt_tokens": 32}])
def test_smaller_jobs_need_less(smaller: dict[str, int]) -> None:
    given = {"fitted": 256, "scored": 32, "answers": 100, "new_tokens": 64, "costed": 100}
    assert need(SHAPE, Passes(**(given | smaller))).total < need(SHAPE, Passes(**given)).total


def test_it_is_said_whether_it_fits() -> None:
    found = need(SHAPE, Passes(fitted=256))
    assert found.sentence(2 * 10**9, "cuda").endswith("cuda has 2.0 GB free")
    assert "it does not load" in found.sentence(10**9, "cuda")
    assert found.sentence(None, "cuda").endswith("activations 20 MB)")


def test_a_folder_is_foreseen_as_it_is_loaded(tmp_path: Path) -> None:
    for family in tiny.FAMILIES:
        path = tiny.folder(tmp_path / family, family)
        shape, model = foreseen(path), load_model(path)
        assert shape is not None
        assert shape.weights == sum(p.nbytes for p in model.hf.parameters())
        assert (shape.blocks, shape.width, shape.vocabulary) == (len(model.blocks), model.d_model, model.vocabulary)
        half = foreseen(path, dtype="bfloat16")
        assert half is not None
        assert half.weights * 2 == shape.weights == half.while_loading


def test_what_cannot_be_foreseen_is_left_to_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        foreseen(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert foreseen(tmp_path) is None


def test_the_limit_of_a_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 2000 kB\nMemAvailable: 1000 kB\n",
        "/sys/fs/cgroup/memory.max": "900000",
        "/sys/fs/cgroup/memory.current": "800000",
        "/sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 50000\n",
    }

    def read(self: Path, *_: Any, **__: Any) -> str:
        if str(self) not in files:
            raise FileNotFoundError(self)
        return files[str(self)]

    monkeypatch.setattr(Path, "read_text", read)
    assert memory.free_memory("cpu") == (150_000, "this machine")
    files["/sys/fs/cgroup/memory.max"] = "max"
    assert memory.free_memory("cpu") == (1_024_000, "this machine")
    files.clear()
    assert memory.free_memory("cpu") == (None, "this machine")
