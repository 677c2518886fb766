"""What an accelerator does at the shapes of 7B to 32B models with random weights: no download, only configurations.

    python benchmarks/gpu.py [--shapes qwen2.5-7b,llama-3.1-8b,qwen2.5-14b,qwen2.5-32b] [--rounds 5] [--json FILE]
    python benchmarks/gpu.py --dry-run       # the same code on a CPU at tiny shapes: says nothing about speed

For every shape: model-FLOP utilisation of collecting activations after all blocks, against a matrix product measured in
the same minute; a decoding step with maps at two blocks over a bare one, eager and compiled, with the graph breaks of
both; peak memory; prompts answered a second under an intervention, by transformers and, where it is installed, by vLLM.
Ratios are of medians over rounds in which both sides take turns; both sides have to give the same tokens first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from bures.jobs.config import AuditConfig
from bures.jobs.engines import backend_of
from bures.models.activations import read
from bures.models.generation import HereEngine, continued
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, wrap
from bures.transport import LowRankAffine

Numbers = dict[str, Any]

SHAPES: dict[str, Numbers] = {
    "qwen2.5-7b": {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
    "llama-3.1-8b": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
    "qwen2.5-14b": {"model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 48}
    | {"num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064},
    "qwen2.5-32b": {"model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64}
    | {"num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064},
}
"""From the configurations that the models are published with."""

TINY: Numbers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 262}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}

SPECIAL = ("<|bos|>", "<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        device: where.
        dtype: of the weights.
        side: of the square matrices that are multiplied.
        prompts: that are collected and answered.
        tokens: of an answer.
        budget: padded tokens of a batch.
        rounds: of each measurement.
    """

    device: str
    dtype: torch.dtype
    side: int
    prompts: int
    tokens: int
    budget: int
    rounds: int


def main() -> None:
    """Measures the shapes one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA device here; --dry-run runs the same code on the CPU at tiny shapes")
    size = Size("cuda", torch.bfloat16, 8192, 512, 32, 32768, given.rounds)
    if given.dry_run:
        size = Size("cpu", torch.float32, 64, 6, 3, 512, 1)
    found = [measured(name, SHAPES[name] | (TINY if given.dry_run else {}), size) for name in given.shapes.split(",")]
    device = torch.cuda.get_device_name() if size.device == "cuda" else "CPU, a dry run"
    kept = {"device": device, "torch": torch.__version__, "rounds": size.rounds, "shapes": found}
    if given.json is not None:
        given.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def measured(name: str, shape: Numbers, size: Size) -> Numbers:
    """All figures of one shape, which are printed too."""
    if size.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = random_model(name, shape, size)
    sequences = prompts_of(size.prompts)
    found: Numbers = {"shape": name, "parameters": sum(p.numel() for p in model.hf.parameters())}
    found |= collection(model, sequences, size)
    found |= {f"hooks_{key}": value for key, value in hooks(model, sequences, size).items()}
    found |= throughput(model, size)
    if size.device == "cuda":
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        found["weights_gib"] = sum(p.numel() * p.element_size() for p in model.hf.parameters()) / 2**30
    for key, value in found.items():
        print(f"{key:28s} {value:.4g}" if isinstance(value, float) else f"{key:28s} {value}", flush=True)
    return found


def random_model(name: str, shape: Numbers, size: Size) -> ChatModel:
    """The shape with random weights and a token a byte."""
    config = AutoConfig.for_model(**shape, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    torch.manual_seed(0)
    with torch.device(size.device):
        network = AutoModelForCausalLM.from_config(config, dtype=size.dtype)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*SPECIAL, *alphabet])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    raw.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names, additional_special_tokens=[*SPECIAL[3:]])
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    return wrap(network, tokenizer, name)


def prompts_of(number: int) -> list[list[int]]:
    """Tokens of prompts as long as those of benchmarks are: 30 to 120."""
    draw = random.Random(0)
    return [[0, *(draw.randrange(6, 262) for _ in range(draw.randint(30, 120)))] for _ in range(number)]


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds of some work, until the device has done it."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def in_turns(ways: dict[str, Callable[[], object]], size: Size) -> dict[str, float]:
    """Median seconds of several ways to do the same, which take turns; each is called once before."""
    for work in ways.values():
        work()
    taken = {name: [0.0] * size.rounds for name in ways}
    for number in range(size.rounds):
        for name, work in ways.items():
            taken[name][number] = timed(work, size.device)
    return {name: statistics.median(each) for name, each in taken.items()}


def collection(model: ChatModel, sequences: Sequence[list[int]], size: Size) -> Numbers:
    """Collecting after all blocks: tokens a second, and FLOPs of the real tokens over those of a matrix product."""
    a, b = (torch.randn(size.side, size.side, device=size.device, dtype=size.dtype) for _ in range(2))
    places = [[-1]] * len(sequences)
    taken = in_turns(
        {
            "matmul": lambda: a @ b,
            "collect": lambda: read(model, sequences, range(len(model.blocks)), places, token_budget=size.budget),
        },
        size,
    )
    rate = 2 * size.side**3 / taken["matmul"]
    weights = sum(p.numel() for block in model.blocks for p in block.parameters() if p.ndim == 2)
    tokens = sum(map(len, sequences))
    attention = sum(4 * len(row) ** 2 * model.d_model for row in sequences) * len(model.blocks)
    done = (2 * weights * tokens + attention) / taken["collect"]
    return {"matmul_tflops": rate / 1e12, "collect_tokens_s": tokens / taken["collect"], "collect_mfu": done / rate}


def a_map(model: ChatModel, shift: float = 0.0) -> LowRankAffine:
    """A map of rank 2 that moves everything by as much; by nothing, hooked and bare models say the same."""
    basis = torch.linalg.qr(torch.randn(model.d_model, 2, dtype=torch.float64)).Q
    still = torch.zeros(2, 2, dtype=torch.float64)
    mean, offset = torch.zeros(model.d_model, dtype=torch.float64), torch.full((2,), shift, dtype=torch.float64)
    return LowRankAffine("random", mean, basis, still, offset, basis)


def hooks(model: ChatModel, sequences: Sequence[list[int]], size: Size) -> Numbers:
    """Maps at two blocks on every token: answers eager, and one pass compiled, over the same without maps."""
    middle = len(model.blocks) // 2
    moved = Intervention({block: a_map(model) for block in (middle, middle + 1)})
    found: Numbers = {}
    for rows in (1, 8):

        def answer(with_maps: bool, rows: int = rows) -> list[list[int]]:
            with moved.applied(model) if with_maps else nullcontext():
                return continued(model, sequences[:rows], max_new_tokens=size.tokens, token_budget=size.budget)

        if answer(True) != answer(False):
            raise SystemExit("the hooked model does not say what the bare one says: nothing is compared")
        taken = in_turns({"hooked": lambda: answer(True), "bare": lambda: answer(False)}, size)
        found[f"eager_batch_{rows}"] = taken["hooked"] / taken["bare"]
    away = Intervention({block: a_map(model, 10.0) for block in (middle, middle + 1)})
    return found | compiled(model, away, sequences, size)


@torch.inference_mode()
def compiled(model: ChatModel, moved: Intervention, sequences: Sequence[list[int]], size: Size) -> Numbers:
    """Graph breaks of a pass, and its seconds compiled with hooks over without; the logits are the eager model's."""
    ids = torch.tensor([sequences[0]], device=size.device)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    backend = "eager" if size.device == "cpu" else "inductor"
    ways: dict[str, Callable[[], object]] = {}
    eager: dict[str, torch.Tensor] = {}
    found: Numbers = {}
    hf = cast("Any", model.hf)
    for name, around in (("bare", nullcontext()), ("hooked", moved.applied(model))):
        with around:
            eager[name] = hf(**given).logits.float()
            torch.compiler.reset()
            found[f"{name}_graph_breaks"] = torch._dynamo.explain(hf)(**given).graph_break_count  # pyright: ignore
            torch.compiler.reset()
            run = torch.compile(hf, backend=backend)
            torch.testing.assert_close(run(**given).logits.float(), eager[name], rtol=0.05, atol=0.05)
            ways[name] = lambda run=run: run(**given)
            found[f"{name}_compiled_s"] = in_turns({name: ways[name]}, size)[name]
    if torch.allclose(eager["hooked"], eager["bare"], rtol=0.1, atol=0.1):
        raise SystemExit("the maps move nothing: that the compiled model is moved was not seen")
    found["compiled"] = found["hooked_compiled_s"] / found["bare_compiled_s"]
    return found


def throughput(model: ChatModel, size: Size) -> Numbers:
    """Prompts answered a second under an intervention at two blocks, as the rows of an audit are."""
    middle = len(model.blocks) // 2
    moved = Intervention({block: a_map(model) for block in (middle, middle + 1)})
    draw = random.Random(1)
    prompts = ["".join(draw.choices("abcdefghij ", k=draw.randint(20, 100))) for _ in range(size.prompts)]
    here = HereEngine(model, size.tokens, token_budget=size.budget)
    found: Numbers = {"answers_s_transformers": size.prompts / timed(lambda: here.answers(prompts, moved), size.device)}
    if size.device != "cuda" or importlib.util.find_spec("vllm") is None:
        return found | {"answers_s_vllm": "not run: vLLM is not installed" if size.device == "cuda" else "not run"}
    with tempfile.TemporaryDirectory() as folder:
        model.hf.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        config = AuditConfig.make(model=folder, backend="vllm", max_new_tokens=size.tokens, vllm_memory=0.35)
        with backend_of("vllm").engine(config, here, cast("Any", prompts)) as engine:
            engine.answers(prompts[:2], moved)
            found["answers_s_vllm"] = size.prompts / timed(lambda: engine.answers(prompts, moved), size.device)
    return found


if __name__ == "__main__":
    main()
