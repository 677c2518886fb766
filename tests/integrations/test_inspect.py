"""Inspect AI: a task under our provider gives the audit's answers and figures, with an intervention and without."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bures.errors import ConfigError, ModelError
from bures.judges.phrases import SubstringJudge
from bures.models.generation import generate
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel, load_model
from bures.results.run_folder import RunFolder, load_result
from helpers import installing, reference, small_run, tiny

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="needs pip install 'bures[inspect]'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:inspect_ai"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def odd_answers(judge: SubstringJudge, prompt: str, answer: str) -> bool:
    """A verdict that a random model's answers do not all share."""
    return (len(prompt) + sum(map(ord, answer)) + len(judge.name)) % 2 == 1


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SubstringJudge, "is_refusal", odd_answers)
        return small_run.finished(tmp_path_factory.mktemp("inspect"), methods="pca-ot", strength=4.0)


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Streams that Inspect leaves open complain here, where that is ignored, and not when the session ends."""
    yield
    gc.collect()


@pytest.fixture
def odd_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubstringJudge, "is_refusal", odd_answers)


def provider(run_folder: Path, **options: Any) -> Any:
    from bures.integrations.inspect_provider import BuresAPI

    return BuresAPI(str(run_folder.parent / "model"), dtype="float32", **options)


# The audit's prompts ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("odd_judges")
@pytest.mark.parametrize("row", ["none", "pca-ot-2"])
def test_the_task_gives_the_audits_answers_and_figures(
    run_folder: Path, tmp_path: Path, row: str, caplog: pytest.LogCaptureFixture
) -> None:
    from inspect_ai import eval as run_task
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import get_model

    from bures.integrations.inspect_registry import bures_audit

    arguments: dict[str, Any] = {} if row == "none" else {"run": str(run_folder), "row": row}
    model = get_model(f"bures/{run_folder.parent / 'model'}", dtype="float32", memoize=False, **arguments)
    api: Any = model.api
    hooks = count_hooks(api.model)
    (log,) = run_task(bures_audit(run=str(run_folder)), model=model, log_dir=str(tmp_path), display="none")
    assert log.status == "success", log.error
    assert count_hooks(api.model) == hooks
    warned = [record for record in caplog.records if "under no intervention: -M run=" in record.getMessage()]
    assert len(warned) == (row == "none")  # once, and not where a row is named

    known = {line["hash"]: line for line in RunFolder(run_folder).read_completions() if line["row"] == row}
    back = read_eval_log(log.location)
    assert back.samples is not None
    assert len(back.samples) == len(known) == 20
    for sample in back.samples:
        line = known[sample.metadata["hash"]]
        assert (sample.output.completion, sample.metadata["set"]) == (line["completion"], line["set"])
        assert (sample.output.metadata or {})["row"] == arguments.get("row")
        assert sample.output.usage is not None
        assert sample.output.usage.output_tokens == line["n_tokens"]
        assert sample.output.stop_reason == ("max_tokens" if line["n_tokens"] == small_run.MAX_NEW_TOKENS else "stop")
        assert sample.scores is not None
        value: Any = sample.scores["refusal"].value
        assert value.items() >= {name: float(v) for name, v in line["refusal"].items() if name in value}.items()
        assert {"arditi", "gcg"} <= value.keys() & line["refusal"].keys()
    measured = next(each for each in load_result(run_folder).rows if each.key == row)
    assert back.results is not None
    found = {
        score.name: {
            m.name.removeprefix("bures/"): m.value for m in score.metrics.values()
        }  # installed, or from source
        for score in back.results.scores
    }
    for judge in ("arditi", "gcg"):
        for name, m in (("asr", measured.asr[judge]), ("over_refusal", measured.over_refusal[judge])):
            assert m.interval is not None
            low, high = m.interval
            expected = {name: m.value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": float(m.n)}
            assert found[judge].items() >= expected.items()
    assert len({measured.asr[judge].value for judge in ("arditi", "gcg")} | {0.0, 1.0}) > 2


def test_a_judge_that_asks_for_harm_says_nothing_of_harmless_prompts() -> None:
    from inspect_ai.scorer import SampleScore, Score

    from bures.integrations.inspect_task import FIGURES

    values = [("harmful", 1.0), ("harmful", 0.0), ("harmless", -1.0)]
    scores = [SampleScore(score=Score(value=value), sample_metadata={"set": which}) for which, value in values]
    figures: list[Any] = [make() for make in FIGURES]  # Inspect types them for its registry, not for a call
    found = [figure(scores) for figure in figures]
    assert (found[0], found[3]) == (0.5, 2.0)
    assert all(math.isnan(value) for value in found[5:])


def test_an_unfinished_answer_is_neither_success_nor_refusal() -> None:
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import SampleScore, Score

    from bures.integrations.inspect_task import FIGURES, UNFINISHED, _is_finished

    values = [1.0, 0.0, UNFINISHED, UNFINISHED]
    scores = [SampleScore(score=Score(value=value), sample_metadata={"set": "harmful"}) for value in values]
    figures: list[Any] = [make() for make in FIGURES]
    value, low, high, n, unfinished = (figure(scores) for figure in figures[:5])
    assert (value, n, unfinished) == (0.5, 2.0, 2.0)
    assert low < 0.25 < 0.75 < high  # 1 of 4 to 3 of 4
    everything = [figure(scores[2:]) for figure in figures[:5]]
    assert math.isnan(everything[0])
    assert everything[1:] == [0.0, 1.0, 0.0, 2.0]
    cut = ModelOutput.from_content("m", "", stop_reason="max_tokens")
    assert not _is_finished(cut)
    assert _is_finished(ModelOutput.from_content("m", "Here", stop_reason="max_tokens"))
    cut.metadata = {"finished": True}
    assert _is_finished(cut)


def test_rows_differ_or_the_test_above_shows_nothing(run_folder: Path) -> None:
    rows = {row.key: row for row in load_result(run_folder).rows}
    assert rows["none"].refused != rows["pca-ot-2"].refused


def test_prompts_that_have_changed_are_refused(run_folder: Path, tmp_path: Path) -> None:
    from inspect_ai._util.error import PrerequisiteError

    from bures.integrations.inspect_task import bures_audit

    copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
    held = json.loads((copy / "config.json").read_text())
    held["harmful_test"], held["harmful_select"] = held["harmful_select"], held["harmful_test"]
    (copy / "config.json").write_text(json.dumps(held))
    faults: tuple[tuple[dict[str, Any], str], ...] = (
        ({"run": str(copy)}, "have changed since"),
        ({"run": str(tmp_path)}, "cannot read"),
        ({"harmful": "no-such-set"}, "no-such-set"),
        ({"run": str(run_folder), "judges": "nobody"}, "unknown judge"),
        ({"run": str(run_folder), "judges": []}, "no judge given"),
    )
    for arguments, words in faults:
        with pytest.raises(PrerequisiteError) as caught:
            bures_audit(**arguments)
        assert words in str(caught.value.message)


def test_prompts_by_name_without_a_run(run_folder: Path) -> None:
    from bures.integrations.inspect_task import bures_audit

    files = {which: str(run_folder.parent / f"{which}_test.jsonl") for which in ("harmful", "harmless")}
    task = bures_audit(**files, n=3, system="Be brief.", max_new_tokens=5, judges="gcg")
    samples = list(task.dataset)
    assert [(sample.metadata or {})["set"] for sample in samples] == ["harmful"] * 3 + ["harmless"] * 3
    chat = samples[0].input
    assert not isinstance(chat, str)
    assert [message.role for message in chat] == ["system", "user"]
    assert task.config.max_tokens == 5


# The provider -----------------------------------------------------------------------------------------------------


def ask(api: Any, *turns: tuple[str, str], **config: Any) -> Any:
    import anyio
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    messages = [kinds[role](content=text) for role, text in turns]

    async def main() -> Any:
        return await api.generate(messages, [], "none", GenerateConfig(**config))

    return anyio.run(main)


def test_conversations_go_through_the_chat_template(run_folder: Path) -> None:
    api = provider(run_folder)
    turns = [("system", "Be brief."), ("user", "Name a river."), ("assistant", "The Danube."), ("user", "Another?")]
    output = ask(api, *turns, max_tokens=6)
    text = "<|bos|>" + "".join(f"<|{role}|>{said}<|end|>" for role, said in turns) + "<|assistant|>"
    ids = tiny.tokenizer()(text, add_special_tokens=False)["input_ids"]
    answer: list[int] = []
    while len(answer) < 6 and not (answer and answer[-1] in api.model.eos_ids):
        answer.append(int(api.model.hf(input_ids=torch.tensor([ids + answer])).logits[0, -1].argmax()))
    assert output.completion == api.model.tokenizer.decode(answer, skip_special_tokens=True)
    assert (output.usage.input_tokens, output.usage.output_tokens) == (len(ids), len(answer))


def test_stopping(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = provider(run_folder)
    whole = ask(api, ("user", "Name a river."), max_tokens=8)
    assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 8)
    stop = whole.completion[2]
    cut = ask(api, ("user", "Name a river."), max_tokens=8, stop_seqs=["not there", stop])
    assert cut.completion == whole.completion[: whole.completion.index(stop)]
    assert cut.stop_reason == "stop"
    third = api.model.tokenizer.encode(whole.completion)[0]
    monkeypatch.setattr(api.model.hf.generation_config, "eos_token_id", [third])
    assert ask(api, ("user", "Name a river."), max_tokens=8).stop_reason == "stop"
    monkeypatch.setattr(api.model.hf.generation_config, "eos_token_id", None)
    long = ask(api, ("user", "x" * 505), max_tokens=64)
    assert (long.stop_reason, long.usage.total_tokens) == ("model_length", 512)
    beyond = ask(api, ("user", "x" * 600), max_tokens=64)
    assert (beyond.stop_reason, beyond.completion, beyond.usage.output_tokens) == ("model_length", "", 0)


def test_settings_that_greedy_answers_ignore_are_said_once(run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    api = provider(run_folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            ask(api, ("user", "Hello"), max_tokens=1, temperature=0.7, top_p=1.0, num_choices=1, logprobs=True)
        ask(api, ("user", "Hello"), max_tokens=1, temperature=0.0)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("bures")]
    assert said == [f"bures answers greedily: {what} is ignored" for what in ("temperature=0.7", "logprobs=True")]


def test_what_it_cannot_do_is_said_plainly(run_folder: Path) -> None:
    import anyio
    from inspect_ai.model import ChatMessageTool, ChatMessageUser, ContentImage, GenerateConfig
    from inspect_ai.tool import ToolInfo

    api = provider(run_folder)
    picture = ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")])
    tool = ToolInfo(name="clock", description="tells the time")
    for messages, tools, words in (
        ([ChatMessageUser(content="x")], [tool], "calls no tools"),
        ([picture], [], "not image messages"),
        ([ChatMessageTool(content="x")], [], "not tool messages"),
    ):

        async def main(messages: list[Any] = messages, tools: list[Any] = tools) -> None:
            await api.generate(messages, tools, "none", GenerateConfig())

        with pytest.raises(ConfigError, match=words):
            anyio.run(main)
    raising = "{{ raise_exception('only one turn') }}"
    api.model = replace(api.model, chat=replace(api.model.chat, template=raising))
    with pytest.raises(ModelError, match=r"cannot render a conversation of user turns.*only one turn"):
        ask(api, ("user", "x"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"teapot": 1}, "unknown model arguments teapot"),
        ({"row": "pca-ot-1"}, "row pca-ot-1 of which run?"),
        ({"run": "/no/such/run"}, "cannot read"),
        ({"row": "pca-ot-7"}, "has no row 'pca-ot-7'"),
    ],
)
def test_bad_arguments_are_inspects_own_kind_of_error(run_folder: Path, options: dict[str, Any], words: str) -> None:
    from inspect_ai._util.error import PrerequisiteError

    if options == {"row": "pca-ot-7"}:
        options = {**options, "run": str(run_folder)}
    with pytest.raises(PrerequisiteError) as caught:
        provider(run_folder, **options)
    assert words in str(caught.value.message)


def test_maps_of_another_model_are_noticed(run_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from inspect_ai._util.error import PrerequisiteError

    from bures.integrations.inspect_provider import BuresAPI

    other = tiny.folder(tmp_path / "other", seed=1)
    BuresAPI(str(other), run=str(run_folder), row="pca-ot-1")
    assert "is not the model on which the maps" in caplog.text
    wide = tiny.folder(tmp_path / "wide", width=64)
    with pytest.raises(PrerequisiteError):
        BuresAPI(str(wide), run=str(run_folder), row="pca-ot-1")


def test_the_runs_loading_options_are_taken_over_for_its_own_model(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bures.integrations.inspect_provider as module

    model, given = str(run_folder.parent / "model"), []

    def spying(name: str, **options: Any) -> ChatModel:
        given.append(options)
        return load_model(name, **options)

    monkeypatch.setattr(module, "load_model", spying)
    module.BuresAPI(model, run=str(run_folder))
    module.BuresAPI(model, run=str(run_folder), dtype="bfloat16")
    module.BuresAPI(str(shutil.copytree(model, tmp_path / "copy")), run=str(run_folder))
    assert [options.get("dtype") for options in given] == ["float32", "bfloat16", None]
    assert not any(options["trust_remote_code"] for options in given)


# Gathering --------------------------------------------------------------------------------------------------------


def test_answers_asked_for_together_are_those_asked_for_alone(run_folder: Path) -> None:
    import anyio
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    api = provider(run_folder, batch_size=4)
    api.intervention = Intervention({1: reference.low_rank(api.model.d_model, seed=5)})
    with api.intervention.applied(api.model):
        expected = {n: generate(api.model, tiny.PROMPTS, max_new_tokens=n) for n in (3, 5)}
    sizes: list[int] = []
    work = api.gather.work
    api.gather.work = lambda batch: (sizes.append(len(batch)), work(batch))
    found: dict[int, str] = {}

    async def one(i: int, prompt: str) -> None:
        config = GenerateConfig(max_tokens=3 if i % 2 else 5)
        found[i] = (await api.generate([ChatMessageUser(content=prompt)], [], "none", config)).completion

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for i, prompt in enumerate(tiny.PROMPTS):
                group.start_soon(one, i, prompt)

    anyio.run(main)
    assert [found[i] for i in range(8)] == [expected[3 if i % 2 else 5][i] for i in range(8)]
    assert sizes == [4, 4]


def gathered(work: Any, n: int, *, most: int = 3, cancel: Sequence[int] = ()) -> dict[int, Any]:
    """What n requests made at once got: True, or what was raised."""
    import anyio

    from bures.integrations.inspect_provider import Gatherer, Request

    found: dict[int, Any] = {}

    async def one(gather: Any, i: int) -> None:
        try:
            if i in cancel:
                with anyio.move_on_after(0.001):
                    await gather(Request([], i))
                return
            await gather(Request([], i))
            found[i] = True
        except ValueError as error:
            found[i] = error

    async def main() -> None:
        gather = Gatherer(work, most=most, window=0.01)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for i in range(n):
                    group.start_soon(one, gather, i)
        assert not gather.waiting

    anyio.run(main)
    return found


def test_two_batches_never_run_at_once_and_none_is_lost() -> None:
    inside, seen = threading.Lock(), []

    def work(batch: Any) -> None:
        assert inside.acquire(blocking=False)
        seen.append([request.max_tokens for request in batch])
        threading.Event().wait(0.005)
        inside.release()

    found = gathered(work, 10, cancel=[2, 5])
    assert found == dict.fromkeys({*range(10)} - {2, 5}, True)
    assert sorted(i for batch in seen for i in batch) == sorted({*range(10)} - {2, 5})
    assert max(map(len, seen)) <= 3


def test_a_failure_reaches_everyone_in_its_batch_and_nobody_else() -> None:
    def work(batch: Any) -> None:
        if any(request.max_tokens == 1 for request in batch):
            raise ValueError("no")

    found = gathered(work, 6)
    assert [isinstance(found[i], ValueError) for i in range(6)] == [True] * 3 + [False] * 3


# As a user has it -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages in which bures lies as pip would have put it, entry points included."""
    site = tmp_path_factory.mktemp("installed") / "site-packages"
    installing.install(site, installing.ROOT, installing.ROOT / "src" / "bures")
    return site


def test_the_command_line_runs_it_and_shows_no_text(run_folder: Path, installed: Path, tmp_path: Path) -> None:
    from inspect_ai.log import bundle_log_dir, list_eval_logs, read_eval_log

    model = f"bures/{run_folder.parent / 'model'}"
    run = ["-T", f"run={run_folder}", "-M", f"run={run_folder}", "-M", "row=pca-ot-1"]
    command = [sys.executable, "-m", "inspect_ai", "eval", "bures/bures_audit", "--model", model, *run]
    options = ["--limit", "4", "--display", "plain", "--log-dir", "logs"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Sketch" not in done.stdout + done.stderr
    (info,) = list_eval_logs(str(tmp_path / "logs"))
    log = read_eval_log(info)
    assert (log.status, log.eval.task, log.eval.model) == ("success", "bures/bures_audit", model)
    assert log.eval.model_args == {"run": str(run_folder), "row": "pca-ot-1"}
    assert log.results is not None
    assert {score.name for score in log.results.scores} >= {"arditi", "gcg"}
    bundle_log_dir(str(tmp_path / "logs"), str(tmp_path / "bundle"))
    assert (tmp_path / "bundle" / "index.html").is_file()
    assert list((tmp_path / "bundle" / "logs").glob("*.eval"))


def test_listing_tasks_does_not_import_torch(installed: Path, tmp_path: Path) -> None:
    code = "import bures.integrations.inspect_registry, sys; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_without_inspect_the_pip_line_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [n for n in sys.modules if n.split(".")[0] == "inspect_ai" or n.startswith("bures.integrations.inspect_")]
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    for module in ("inspect_registry", "inspect_task", "inspect_provider"):
        with pytest.raises(ConfigError, match=r"pip install 'bures\[inspect\]'"):
            importlib.import_module(f"bures.integrations.{module}")
