"""Mistakes of callers in Python, in an interpreter without the checks of types that tests have: one line for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import bures
from bures.models.activations import collect
from bures.models.loading import wrap
from helpers import scripted
from helpers.interpreter import run

MISTAKES = {
    "generate(m, 'word1')": "PromptError: the prompts are one string",
    "generate(m, None)": "PromptError: the prompts are None",
    "generate(m, 3)": "PromptError: the prompts are a int",
    "generate(m, [None])": "PromptError: prompt 1 is missing",
    "generate(m, [3])": "PromptError: prompt 1 is a int",
    "generate(m, [{'role': 'user', 'content': 'word1'}])": "PromptError: the prompts are the turns of one conversation",
    "collect(m, 'word1')": "PromptError: the prompts are one string",
    "collect(m, None)": "PromptError: the prompts are None",
    "collect(m, [float('nan')])": "PromptError: prompt 1 is missing",
    "collect(m, ['word1'], blocks=1)": "ConfigError: blocks=1: expected a list",
    "collect(m, ['word1'], blocks=['0'])": "ConfigError: blocks=['0']: expected a list",
    "collect(m, ['word1'], blocks=[-1])": "ConfigError: block -1 does not exist",
    "PromptSet('a', 'b', None, 'word1')": "PromptError: the prompts of 'a' are one string",
    "PromptSet('a', 'b', None, None)": "PromptError: the prompts of 'a' are None",
    "PromptSet('a', 'b', None, (3,))": "PromptError: prompt 1 of 'a' is a int",
    "load_prompts(['word1'])": "PromptError: the source of the prompts is a list",
    "load_prompts(None)": "PromptError: the source of the prompts is a NoneType",
    "bures.audit('organism')": "ConfigError: the options are a str",
    "bures.audit(None)": "ConfigError: the options are a NoneType",
    "bures.AuditConfig.make(model='m', harmful=['word1'])": "ConfigError: harmful: ['word1']; expected",
    "bures.AuditConfig.make(model='m', harmful_fit=['word1'])": "ConfigError: harmful_fit:",
    "bures.AuditConfig(model='m', method='rfa')": "ConfigError: method: there is no such option; did you",
    "bures.AuditConfig(model='m', max_new_tokens='few')": "ConfigError: max_new_tokens: Input should be",
    "bures.AuditConfig('organism')": "ConfigError: AuditConfig takes options by name; expected such as",
    "bures.AuditConfig()": "ConfigError: no model given; expected: Hub id",
    "bures.AuditConfig(model='m', harmful=['word1'])": "ConfigError: harmful: ['word1']; expected",
    "bures.SearchConfig(model='m', strength=2.0)": "ConfigError: strength: not of a search",
    "bures.GateConfig(max_asr=10)": "ConfigError: max_asr: Input should be less than or equal to 1, got 10; a share",
    "bures.GateConfig()": "ConfigError: no limit given",
    "bures.fit_pca_ot({0: X}, {0: X}, rank=1)": "FitError: The source must be a floating tensor",
    "bures.fit_rfa([[1.0]], [[2.0]])": "FitError: The source must be a floating tensor",
    "bures.fit_rfa(X, X[:, :5])": "FitError: The source rows have width",
    "Intervention({'0': T})": "ConfigError: an intervention has maps by block number",
    "Intervention([T])": "ConfigError: the maps are a list",
    "Intervention({0: X})": "ConfigError: what is given for 0 is a Tensor, no map",
    "Intervention({0: T}).applied(m.hf).__enter__()": "ConfigError: an intervention is applied to what load_model",
    "Intervention({-1: T}).applied(m).__enter__()": "ConfigError: block -1 does not exist",
    "Intervention({0: T}).applied(m, prompt_lengths='3').__enter__()": "ConfigError: prompt_lengths are no list",
    "T(X.to('meta'))": "ConfigError: ",
}

SCRIPT = """
import json, sys
import bures, numpy, pandas, torch
from bures import collect, generate, load_prompts
from bures.data.prompts import PromptSet
from bures.models.intervention import Intervention
m = bures.load_model(sys.argv[1])
X, Y = collect(m, ["word1 zarn1", "word2 zarn2"], blocks=[0])[0], collect(m, ["word1", "word2"], blocks=[0])[0]
T = bures.fit_mean_shift(X, Y)
found = {}
for mistake in json.loads(sys.argv[2]):
    try:
        found[mistake] = f"no error but {eval(mistake)!r}"
    except Exception as error:
        found[mistake] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    arguments = ["-c", str(scripted.folder(tmp_path)), json.dumps([*MISTAKES])]
    found = json.loads(run(f"import sys; sys.argv = {arguments!r}\n{SCRIPT}"))
    assert {mistake: found[mistake][: len(said)] for mistake, said in MISTAKES.items()} == MISTAKES
    assert not [said for said in found.values() if "\n" in said]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_wrap_switches_training_off(dropout: float) -> None:
    hf = scripted.network(scripted.Script())
    for block in hf.model.layers:
        block.get_submodule("self_attn").__dict__["attention_dropout"] = dropout
    hf.train()
    drawn = [hf(input_ids=torch.tensor([[0, 9, 10, 11]])).logits for _ in range(2)]
    assert torch.equal(*drawn) is (dropout == 0.0)  # it does draw while it trains
    model = wrap(hf, scripted.tokenizer(scripted.Script()), "mine")
    assert not any(module.training for module in hf.modules())
    rows = [collect(model, [scripted.BAD])[2] for _ in range(2)]
    assert torch.equal(*rows)
    assert bures.generate(model, [scripted.BAD, scripted.GOOD]) == [scripted.REFUSED, scripted.ANSWERED]
