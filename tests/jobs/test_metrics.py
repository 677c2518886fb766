"""Metrics against brute force: one sequence at a time, full logits, float64, edits made without hooks."""

from __future__ import annotations

import math

import pytest

import bures.jobs.metrics
from bures.errors import ConfigError
from bures.jobs.metrics import answer_costs, corpus_perplexity
from bures.models.generation import generate_ids
from bures.models.intervention import Intervention, count_hooks
from bures.models.loading import ChatModel
from bures.results.records import Scope
from bures.results.shares import attack_success, attack_success_rate, over_refusal, refusals
from bures.results.stats import proportion
from helpers import tiny
from helpers.counting import in_few_batches
from helpers.intervened import intervention, log_probs

SCOPES: tuple[Scope | None, ...] = (None, "all", "prompt", "last", "generated")
TEXT = "The river runs past the old mill, and in the evening the children count the boats that come home. " * 4


def answers_of(model: ChatModel) -> list[list[int]]:
    """Answers of different lengths."""
    ids = generate_ids(model, tiny.PROMPTS, max_new_tokens=9)
    return [row[: 1 + (4 * i) % 9] for i, row in enumerate(ids)]


def brute_costs(model: ChatModel, scope: Scope | None) -> tuple[float, float, int]:
    nll, kl, tokens = 0.0, 0.0, 0
    for head, answer in zip(model.encode(tiny.PROMPTS), answers_of(model), strict=True):
        p = log_probs(model, head + answer, None, len(head))
        q = log_probs(model, head + answer, scope, len(head))
        for place, token in enumerate(answer):
            here = len(head) - 1 + place  # what predicts the token
            nll -= float(q[here, token])
            kl += float((p[here].exp() * (p[here] - q[here])).sum())
            tokens += 1
    return math.exp(nll / tokens), kl / tokens, tokens


@pytest.mark.parametrize("scope", SCOPES)
def test_answer_costs_are_brute_force(any_model: ChatModel, scope: Scope | None) -> None:
    perplexity, kl, tokens = brute_costs(any_model, scope)
    costs = answer_costs(any_model, tiny.PROMPTS, answers_of(any_model), intervention(any_model, scope))
    assert costs.perplexity.value == pytest.approx(perplexity, rel=1e-5)
    assert costs.kl.value == pytest.approx(kl, rel=1e-3, abs=1e-7)
    assert costs.tokens == tokens
    assert costs.perplexity.n == costs.kl.n == len(tiny.PROMPTS)
    for measured in (costs.perplexity, costs.kl):
        assert measured.interval is not None
        assert measured.interval[0] <= measured.value <= measured.interval[1]
    if scope is None:
        assert costs.kl.value == 0.0
    else:
        assert costs.kl.value > 1e-4
        assert costs.perplexity.value != pytest.approx(brute_costs(any_model, None)[0], rel=1e-4)


def test_scopes_cost_differently(llama: ChatModel) -> None:
    kls = [
        answer_costs(llama, tiny.PROMPTS, answers_of(llama), intervention(llama, scope)).kl.value for scope in SCOPES
    ]
    assert len({round(kl, 6) for kl in kls}) == len(SCOPES)


def test_costs_do_not_depend_on_the_batches(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    llama = in_few_batches(llama)
    move = intervention(llama, "all")
    together = answer_costs(llama, tiny.PROMPTS, answers_of(llama), move, advance=done.append)
    alone = answer_costs(llama, tiny.PROMPTS, answers_of(llama), move, token_budget=1, advance=done.append)
    monkeypatch.setattr(bures.jobs.metrics, "LOGIT_BUDGET", tiny.VOCABULARY * 10 * 2)
    limited = answer_costs(llama, tiny.PROMPTS, answers_of(llama), move, advance=done.append)
    assert done == [8] + [1] * 8 + [2] * 4
    for other in (alone, limited):
        assert other.kl.value == pytest.approx(together.kl.value, rel=1e-4)
        assert other.perplexity.value == pytest.approx(together.perplexity.value, rel=1e-5)


def test_costs_leave_no_hooks(llama: ChatModel) -> None:
    hooks = count_hooks(llama)
    answer_costs(llama, tiny.PROMPTS, answers_of(llama), intervention(llama, "all"))
    corpus_perplexity(llama, TEXT, intervention(llama, "all"), window=16)
    assert count_hooks(llama) == hooks


def test_a_greedy_answer_is_likelier_than_chance(llama: ChatModel) -> None:
    costs = answer_costs(llama, tiny.PROMPTS, answers_of(llama), Intervention())
    assert costs.perplexity.value < tiny.VOCABULARY


def test_answers_that_do_not_fit_are_refused(llama: ChatModel) -> None:
    for answers in ([], [[5]] * 7, [[5]] * 7 + [[]]):
        with pytest.raises(ConfigError, match="one non-empty answer per prompt"):
            answer_costs(llama, tiny.PROMPTS, answers, Intervention())


# Plain text -------------------------------------------------------------------------------------------------------


def brute_corpus(model: ChatModel, window: int, most: int, scope: Scope | None) -> tuple[float, int]:
    ids = [tiny.token_of(c) for c in TEXT][:most]  # one token a byte
    losses: list[float] = []
    windows = 0
    for start in range(0, len(ids), window):
        piece = ids[start : start + window]
        if len(piece) < window:
            break
        windows += 1
        logp = log_probs(model, [0, *piece], scope, prompt=len(piece) + 2)  # 0: BOS
        losses += [-float(logp[i, token]) for i, token in enumerate(piece)]
    return math.exp(sum(losses) / len(losses)), windows


@pytest.mark.parametrize("scope", [None, "all", "prompt"])
@pytest.mark.parametrize(("window", "most"), [(32, 8192), (50, 120)])
def test_corpus_perplexity_is_brute_force(any_model: ChatModel, scope: Scope | None, window: int, most: int) -> None:
    expected, windows = brute_corpus(any_model, window, most, scope)
    measured = corpus_perplexity(any_model, TEXT, intervention(any_model, scope), window=window, max_tokens=most)
    assert measured.value == pytest.approx(expected, rel=1e-5)
    assert measured.n == windows
    if scope is not None:
        assert measured.value != pytest.approx(brute_corpus(any_model, window, most, None)[0], rel=1e-4)


@pytest.mark.parametrize("scope", ["last", "generated"])
def test_plain_text_has_neither_a_last_prompt_token_nor_an_answer(llama: ChatModel, scope: Scope) -> None:
    untouched = corpus_perplexity(llama, TEXT, Intervention(), window=32)
    assert corpus_perplexity(llama, TEXT, intervention(llama, scope), window=32) == untouched


def test_a_corpus_shorter_than_a_window_is_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError, match="the corpus has 5 tokens; expected at least 32"):
        corpus_perplexity(llama, "Short", Intervention(), window=32)
    assert corpus_perplexity(llama, TEXT[:32], Intervention(), window=32).n == 1


def test_no_prompts_are_refused(llama: ChatModel) -> None:
    with pytest.raises(ConfigError):
        answer_costs(llama, [], [], Intervention())


# Counts -----------------------------------------------------------------------------------------------------------


def test_rates_are_counts_over_all_prompts() -> None:
    refused = [True, False, False, True, False, False, False, False]
    asr, over = attack_success_rate(refused), over_refusal(refused)
    assert (asr.value, asr.n) == (6 / 8, 8)
    assert (over.value, over.n) == (2 / 8, 8)
    for measured, k in ((asr, 6), (over, 2)):
        z = 1.959963984540054  # Wilson 1927
        centre = (k / 8 + z * z / 16) / (1 + z * z / 8)
        half = z / (1 + z * z / 8) * math.sqrt(k / 8 * (1 - k / 8) / 8 + z * z / 256)
        assert measured.interval == pytest.approx((centre - half, centre + half))
    assert attack_success_rate([True] * 5).value == 0.0
    assert over_refusal([True] * 5).value == 1.0


def test_rates_over_nothing_are_errors() -> None:
    for rate in (attack_success_rate, over_refusal):
        with pytest.raises(ValueError, match="no samples"):
            rate([])


# Unfinished answers -----------------------------------------------------------------------------------------------


def test_unfinished_answers_widen_a_share_to_its_bounds() -> None:
    found = attack_success([True, False, None, None, False])
    assert (found.bounds, found.n, found.unfinished) == ((0.4, 0.8), 5, 2)
    assert found.share is not None
    assert (found.share.value, found.share.n) == (2 / 3, 3)
    assert found.share.interval == (proportion(2, 5).bounds[0], proportion(4, 5).bounds[1])
    assert attack_success_rate([True, False, None, None, False]) == found.share
    refused = refusals([True, False, None, None, False])
    assert (refused.bounds, refused.share and refused.share.value) == ((0.2, 0.6), 1 / 3)


def test_with_every_answer_finished_a_share_is_a_proportion() -> None:
    for marks in ([True] * 4, [False] * 4, [True, False, False]):
        assert attack_success(marks).share == attack_success_rate(marks) == proportion(marks.count(False), len(marks))
        assert refusals(marks).share == over_refusal(marks) == proportion(marks.count(True), len(marks))
        assert attack_success(marks).bounds == (marks.count(False) / len(marks),) * 2


def test_with_no_answer_finished_all_is_possible() -> None:
    found = attack_success([None] * 24)
    assert (found.share, found.bounds, found.interval, found.unfinished) == (None, (0.0, 1.0), (0.0, 1.0), 24)
    for rate in (attack_success_rate, over_refusal):
        with pytest.raises(ConfigError, match="none of 24 answers was finished"):
            rate([None] * 24)
        with pytest.raises(ValueError, match="no samples"):
            rate([])
