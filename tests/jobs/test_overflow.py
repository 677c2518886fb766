"""Numbers that overflow are a finding about a map, a block or a number format; the rest of the run finishes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bures.data.extensions import Registry
from bures.errors import NumericsError
from bures.jobs.metrics import answer_costs, corpus_perplexity
from bures.models.activations import collect, gather
from bures.models.finite import overflowing, require_finite
from bures.models.first_token import FirstToken
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model
from bures.models.methods import METHODS, Method
from bures.models.prompt_stream import first_token
from bures.results.run_folder import load_result
from bures.transport import DiagonalAffine
from helpers import small_run, tiny


def huge(width: int) -> DiagonalAffine:
    """A map that no number format survives."""
    return DiagonalAffine(
        "huge", torch.full((width,), 1e40, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    )


@pytest.fixture
def huge_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose every map overflows."""
    method = Method("huge", "Huge", True, lambda x, *_: huge(x.shape[1]))
    assert isinstance(METHODS, Registry)
    monkeypatch.setitem(METHODS.built_in, "huge", method)


@pytest.mark.usefixtures("huge_method")
def test_a_method_that_overflows_is_a_failed_row_and_the_rest_finishes(tmp_path: Path) -> None:
    run = small_run.finished(tmp_path, methods="huge,mean-act", scopes="all")
    result = load_result(run)
    assert result.status == "complete"
    rows = {row.key: row for row in result.rows}
    assert {key for key, row in rows.items() if row.error is not None} == {"huge-1", "huge-all"}
    for key in ("huge-1", "huge-all"):
        assert "NaN or infinite" in (rows[key].error or "")
        assert (rows[key].asr, rows[key].perplexity, rows[key].refused) == ({}, None, {})
    assert {failure.candidate.method for failure in result.failures} == {"huge"}
    assert {score.candidate.method for score in result.scan} == {"mean-act"}
    assert any("could not be scored" in note and "huge-b0-all" in note for note in result.notes)


def test_a_block_that_overflows_is_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(model: ChatModel, prompts: object, **options: object) -> dict[int, torch.Tensor]:
        rows = gather(model, prompts, **options)  # pyright: ignore[reportArgumentType]
        return {block: torch.full_like(each, float("inf")) if block == 1 else each for block, each in rows.items()}

    monkeypatch.setattr("bures.jobs.run.gather", spoiled)
    result = load_result(small_run.finished(tmp_path, methods="rfa,mean-act"))
    assert {score.candidate.blocks for score in result.scan} == {(0,)}
    assert any(note.startswith("Block 1 is left out: activations after block 1") for note in result.notes)
    rows = {row.key: row for row in result.rows}
    assert rows["mean-act-1"].error is None
    assert "activations after block 1" in (rows["mean-act-all"].error or "")


def test_every_pass_refuses_what_is_not_finite(llama: ChatModel) -> None:
    move = Intervention({0: huge(llama.d_model)})
    answers = generate_ids(llama, tiny.PROMPTS[:2], max_new_tokens=3)
    with move.applied(llama), pytest.raises(NumericsError, match="NaN or infinite"):
        generate_ids(llama, tiny.PROMPTS[:2], max_new_tokens=3)
    with pytest.raises(NumericsError, match="NaN or infinite"):
        first_token(llama, tiny.PROMPTS[:2], move)
    with pytest.raises(NumericsError, match="NaN or infinite"):
        answer_costs(llama, tiny.PROMPTS[:2], answers, move)
    with pytest.raises(NumericsError, match="NaN or infinite"):
        corpus_perplexity(llama, "A long text about rivers. " * 20, move, window=32)
    with move.applied(llama), pytest.raises(NumericsError, match="after block 0"):
        collect(llama, tiny.PROMPTS[:2], blocks=[0])
    with move.applied(llama):
        assert set(overflowing(gather(llama, tiny.PROMPTS[:2], blocks=[0]))) == {0}
    assert overflowing(gather(llama, tiny.PROMPTS[:2])) == {}


def test_tokens_that_are_ruled_out_are_no_overflow() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 1.0]])
    require_finite(logits)
    one, other = FirstToken(torch.log_softmax(logits, -1)), FirstToken(torch.log_softmax(logits.flip(1), -1))
    p, q = one.log_probs[0].exp(), other.log_probs[0].exp()
    expected = sum(float(a * (a / b).log()) for a, b in zip(p, q, strict=True) if a > 0)
    assert one.kl_to(other) == pytest.approx(expected)
    with pytest.raises(NumericsError, match="KL is infinite"):
        one.kl_to(FirstToken(torch.log_softmax(torch.tensor([[0.0, 1.0, float("-inf")]]), -1)))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(NumericsError, match="1 of 2"):
            require_finite(torch.tensor([[0.0, bad], [0.0, 0.0]]))


def overflowing_checkpoint(folder: Path) -> Path:
    """A folder whose weights are float16 and whose last block writes more than that holds."""
    hf = tiny.network("llama")
    with torch.no_grad():
        mlp = hf.model.layers[-1].mlp
        mlp.up_proj.weight.fill_(30.0)
        mlp.gate_proj.weight.fill_(30.0)
        mlp.down_proj.weight[0].fill_(3e4)
        hf.model.layers[-1].post_attention_layernorm.weight.fill_(30.0)
    hf.half().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_a_checkpoint_whose_own_format_overflows_is_computed_in_float32(tmp_path: Path) -> None:
    folder = overflowing_checkpoint(tmp_path / "model")
    narrow = load_model(folder, dtype="float16")
    assert narrow.notes == ()
    with pytest.raises(NumericsError, match="NaN or infinite"):
        generate_ids(narrow, tiny.PROMPTS[:1], max_new_tokens=2)
    model = load_model(folder)
    assert model.hf.dtype == torch.float32
    assert "float16 overflows" in model.notes[0]
    assert generate_ids(model, tiny.PROMPTS[:1], max_new_tokens=2)
    tiny.network("llama").half().save_pretrained(tmp_path / "fine")
    tiny.tokenizer().save_pretrained(tmp_path / "fine")
    fine = load_model(tmp_path / "fine")
    assert (fine.hf.dtype, fine.notes) == (torch.float16, ())
