"""The vLLM backend without vLLM: a packed model whose blocks hand on (h, r), a runner's books, a fake engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from bures import cli
from bures.errors import BuresError, ConfigError
from bures.integrations import vllm_engine
from bures.integrations.vllm_probe import WHERES, activations, apart, module_names
from bures.integrations.vllm_worker import Bures, find_modules, packed_kinds
from bures.jobs.config import AuditConfig
from bures.models.generation import HereEngine
from bures.models.intervention import Intervention, Site, count_hooks
from bures.models.loading import ChatModel, load_model, stored_weights, wrap
from bures.models.tokens import TokenKind, in_scope, kinds_of
from bures.results.records import Scope
from bures.results.run_folder import RunFolder
from bures.transport import LowRankAffine, TransportMap, fit_mean_shift, fit_pca_ot
from helpers import families, tiny

WIDTH, DEPTH = 8, 3
SCOPES: tuple[Scope, ...] = ("all", "prompt", "last", "generated")


# Books ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_packed_kinds_are_those_of_whole_sequences(data: st.DataObject) -> None:
    prompts = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    lengths = [n + data.draw(st.integers(0, 5)) for n in prompts]
    whole = [
        kinds_of(torch.ones(1, n, dtype=torch.bool), torch.tensor([p]))[0]
        for n, p in zip(lengths, prompts, strict=True)
    ]
    done = [0] * len(prompts)
    while done != lengths:
        new = [data.draw(st.integers(min(1, n - d), n - d)) for n, d in zip(lengths, done, strict=True)]
        starts = torch.tensor([0, *new]).cumsum(0)
        kinds, places = packed_kinds(starts, torch.tensor(done), torch.tensor(prompts))
        spans = [slice(d, d + n) for d, n in zip(done, new, strict=True)]
        assert kinds.tolist() == [k for row, span in zip(whole, spans, strict=True) for k in row[span].tolist()]
        assert places.tolist() == [i for span in spans for i in range(span.start, span.stop)]
        done = [span.stop for span in spans]


# A packed model ---------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """As in vLLM: norm, attention and MLP (here: linear), with the residual handed on apart."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        stream = hidden_states if residual is None else hidden_states + residual
        stream = stream + self.self_attn(torch.tanh(stream))
        return self.mlp(torch.tanh(stream)), stream


class Packed(nn.Module):
    """What a runner's `get_model` gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed, self.layers = nn.Embedding(50, WIDTH), nn.ModuleList(Block() for _ in range(DEPTH))

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        h, r = self.embed(ids), None
        for layer in self.layers:
            h, r = layer(positions, h, r)
        return h if r is None else h + r


class Worker(Bures):
    """A worker whose runner holds requests of given prompts, of which some tokens were computed before."""

    def __init__(self, new: Sequence[int], computed: Sequence[int], prompts: Sequence[int]) -> None:
        self.rank = 0
        self.model = Packed()
        starts = torch.tensor([0, *new, 0, 0]).cumsum(0).numpy()  # a longer buffer than there are requests
        batch = SimpleNamespace(
            num_reqs=len(prompts),
            num_computed_tokens_cpu=torch.tensor([*computed, 9, 9]).numpy(),
            num_prompt_tokens=torch.tensor([*prompts, 9, 9]).numpy(),
        )
        self.model_runner: Any = SimpleNamespace(
            get_model=lambda: self.model, input_batch=batch, query_start_loc=SimpleNamespace(np=starts)
        )
        self.positions = torch.cat([torch.arange(c, c + n) for c, n in zip(computed, new, strict=True)])

    @torch.inference_mode()
    def run(self, positions: Tensor | None = None) -> Tensor:
        """One pass."""
        places = self.positions if positions is None else positions
        return self.model(torch.arange(len(places)) % 50, places)


def worker() -> Worker:
    """A decoding request, one whose prompt comes in chunks, and a whole prompt."""
    return Worker(new=(1, 3, 5), computed=(6, 2, 0), prompts=(4, 6, 5))


KINDS = torch.tensor([3, 1, 1, 1, 1, 1, 1, 1, 2])
"""Of the nine tokens of that pass: the second prompt ends in a later one."""


def some_map(seed: int = 0) -> LowRankAffine:
    torch.manual_seed(seed)
    return fit_pca_ot(torch.randn(20, WIDTH) + 1, torch.randn(20, WIDTH), 2)


def spec(folder: Path, sites: Sequence[tuple[int, str, TransportMap]], **more: Any) -> str:
    placed: list[dict[str, Any]] = []
    for i, (block, where, map_) in enumerate(sites):
        map_.save(folder / f"{i}.safetensors")
        placed.append({"block": block, "where": where, "path": str(folder / f"{i}.safetensors")})
    modules = {"depth": DEPTH, "attention": "self_attn", "mlp": "mlp"}
    return json.dumps({"modules": modules, "tokens": "all", "strength": 1.0, "sites": placed, **more})


def embedded(at: Worker) -> Tensor:
    return at.model.embed(torch.arange(len(at.positions)) % 50)


def by_hand(at: Worker, moves: dict[tuple[int, str], Any], scope: Scope) -> Tensor:
    """The same pass with the residual stream as one tensor."""
    pick = in_scope(KINDS[None], scope)[0][:, None]

    def move(block: int, where: str, h: Tensor) -> Tensor:
        return torch.where(pick, moves[block, where](h), h) if (block, where) in moves else h

    with torch.inference_mode():
        h = embedded(at)
        layers: Any = at.model.layers
        for i, layer in enumerate(layers):
            h = move(i, "input", h)
            h = h + move(i, "attention", layer.self_attn(torch.tanh(h)))
            h = move(i, "output", h + move(i, "mlp", layer.mlp(torch.tanh(h))))
    return h


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("block", [0, 1, DEPTH - 1])
def test_the_residual_stream_is_moved(tmp_path: Path, scope: Scope, where: str, block: int) -> None:
    at, map_ = worker(), some_map()
    plain = at.run()
    at.bures_attach(spec(tmp_path, [(block, where, map_)], tokens=scope))
    moved = at.run()
    torch.testing.assert_close(moved, by_hand(worker(), {(block, where): map_.to(dtype=torch.float32)}, scope))
    chosen = in_scope(KINDS[None], scope)[0]
    assert torch.equal(moved[~chosen], plain[~chosen])
    assert (moved[chosen] != plain[chosen]).any(dim=1).all()
    at.bures_detach()
    assert at.bures_hooks() == 0
    assert torch.equal(at.run(), plain)


def test_several_sites_and_a_strength(tmp_path: Path) -> None:
    at, one, two = worker(), some_map(1), some_map(2)
    sites: list[tuple[int, str, TransportMap]] = [(0, "output", one), (1, "input", two), (2, "mlp", one)]
    at.bures_attach(spec(tmp_path, sites, tokens="prompt", strength=0.5))

    def half(map_: TransportMap) -> Any:
        return lambda h: h + 0.5 * (map_.to(dtype=torch.float32)(h) - h)

    moves = {(block, where): half(map_) for block, where, map_ in sites}
    torch.testing.assert_close(at.run(), by_hand(worker(), moves, "prompt"))


def test_what_is_attached_replaces_what_was(tmp_path: Path) -> None:
    at = worker()
    at.bures_attach(spec(tmp_path, [(0, "output", some_map(1)), (1, "output", some_map(2))], tokens="last"))
    at.bures_attach(spec(tmp_path, [(1, "output", some_map(2))]))
    torch.testing.assert_close(at.run(), by_hand(worker(), {(1, "output"): some_map(2).to(dtype=torch.float32)}, "all"))
    assert at.bures_hooks() == 1


def test_bfloat16_leaves_other_tokens_bit_for_bit(tmp_path: Path) -> None:
    at = worker()
    at.model.bfloat16()
    plain = at.run()
    at.bures_attach(spec(tmp_path, [(1, "output", some_map())], tokens="generated"))
    moved = at.run()
    assert moved.dtype == torch.bfloat16
    assert torch.equal(moved[1:], plain[1:])
    assert not torch.equal(moved[0], plain[0])


@pytest.mark.parametrize(
    "broken",
    [
        {"sites": [{"block": 0, "where": "output", "path": "good"}, {"block": 1, "where": "output", "path": "absent"}]},
        {"sites": [{"block": 0, "where": "output", "path": "good"}, {"block": 7, "where": "output", "path": "good"}]},
        {"modules": {"depth": DEPTH + 1, "attention": "self_attn", "mlp": "mlp"}},
        {"modules": {"depth": DEPTH, "attention": "attn", "mlp": "mlp"}},
    ],
)
def test_a_failed_attachment_leaves_no_hook(tmp_path: Path, broken: dict[str, Any]) -> None:
    some_map().save(tmp_path / "good.safetensors")
    described = json.loads(spec(tmp_path, [(0, "attention", some_map())], tokens="last"))
    for site in broken.get("sites", []):
        site["path"] = str(tmp_path / f"{Path(site['path']).stem}.safetensors")
    at = worker()
    with pytest.raises((BuresError, IndexError)):
        at.bures_attach(json.dumps({**described, **broken}))
    assert at.bures_hooks() == 0


def test_books_that_do_not_fit_the_pass_are_refused(tmp_path: Path) -> None:
    at = worker()
    at.bures_attach(spec(tmp_path, [(0, "output", some_map())], tokens="last"))
    with pytest.raises(ConfigError, match="positions"):
        at.run(at.positions.flip(0))
    del at.model_runner.input_batch
    with pytest.raises(ConfigError, match="runner is not known"):
        at.run()
    at.bures_attach(spec(tmp_path, [(0, "output", some_map())]))
    at.run()  # all tokens: no book is needed


def test_rows_that_pad_a_pass_are_left_alone(tmp_path: Path) -> None:
    at = worker()
    padded = torch.cat([at.positions, torch.zeros(3, dtype=torch.long)])
    plain = at.run(padded)
    at.bures_attach(spec(tmp_path, [(0, "output", some_map())], tokens="prompt"))
    moved = at.run(padded)
    assert torch.equal(moved[-3:], plain[-3:])
    assert not torch.equal(moved[1:3], plain[1:3])


def test_a_block_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    at = worker()
    at.model.layers[1].register_forward_hook(lambda _, __, output: (*output, None))
    at.bures_attach(spec(tmp_path, [(1, "output", some_map())]))
    with pytest.raises(BuresError, match="neither"):
        at.run()


def test_watching_sees_the_first_pass_and_changes_nothing(tmp_path: Path) -> None:
    at = worker()
    plain = at.run()
    sites = [(1, where, some_map()) for where in WHERES]
    at.bures_watch(spec(tmp_path, sites))
    assert torch.equal(at.run(), plain)
    at.bures_tell(str(tmp_path / "seen.safetensors"))
    at.bures_detach()
    assert at.bures_hooks() == 0
    seen = load_file(tmp_path / "seen.safetensors")
    assert set(seen) == {f"{where}.1" for where in WHERES}
    torch.testing.assert_close(seen["input.1"] + seen["attention.1"] + seen["mlp.1"], seen["output.1"])
    with torch.inference_mode():
        assert torch.equal(
            seen["input.1"], torch.stack(at.model.layers[0](at.positions, embedded(at), None)).sum(0)[-1]
        )


# The engine -------------------------------------------------------------------------------------------------------


class FakeLLM:
    """A vLLM that is the transformers model of the engine; `calls` are the worker's methods in order."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.calls: list[str] = []
        self.applied: list[dict[str, Any]] = []
        self.attached: dict[str, Any] | None = None
        self.files: list[Path] = []
        self.broken = False
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda: self.calls.append("shutdown")))
        self.model = load_model(settings["model"], dtype="float32")
        self.environment = dict(os.environ)
        FakeLLM.last = self

    last: Any = None
    scaled: float = 1.0

    def collective_rpc(self, method: str, args: tuple[str, ...] = ()) -> list[Any]:
        self.calls.append(method)
        if method == "bures_attach":
            attached = self.attached = json.loads(args[0])
            self.applied.append(attached)
            self.files = [Path(site["path"]) for site in attached["sites"]]
            assert all(file.is_file() for file in self.files)
        elif method == "bures_detach":
            self.attached = None
        elif method == "bures_watch":
            self.watched = [Site(site["block"], site["where"]) for site in json.loads(args[0])["sites"]]
            if self.watched[0].where == "mlp":
                raise RuntimeError("no mlp modules")
        elif method == "bures_tell":
            from safetensors.torch import save_file

            seen = activations(self.model, self.asked[0], self.watched)
            save_file({f"{s.where}.{s.block}": (h * self.scaled).contiguous() for s, h in seen.items()}, args[0])
        return [0]

    def generate(self, prompts: list[dict[str, list[int]]], parameters: Any, use_tqdm: bool) -> list[Any]:
        if self.broken:
            raise RuntimeError("out of cache")
        self.asked = [prompt["prompt_token_ids"] for prompt in prompts]
        self.parameters = parameters
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=[7, 8, 1, 9])]) for _ in prompts]


@pytest.fixture
def engine(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> vllm_engine.VllmEngine:
    fake = ModuleType("vllm")
    fake.__dict__.update(LLM=FakeLLM, SamplingParams=dict)
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr(FakeLLM, "scaled", 1.0)
    model = load_model(model_folder, dtype="float32")
    config = AuditConfig.make(model=model_folder, dtype="float32", backend="vllm", vllm_memory=0.25)
    return vllm_engine.VllmEngine(config, HereEngine(model, 4), tiny.PROMPTS)


def wide_map() -> TransportMap:
    torch.manual_seed(0)
    return fit_pca_ot(torch.randn(20, 32) + 1, torch.randn(20, 32), 2)


def test_answers_end_with_the_ending_token_and_maps_come_off(engine: vllm_engine.VllmEngine) -> None:
    map_ = wide_map()
    done: list[int] = []
    before = count_hooks(engine.here.model)
    with engine:
        moved = Intervention({0: map_, Site(1, "attention"): map_}, "last", 0.5)
        assert engine.answers(tiny.PROMPTS, moved, done.append) == [[7, 8, 1]] * len(tiny.PROMPTS)
        llm = FakeLLM.last
        assert llm.asked == engine.here.model.encode(tiny.PROMPTS)
        assert done == [len(tiny.PROMPTS)]
        assert llm.calls[-2:] == ["bures_attach", "bures_detach"]
        assert (llm.applied[0]["tokens"], llm.applied[0]["strength"]) == ("last", 0.5)
        assert [(s["block"], s["where"]) for s in llm.applied[0]["sites"]] == [(0, "output"), (1, "attention")]
        assert len(set(llm.files)) == 1
        assert not llm.files[0].parent.exists()
        engine.answers(tiny.PROMPTS, Intervention())
        assert len(llm.applied) == 1
        llm.broken = True
        with pytest.raises(RuntimeError, match="out of cache"):
            engine.answers(tiny.PROMPTS, moved)
        assert llm.calls[-1] == "bures_detach"
        assert llm.attached is None
    assert llm.calls[-1] == "shutdown"
    assert not engine.notes
    assert count_hooks(engine.here.model) == before


def test_settings_keep_interventions_apart(engine: vllm_engine.VllmEngine, model_folder: str) -> None:
    environment = dict(os.environ)
    with engine:
        engine.start()
    settings = FakeLLM.last.settings
    assert settings["model"] == model_folder
    assert settings["enable_prefix_caching"] is False
    assert settings["enforce_eager"] is True
    assert settings["dtype"] == "float32"
    assert settings["gpu_memory_utilization"] == 0.25
    assert settings["max_model_len"] == max(map(len, engine.here.model.encode(tiny.PROMPTS))) + 4
    assert FakeLLM.last.environment["VLLM_USE_V2_MODEL_RUNNER"] == "0"
    assert dict(os.environ) == environment


def test_what_vllm_cannot_do_is_done_here_and_noted(engine: vllm_engine.VllmEngine) -> None:
    class Own:
        """A map of an installed package."""

        kind, dim, device = "own", 32, torch.device("cpu")

        def __call__(self, h: Tensor) -> Tensor:
            return h + 1

        def to(self, device: Any = None, dtype: Any = None) -> Own:
            return self

        def save(self, path: Any) -> None:
            raise AssertionError

    with engine:
        for moved in (Intervention({Site(1, "mlp"): wide_map()}), Intervention({1: Own()})):
            assert engine.answers(tiny.PROMPTS, moved) == engine.here.answers(tiny.PROMPTS, moved)
    assert "mlp" in engine.notes[0]
    assert "Own" in engine.notes[1]
    assert not FakeLLM.last.applied


def test_another_residual_stream_is_refused(engine: vllm_engine.VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLLM, "scaled", 1.02)
    with engine, pytest.raises(ConfigError, match="does not compute what transformers does"):
        engine.answers(tiny.PROMPTS, Intervention())
    assert FakeLLM.last.calls[-1] == "shutdown"


def test_maps_of_another_width_are_refused_before_vllm_starts(engine: vllm_engine.VllmEngine) -> None:
    FakeLLM.last = None
    with engine, pytest.raises(ConfigError, match="width"):
        engine.answers(tiny.PROMPTS, Intervention({0: fit_mean_shift(torch.zeros(3, 9), torch.ones(3, 9))}))
    assert FakeLLM.last is None


def test_weights_in_memory_are_written_as_they_are(llama: ChatModel, tmp_path: Path) -> None:
    vllm_engine.write_weights(llama, tmp_path)
    tiny.tokenizer().save_pretrained(str(tmp_path))
    again = load_model(tmp_path, dtype="float32")
    assert again.fingerprint() == llama.fingerprint()


def test_which_weights_are_on_disk(model_folder: str, tmp_path: Path) -> None:
    assert stored_weights(model_folder, None) == model_folder
    assert stored_weights("Qwen/Qwen2.5-7B-Instruct", None) == "Qwen/Qwen2.5-7B-Instruct"
    assert stored_weights(model_folder, "adapter") is None
    assert stored_weights("organism", None) is None
    (tmp_path / "model.gguf").touch()
    assert stored_weights(str(tmp_path), None) is None
    assert stored_weights(str(tmp_path / "model.gguf"), None) is None


def test_names_of_modules(any_model: ChatModel) -> None:
    names = module_names(any_model)
    assert names["depth"] == len(any_model.blocks)
    block = any_model.blocks[1]
    for role in ("attention", "mlp"):
        assert (getattr(block, names[role]),) == any_model.parts.written[1, role]


@pytest.mark.parametrize("family", ["experts beside an MLP", "elementwise residual weights"])
def test_where_more_than_two_modules_write_vllm_has_no_such_sites(family: str) -> None:
    """An edit of one of them would not be the row that transformers answers."""
    model = wrap(families.network(family), tiny.tokenizer(), family)
    names = module_names(model)
    assert (names["attention"], names["mlp"]) == ("", "")
    found = find_modules(model.hf.model, names)
    assert found["attention"] == found["mlp"] == []
    (ids,) = model.encode(["Name a river."])
    sites = [Site(block, where) for where in WHERES for block in range(len(model.blocks))]
    seen = activations(model, ids, sites)
    assert {site.where for site in seen} == {"output", "input"}
    assert apart(seen, seen, "output") == 0.0
    assert apart(seen, seen, "mlp") == float("inf")


# Options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--tasks", "arc_easy"]])
def test_a_missing_vllm_is_one_line_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str]
) -> None:
    monkeypatch.setattr("bures.integrations.lm_eval.prepare", lambda _: {})
    monkeypatch.setattr("bures.jobs.beginning.load_splits", lambda _: pytest.fail("prompts were read"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", "organism", "--backend", "vllm", "--out", str(tmp_path / "run"), *flags])
    assert end.value.code == 2
    assert "pip install 'bures[vllm]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "sglang"}, "backend"),
        ({"tensor_parallel": 2}, "tensor_parallel is of --backend vllm"),
        ({"backend": "vllm", "tensor_parallel": 0}, "tensor_parallel"),
        ({"backend": "vllm", "vllm_memory": 1.5}, "vllm_memory"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AuditConfig.make(model="m", **options)


def test_a_run_may_be_continued_with_another_share_of_memory(tmp_path: Path) -> None:
    from bures.jobs.beginning import default_out, open_run
    from bures.results.schema import AuditResult

    one = AuditConfig.make(model="m", backend="vllm", vllm_memory=0.5)
    two = AuditConfig.make(model="m", backend="vllm", vllm_memory=0.3)
    with open_run(one, AuditResult, tmp_path) as (folder, _):
        folder.write_json(folder.results, {})
    assert default_out(one) == default_out(two) != default_out(AuditConfig.make(model="m"))
    assert "vllm_memory" not in json.loads((tmp_path / "config.json").read_text())
    with RunFolder.open(tmp_path, two.model_dump(mode="json", exclude={"storage", "vllm_memory"})) as again:
        assert again == folder


def test_kinds_that_are_compared_are_the_hooks_own() -> None:
    assert [TokenKind.GENERATED, *[TokenKind.PROMPT] * 7, TokenKind.LAST] == KINDS.tolist()
