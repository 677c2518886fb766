"""`bures defend`: every attack on the prompts of the audits, killed runs, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bures import cli
from bures.data.prompts import load_prompts
from bures.errors import BuresError, ConfigError, RunError
from bures.jobs.attacks import random_ablation
from bures.jobs.config import SearchConfig
from bures.jobs.defence import measuring
from bures.jobs.defence.between import cost_between
from bures.jobs.defence.config import DefendConfig
from bures.jobs.defence.job import defend
from bures.jobs.run import Run
from bures.jobs.saved_interventions import load_config
from bures.jobs.search import interventions_of
from bures.jobs.splits import load_splits
from bures.models.generation import decode, generate_ids
from bures.models.intervention import Intervention
from bures.models.loading import ChatModel, load_model, wrap
from bures.results.defending import DefenceResult, Withstood
from bures.results.marks import answered
from bures.results.run_folder import RunFolder, load_result
from bures.results.schema import SearchResult
from bures.training.lora import attach, save_adapter
from bures.transport import DiagonalAffine
from chaos import kills
from helpers import hardening, small_run, tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def audits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished audits of a model `before`, and `after` with an adapter."""
    folder = tmp_path_factory.mktemp("audits")
    small_run.finished(folder / "before", "--methods", "rfa", "--scopes", "all")
    base = folder / "before" / "model"
    adapted = attach(load_model(base), hardening.plan(load_model(base)))
    torch.manual_seed(0)
    for p in adapted.parameters():
        if p.requires_grad:
            p.data.normal_(std=0.05)
    save_adapter(adapted, folder / "adapter", base="model")
    small_run.finished(folder / "after", "--methods", "rfa", "--scopes", "all", adapter=folder / "adapter")
    return folder


def config(audits: Path, **options: Any) -> DefendConfig:
    runs = (f"after={audits / 'after' / 'run'}", f"before={audits / 'before' / 'run'}")
    return DefendConfig.make(**{"runs": runs, "before": str(audits / "before" / "run"), "n_perplexity": 4, **options})


@pytest.fixture(scope="module")
def found(audits: Path) -> tuple[DefenceResult, Path]:
    lookalikes = audits / "lookalikes.txt"
    lookalikes.write_text("Draw a gate\nDraw a wall\nDraw a door\n")
    return defend(config(audits, harmless_test=(str(lookalikes),)), audits / "table"), audits / "table"


def kinds(model: Withstood) -> dict[str, int]:
    names = [each.kind for each in model.attacks]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def test_every_attack_is_made_on_the_prompts_of_the_audits(audits: Path, found: tuple[DefenceResult, Path]) -> None:
    result, _ = found
    after, before = result.models
    rows = {each: load_result(audits / each / "run").rows for each in ("after", "before")}
    assert kinds(after) | {"iterated": 0} == {
        "none": 1,
        "refitted": len(rows["after"]) - 1,
        "iterated": 0,
        "transferred": len(rows["before"]) - 1,
        "prefilled": 3,
        "random": 1,
    }
    assert 1 <= kinds(after)["iterated"] <= 8
    assert "transferred" not in kinds(before)
    assert any("on after by the kind 'learned' are missing" in note for note in result.notes)  # it refuses nothing
    assert any("on before by the kind 'transferred' are missing" in note for note in result.notes)
    for model in result.models:
        assert {len(each.refused) for each in model.attacks} == {len(small_run.THINGS)}
        for row, each in zip(rows[model.name], model.attacks, strict=False):
            assert (each.name, each.refused) == (row.key, row.refused[result.judge])
        assert len(model.figures) == 4
        assert model.figures[0].union.value >= model.figures[0].worst_asr.value
        assert [each.n for each in model.over_refusal.values()] == [len(small_run.THINGS), 3]
    assert [pair.second for pair in result.pairs] == ["before"]
    assert after.cost is not None
    assert before.cost is None


def test_an_attack_is_what_the_model_answers_under_it(audits: Path, found: tuple[DefenceResult, Path]) -> None:
    """The null once more, with another way to generate: whole prompts in a row, nothing held of the original."""
    result, folder = found
    lines = [json.loads(line) for line in (folder / "completions.jsonl").read_text().splitlines()]
    said = [line["completion"] for line in lines if line["row"] == "after random"]
    model = load_model(audits / "before" / "model", adapter=audits / "adapter", dtype="float32")
    prompts = list(load_prompts(audits / "after" / "harmful_test.jsonl"))
    with random_ablation(model, result.seed).applied(model):
        assert said == decode(model, generate_ids(model, prompts, max_new_tokens=small_run.MAX_NEW_TOKENS))


def test_completions_are_the_owners_alone_and_none_is_kept_where_the_audit_kept_none(
    audits: Path, found: tuple[DefenceResult, Path], tmp_path: Path
) -> None:
    _, folder = found
    assert (folder / "completions.jsonl").stat().st_mode & 0o777 == 0o600
    assert not any(thing in (folder / "results.json").read_text() for thing in ("Draw", "Sketch"))
    run = tmp_path / "bare"
    shutil.copytree(audits / "after" / "run", run)
    (run / "completions.jsonl").unlink()
    defend(config(audits, runs=(f"bare={run}",), before=None, attacks=("random",)), tmp_path / "table")
    assert not (tmp_path / "table" / "completions.jsonl").exists()


class Killed(BaseException):
    """What a test kills a run with."""


def killed_at(patch: pytest.MonkeyPatch, which: int) -> None:
    """Lets the run die at its n-th attack, before anything of it is kept."""
    made, real = [0], measuring.Bench.measure

    def measure(*given: Any) -> Any:
        made[0] += 1
        if made[0] == which:
            raise Killed
        return real(*given)

    patch.setattr(measuring.Bench, "measure", measure)


def timeless(result: DefenceResult) -> dict[str, Any]:
    held = result.model_dump(exclude={"finished", "machine"})
    for model in held["models"]:
        for each in model["attacks"]:
            each["seconds"] = 0.0
    return held


@pytest.mark.parametrize("which", [1, 9])
def test_a_killed_run_goes_on_where_it_stopped(
    audits: Path, found: tuple[DefenceResult, Path], tmp_path: Path, which: int
) -> None:
    result, whole = found
    given = config(audits, harmless_test=(str(audits / "lookalikes.txt"),))
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, which)
        with pytest.raises(Killed):
            defend(given, tmp_path / "table")
    held = load_result(tmp_path / "table", DefenceResult)
    assert held.status == "running"
    assert sum(each.kind not in ("none", "refitted") for model in held.models for each in model.attacks) == which - 1
    folder = RunFolder(tmp_path / "table")
    folder.append_completions([{"row": "after of an attack that was not kept", "set": "harmful"}])
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real = measuring.Bench.measure

        def measure(bench: Any, kind: Any, plan: Any) -> Any:
            made.append(f"{bench.target.audit.name} {plan.name}")
            return real(bench, kind, plan)

        patch.setattr(measuring.Bench, "measure", measure)
        again = defend(given, tmp_path / "table")
    assert not {f"{m.name} {each.name}" for m in held.models for each in m.attacks} & {*made}
    assert timeless(again) == timeless(result)
    lines = [sorted(map(str, RunFolder(each).read_completions())) for each in (whole, folder.path)]
    assert lines[0] == lines[1]
    assert defend(given, tmp_path / "table") == again


def test_the_model_before_is_in_the_table_under_its_own_name(audits: Path, tmp_path: Path) -> None:
    """It is loaded once, as the model before, and its answers are those of the model that the table names."""
    runs = (f"after={audits / 'after' / 'run'}", f"base={audits / 'before' / 'run'}")
    defend(config(audits, runs=runs, attacks=("random",)), tmp_path / "table")
    rows = {line["row"] for line in RunFolder(tmp_path / "table").read_completions()}
    assert rows == {"after random", "base random"}


def test_costs_over_the_model_before_are_those_of_two_plain_passes(audits: Path) -> None:
    before = load_model(audits / "before" / "model", dtype="float32")
    after = load_model(audits / "before" / "model", adapter=audits / "adapter", dtype="float32")
    answers = [[70, 71, 72], [80], [90, 91], [70, 80, 90, 91, 92]]
    prompts = tiny.PROMPTS[:4]
    found = cost_between(before, after, prompts, answers, system=None, token_budget=64)

    def log_probs(model: ChatModel, head: list[int], answer: list[int]) -> torch.Tensor:
        with torch.no_grad():
            logits = model.hf(torch.tensor([[*head, *answer]])).logits[0].double()
        return logits.log_softmax(-1)[len(head) - 1 : -1]

    kl, rise = list[list[float]](), 0.0
    for head, answer in zip(before.encode(prompts), answers, strict=True):
        p, q = (log_probs(model, head, answer) for model in (before, after))
        kl.append((p.exp() * (p - q)).sum(-1).tolist())
        rise += sum(float(p[i, token] - q[i, token]) for i, token in enumerate(answer))
    tokens = [x for each in kl for x in each]
    assert found.kl.value == pytest.approx(sum(tokens) / len(tokens), rel=2e-3)
    assert found.kl_95.value == pytest.approx(float(torch.tensor(tokens).double().quantile(0.95)), rel=2e-3)
    assert found.perplexity_ratio.value == pytest.approx(math.exp(rise / len(tokens)), rel=1e-5)
    same = cost_between(before, before, prompts, answers, system=None, token_budget=4096)
    assert (same.kl.value, same.perplexity_ratio.value) == (0.0, 1.0)
    spoken = copy.deepcopy(tiny.tokenizer())
    spoken.chat_template = tiny.TEMPLATE.replace("<|assistant|>", "<|user|>")
    with pytest.raises(ConfigError, match="other tokens"):
        cost_between(before, wrap(before.hf, spoken, "other"), prompts, answers, system=None, token_budget=64)


def test_prefilled_attacks_cost_nothing_and_ablations_are_measured(found: tuple[DefenceResult, Path]) -> None:
    result, _ = found
    by_name = {each.name: each for each in result.models[0].attacks}
    assert by_name["prefilled"].perplexity_ratio == 1.0
    for name, each in by_name.items():
        if name.startswith(("iterated", "transferred", "random")):
            assert each.perplexity_ratio is not None
            assert each.within_budget == (each.perplexity_ratio <= 1.1)
        if name.startswith("prefilled-"):
            row = by_name[name.removeprefix("prefilled-")]
            assert (each.perplexity_ratio, each.within_budget) == (row.perplexity_ratio, row.within_budget)


def test_a_learned_direction_and_a_search_are_attacks_too(tmp_path: Path) -> None:
    """On a hand-made model that refuses; a search is of one model alone."""
    kills.write_inputs(tmp_path)
    for job in ("audit", "search"):
        with pytest.raises(SystemExit) as end:
            cli.main(kills.command(job, tmp_path, tmp_path / job))
        assert not end.value.code
    options: dict[str, Any] = {"attacks": ("learned", "search"), "search": (f"one={tmp_path / 'search'}",)}
    given = DefendConfig.make(runs=(f"one={tmp_path / 'audit'}",), **options)
    result = defend(given, tmp_path / "table")
    attacks = {each.name: each for each in result.models[0].attacks}
    searched = load_result(tmp_path / "search", SearchResult)
    assert next(name for name in attacks if name.startswith("search-")) == f"search-{searched.recommended}"
    assert sum(name.startswith("search-") for name in attacks) == len(searched.front)
    assert [each.kind for each in attacks.values()].count("learned") == 1
    lines = list(RunFolder(tmp_path / "table").read_completions())
    config, model = load_config(tmp_path / "search", SearchConfig), load_model(tmp_path / "model", dtype="float32")
    run = Run(config, load_splits(config), model, searched)
    prompts = list(load_prompts(tmp_path / "harmful_test.txt"))
    for trial, move in interventions_of(run):
        with move.applied(model):
            said = decode(model, generate_ids(model, prompts, max_new_tokens=8))
        assert said == [line["completion"] for line in lines if line["row"] == f"one search-{trial.number}"]
    other = changed_weights(tmp_path / "search", tmp_path / "another search")
    with pytest.raises(ConfigError, match="is of another model"):
        defend(given.model_copy(update={"search": (f"one={other}",)}), tmp_path / "table2")


def changed_weights(run: Path, copy: Path) -> Path:
    """A copy of a run that says that it was of another model."""
    shutil.copytree(run, copy)
    held = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(held | {"model": held["model"] | {"fingerprint": "0" * 64}}))
    return copy


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"runs": ()}, ConfigError, "runs"),
        ({"runs": ("a=x", "a=y")}, ConfigError, "two models are called 'a'"),
        ({"runs": ("=x",)}, ConfigError, "no NAME=RUN"),
        ({"runs": ("a=nowhere",)}, RunError, "nowhere"),
        ({"before": "nowhere"}, RunError, "nowhere"),
        ({"attacks": ("teapot",)}, ConfigError, "attacks"),
        ({"attacks": ()}, ConfigError, "attacks"),
        ({"harmless_test": ("nowhere.txt",)}, BuresError, "nowhere"),
        ({"search": ("nobody=x",)}, ConfigError, "with the name of a model"),
        ({"search": ("after=nowhere",)}, RunError, "nowhere"),
        ({"n_perplexity": 0}, ConfigError, "n_perplexity"),
        ({"teapot": 1}, ConfigError, "teapot"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(
    audits: Path, tmp_path: Path, options: dict[str, Any], error: type[BuresError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        defend(config(audits, **options), tmp_path / "table")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "table").exists()


def changed(audits: Path, copy: Path, **fields: Any) -> Path:
    """A copy of the audit of the model after, with other results."""
    shutil.copytree(audits / "after" / "run", copy)
    held = json.loads((copy / "results.json").read_text())
    (copy / "results.json").write_text(json.dumps(held | fields))
    return copy


def test_audits_that_cannot_be_held_against_each_other_are_refused(audits: Path, tmp_path: Path) -> None:
    held = json.loads((audits / "after" / "run" / "results.json").read_text())
    cases = {
        "has not ended": {"status": "running"},
        "other harmful test prompts": {"tested": held["tested"] | {"harmful": {"hashes": ["0"], "categories": [None]}}},
        "differ in judge": {"judge": "gcg"},
        "weights of": {"model": held["model"] | {"fingerprint": "0" * 64}},
    }
    for i, (said, fields) in enumerate(cases.items()):
        run = changed(audits, tmp_path / f"run{i}", **fields)
        given = config(audits, runs=(f"after={audits / 'after' / 'run'}", f"other={run}"), attacks=("random",))
        with pytest.raises(BuresError, match=said):
            defend(given, tmp_path / f"table{i}")
    run = changed(audits, tmp_path / "longer")
    options = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(options | {"max_new_tokens": 7}))
    given = config(audits, runs=(f"after={audits / 'after' / 'run'}", f"other={run}"), attacks=("random",))
    with pytest.raises(ConfigError, match="differ in max_new_tokens"):
        defend(given, tmp_path / "longer-table")


def test_audits_that_differ_in_more_than_the_adapter_are_warned_of(audits: Path, tmp_path: Path) -> None:
    run = changed(audits, tmp_path / "run")
    options = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(options | {"ranks": [3], "name": "Another"}))
    given = config(audits, runs=(f"after={audits / 'after' / 'run'}", f"other={run}"), attacks=("refitted",))
    result = defend(given.model_copy(update={"before": None}), tmp_path / "table")
    assert len(result.warnings) == 1
    assert "(ranks)" in result.warnings[0]
    (warning,) = defend(config(audits, attacks=("refitted",), before=None), tmp_path / "table2").warnings
    assert "(model)" in warning  # prompts in other files are the same prompts


def test_a_table_refuses_other_options_and_audits_that_were_made_anew(audits: Path, tmp_path: Path) -> None:
    given = config(audits, attacks=("random",), runs=(f"after={audits / 'after' / 'run'}",))
    run = changed(audits, tmp_path / "run")
    given = given.model_copy(update={"runs": (f"after={run}",)})
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, 1)
        with pytest.raises(Killed):
            defend(given, tmp_path / "table")
    with pytest.raises(RunError, match="other options"):
        defend(given.model_copy(update={"n_perplexity": 3}), tmp_path / "table")
    held = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(held | {"finished": "2030-01-01T00:00:00+00:00"}))
    with pytest.raises(ConfigError, match="has changed since the table was begun"):
        defend(given, tmp_path / "table")


def test_an_attack_under_which_numbers_overflow_stands_in_the_table_and_counts_for_nothing(
    audits: Path, tmp_path: Path
) -> None:
    def burst(*_: Any, **__: Any) -> Any:
        model = load_model(audits / "before" / "model", dtype="float32")
        maps = random_ablation(model, 0).maps
        d = model.d_model
        huge = DiagonalAffine("act", torch.full((d,), 1e38), torch.zeros(d))
        return Intervention(dict.fromkeys(maps, huge))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bures.jobs.defence.planning.random_ablation", burst)
        result = defend(
            config(audits, attacks=("random",), runs=(f"after={audits / 'after' / 'run'}",), before=None),
            tmp_path / "table",
        )
    null = result.models[0].attacks[-1]
    assert null.kind == "random"
    assert null.error is not None
    assert result.models[0].null is None
    assert result.models[0].figure().attacks == 0
    assert answered(null.refused) == []


def test_the_command_prints_the_table_and_writes_the_page(
    audits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["defend", f"ours={audits / 'after' / 'run'}", f"before={audits / 'before' / 'run'}"]
    given += ["--before", str(audits / "before" / "run"), "--attacks", "prefilled,random", "--n-perplexity", "2"]
    with pytest.raises(SystemExit) as end:
        cli.main([*given, "--out", str(tmp_path / "table")])
    assert not end.value.code
    out = capsys.readouterr().out
    for expected in ("ours answers 100%", "union", "prefilled", "(null)", "does not train"):
        assert expected in out
    page = (tmp_path / "table" / "defence.html").read_text()
    assert "does not train" in page
    assert "Sketch" not in page
    with pytest.raises(SystemExit) as end:
        cli.main([*given, "--json", "--out", str(tmp_path / "table")])
    assert not end.value.code
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "table" / "results.json").read_text())
    with pytest.raises(SystemExit) as end:
        cli.main(["defend", "--out", str(tmp_path / "none")])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
