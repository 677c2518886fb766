"""`bures search` beside heretic-llm: the same model, prompt files, answer length and number of trials.

`side_by_side.py` runs it. The organism is saved as a safetensors folder, which both load; the time counts until an
intervention is chosen, loading included. Rounds differ in the seed of both. Their choices are then measured alike: on
other prompts, by the judge `bures` and by the KL of the first token (original || intervened). heretic's choice is the
first of its list, that with the fewest refusals. Its size of a batch is given, so that no time goes into finding one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from turns import Row, arguments, compared, keep, spent

from bures.data.prompts import load_prompts
from bures.jobs.config import SearchConfig
from bures.jobs.progress import Silent
from bures.jobs.run import Run
from bures.jobs.search import interventions_of, search
from bures.jobs.splits import load_splits
from bures.judges.base import verdicts
from bures.judges.by_name import judge_by_name
from bures.models.first_token import FirstToken
from bures.models.generation import generate
from bures.models.intervention import Intervention
from bures.models.loading import load_model
from bures.models.prompt_stream import first_token
from bures.results.run_folder import load_result
from bures.results.schema import SearchResult

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the organism's template says where nothing is said; heretic says something of its own otherwise."""

FIT, OTHERS = 64, 24
"""Prompts of a side to fit on, and others that choices are measured on."""

SETS = {
    "harmful_fit": ("advbench", FIT),
    "harmless_fit": ("alpaca:fit", FIT),
    "harmful_select": ("harmbench:select", 24),
    "harmless_select": ("alpaca:select", 24),
    "harmful_test": ("harmbench:test", OTHERS),
    "harmless_test": ("alpaca:test", OTHERS),
}


class Chosen(Exception):  # noqa: N818
    """Ends heretic where it asks which trial is wanted."""


def main() -> None:
    """Runs both in turns, with another seed each time, measures their choices, keeps."""
    given = arguments()
    torch.set_num_threads(1)
    import_module("heretic.main")  # what it needs is missing now, or never
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    reached: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = load_model(given.model, dtype="bfloat16")
        model.hf.save_pretrained(folder / "model")
        model.tokenizer.save_pretrained(folder / "model")
        del model
        files = {each: written(folder, each, *where) for each, where in SETS.items()}
        for seed in range(given.rounds):
            config = options(folder, files, given, seed)
            here = folder / f"round {seed}"
            ours.append(spent(partial(search, config, here / "run")))
            mine = measured_ours(config, here / "run", files)
            peer = Heretic(here, folder / "model", files, given, seed)
            theirs.append(spent(peer.run))
            reached.append({"none": mine.pop("none"), "bures": mine, "heretic": peer.measured(given.tokens)})
    note = ", ".join(f"{name} {said([each[name] for each in reached])}" for name in ("bures", "heretic"))
    note += f" (on {OTHERS} + {OTHERS} other prompts, by the seeds; {said([reached[0]['none']])} without)"
    row: Row = {"ours": f"`bures search`, {given.trials} trials, {given.tokens} tokens", "theirs": "heretic-llm"}
    row |= {"equal": "not asked: see below", **compared(ours, theirs), "reached": reached}
    keep("search", [row], versions=("heretic-llm", "optuna", "peft"), note=f"{note}. {given.note}".strip())


def said(found: Sequence[Mapping[str, float]]) -> str:
    """ASR and KL in words, seed by seed."""
    asr, kl = ("/".join(f"{each[name]:{form}}" for each in found) for name, form in (("asr", ".0%"), ("kl", ".3f")))
    return f"ASR {asr} at a KL of {kl}"


def written(folder: Path, name: str, source: str, n: int) -> Path:
    """Prompts as a file of lines, which both read."""
    path = folder / f"{name}.txt"
    texts = (" ".join(text.split()) for text in load_prompts(source).take(n).texts)
    path.touch(mode=0o600)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def lines(path: Path) -> list[str]:
    """The prompts of a file."""
    return path.read_text(encoding="utf-8").splitlines()


def figures(prompts: Sequence[str], answers: Sequence[str], before: torch.Tensor, after: torch.Tensor) -> Row:
    """ASR by the judge `bures`, and the mean KL of the first token."""
    marks = verdicts(judge_by_name("bures"), prompts, answers)
    kl = FirstToken(before.float()).kl_to(FirstToken(after.float()))
    return {"asr": sum(mark != "refusal" for mark in marks) / len(marks), "kl": round(kl, 4)}


# bures ----------------------------------------------------------------------------------------------------------------


def options(folder: Path, files: Mapping[str, Path], given: Any, seed: int) -> SearchConfig:
    """Of a search."""
    sets = {name: str(path) for name, path in files.items() if not name.endswith("test")}
    return SearchConfig.make(
        model=str(folder / "model"),
        system=SYSTEM,
        n_fit=FIT,
        n_select=24,
        n_again=0,
        threads=1,
        seed=seed,
        trials=given.trials,
        short_tokens=given.tokens // 2,
        long_tokens=given.tokens,
        **sets,
    )


def measured_ours(config: SearchConfig, run: Path, files: Mapping[str, Path]) -> Row:
    """What the recommended trial comes to, and the model as it is (`none`)."""
    result = load_result(run, SearchResult)
    model = load_model(config.model)
    _, move = next(interventions_of(Run(config, load_splits(config), model, result, None, Silent())))
    harmful, harmless = lines(files["harmful_test"]), lines(files["harmless_test"])
    first: list[torch.Tensor] = []
    answers: list[list[str]] = []
    for each in (Intervention(), move):
        first.append(first_token(model, harmless, each, system=SYSTEM).log_probs)
        with each.applied(model):
            answers.append(generate(model, harmful, max_new_tokens=config.long_tokens, system=SYSTEM))
    before, after = (figures(harmful, answers[i], first[0], first[i]) for i in (0, 1))
    return {**after, "none": before}


# heretic --------------------------------------------------------------------------------------------------------------


class Heretic:
    """One run of heretic-llm in this process; it is driven by its command line."""

    def __init__(self, folder: Path, model: Path, files: Mapping[str, Path], given: Any, seed: int) -> None:
        """Prepares the command line.

        Args:
            folder: heretic keeps its study there.
            model: its folder.
            files: the prompts.
            given: how many trials, and tokens of an answer.
            seed: of its draws.
        """
        self.folder, self.files = folder, files
        folder.mkdir(exist_ok=True)
        sets = ("good_prompts", "harmless_fit"), ("bad_prompts", "harmful_fit")
        sets += ("good_evaluation_prompts", "harmless_select"), ("bad_evaluation_prompts", "harmful_select")
        lines = [f"[{name}]\ndataset = '{files[each]}'\n" for name, each in sets]
        (folder / "config.toml").write_text("\n".join(lines), encoding="utf-8")
        self.words = ["heretic", "--model", str(model), "--seed", str(seed), "--batch-size", "24"]
        self.words += ["--n-trials", str(given.trials), "--n-startup-trials", str(given.trials)]
        self.words += ["--max-response-length", str(given.tokens), "--system-prompt", SYSTEM]
        self.calls: list[tuple[Any, ...]] = []
        self.model: Any = None
        self.trials: list[Any] = []

    def run(self) -> None:
        """Until it asks which trial is wanted; what it did to the model is kept, trial by trial."""
        main: Any = import_module("heretic.main")
        os.chdir(self.folder)
        model = main.Model
        abliterate = model.abliterate

        def kept(this: Any, *args: Any) -> None:
            self.model = this
            self.calls.append(args)
            abliterate(this, *args)

        def asked(_: str, choices: Sequence[Any]) -> None:
            self.trials = [each.value for each in choices if hasattr(each.value, "user_attrs")]
            raise Chosen

        argv, sys.argv, model.abliterate, main.prompt_select = sys.argv, self.words, kept, asked
        try:
            main.run()
        except Chosen:
            return
        finally:
            sys.argv, model.abliterate = argv, abliterate
        raise SystemExit("heretic ended before it had chosen")

    def measured(self, tokens: int) -> Row:
        """What the first trial of its list comes to."""
        prompt = import_module("heretic.utils").Prompt
        model, best = self.model, self.trials[0]
        model.settings.response_prefix, model.settings.max_response_length = "", tokens
        asked = {
            name: [prompt(system=SYSTEM, user=text) for text in lines(self.files[name])]
            for name in ("harmful_test", "harmless_test")
        }
        model.reset_model()
        before = model.get_logprobs_batched(asked["harmless_test"])
        model.abliterate(*self.calls[best.user_attrs["index"] - 1])
        after = model.get_logprobs_batched(asked["harmless_test"])
        answers = model.get_responses_batched(asked["harmful_test"], skip_special_tokens=True)
        return figures(lines(self.files["harmful_test"]), answers, before, after)


if __name__ == "__main__":
    main()
