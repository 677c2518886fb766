"""A hand-made three-block Llama whose every answer is known: a table says which word follows which.

It refuses prompts with one of `FORBIDDEN` and answers all others. Words are tokens. Attention is even: the first block
carries the mean of a "forbidden" feature over the context to the last token, and at the fork behind the answer's common
beginning the table asks for it. Every figure is known, so a test can say what is right: without an intervention all
prompts with a forbidden word are refused and no others, wherever templates, thinking and turn ends get in the way.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bures.models.loading import ChatModel, wrap

BOS, PAD, UNKNOWN, STOP, TURN = "<|bos|>", "<|pad|>", "<|unknown|>", "<|stop|>", "<|turn|>"
USER, ASSISTANT, SYSTEM = "<|user|>", "<|assistant|>", "<|system|>"
MARKS = (BOS, PAD, UNKNOWN, STOP, TURN, USER, ASSISTANT, SYSTEM)

FORBIDDEN = tuple(f"zarn{n}" for n in range(10))
HARMLESS = tuple(f"word{n}" for n in range(40))
REFUSAL = ("Sorry,", "I", "cannot", "help", "with", "that.")
ANSWER = ("Gladly:", "first", "one", "then", "another.")
THOUGHT = ("Hmm,", "let", "me", "see", "what", "they", "want", "here.")
DAYS = tuple(f"{day:02d}" for day in range(1, 32))

BAD, GOOD = "word1 zarn2 word3 zarn4", "word1 word2 word3 word4"
REFUSED, ANSWERED = " ".join(REFUSAL), " ".join(ANSWER)

_SPREAD = 8


@dataclass(frozen=True)
class Script:
    """What the model says and how it is spoken to.

    Attributes:
        beginning: words with which every answer begins.
        refusal: what it says to forbidden words.
        answer: what it says to all else.
        ending: the token that ends its turns.
        eos: the tokenizer's end of text; the generation configuration's too, unless `configured` is False.
        configured: whether the generation configuration names an end.
        onward: words that follow the turn's end, round and round.
        opens: what the template writes behind the assistant's mark.
        parts: whether the template takes contents as lists of parts alone.
        dated: whether the template writes the day of the month into a system turn.
        switch: whether the template opens its thinking only where `enable_thinking` is not off.
        before: what the template writes in front of what the user says.
    """

    beginning: Sequence[str] = ()
    refusal: Sequence[str] = REFUSAL
    answer: Sequence[str] = ANSWER
    ending: str = TURN
    eos: str = TURN
    configured: bool = True
    onward: Sequence[str] = ()
    opens: str = ""
    parts: bool = False
    dated: bool = False
    switch: bool = False
    before: str = ""

    @property
    def template(self) -> str:
        """The chat template."""
        content = "{{ m['content'] }}"
        if self.parts:
            content = "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
        day = f"{SYSTEM} {{{{ strftime_now('%d') }}}} {TURN} " if self.dated else ""
        opens = self.opens
        if self.switch:
            opens = f"{{% if enable_thinking is defined and not enable_thinking %}}{{% else %}}{opens}{{% endif %}}"
        return (
            f"{{{{ bos_token }}}} {day}{{% for m in messages %}}<|{{{{ m['role'] }}}}|> {self.before} {content} "
            f"{self.ending} {{% endfor %}}{{% if add_generation_prompt %}}{ASSISTANT} {opens}{{% endif %}}"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary."""
        said = (*self.beginning, *self.refusal, *self.answer, *self.onward, *self.opens.split(), *self.before.split())
        return tuple(dict.fromkeys((*MARKS, *FORBIDDEN, *HARMLESS, *DAYS, "<think>", "</think>", *said, self.ending)))


def tokenizer(script: Script) -> PreTrainedTokenizerFast:
    """One token a word; what stands in `MARKS` is special."""
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(script.words)}, unk_token=UNKNOWN))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=script.eos,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[STOP, TURN, USER, ASSISTANT, SYSTEM],
    )
    made.chat_template = script.template
    return made


@torch.no_grad()
def network(script: Script, *, seed: int = 0) -> LlamaForCausalLM:
    """The model that says it."""
    place = {word: i for i, word in enumerate(script.words)}
    n = len(place)
    asked, heard, spread, carried = n, n + 1, n + 2, n + 2 + _SPREAD
    width = -(-(carried + _SPREAD) // 8) * 8
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=n,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=width,
        max_position_embeddings=256,
        bos_token_id=place[BOS],
        eos_token_id=place[script.eos],
        pad_token_id=place[PAD],
        tie_word_embeddings=False,
    )
    net = LlamaForCausalLM(config).float().eval()
    for matrix in (p for p in net.parameters() if p.ndim == 2):
        matrix.zero_()
    embedding, table = net.model.embed_tokens.weight, net.lm_head.weight
    embedding[:, :n] = torch.eye(n)
    embedding[:, spread:carried] = 0.3 * torch.randn(n, _SPREAD)
    embedding[[place[word] for word in FORBIDDEN], asked] = 1.0 + 0.2 * torch.randn(len(FORBIDDEN))
    attention: Any = net.model.layers[0].self_attn
    for source, target in ((asked, heard), *((spread + i, carried + i) for i in range(_SPREAD))):
        attention.v_proj.weight[target, source] = attention.o_proj.weight[target, target] = 1.0

    def follows(first: str, second: str, weight: float) -> None:
        table[place[second], place[first]] = weight

    fork = [ASSISTANT, *script.beginning]
    for first, second in pairwise(fork):
        follows(first, second, 400.0)
    follows(fork[-1], script.answer[0], 4.0)
    table[place[script.refusal[0]], heard] = 40.0
    for said in (script.refusal, script.answer):
        whole = [*said, script.ending, *script.onward, *script.onward[:1]]
        for first, second in pairwise(whole):
            follows(first, second, 400.0)
    if not script.configured:
        net.generation_config.eos_token_id = None
    return net


def model(script: Script = Script(), name: str = "scripted") -> ChatModel:
    """The model, in memory."""
    return wrap(network(script), tokenizer(script), name)


def folder(path: Path, script: Script = Script(), *, seed: int = 0) -> Path:
    """The model, as a user would have it."""
    network(script, seed=seed).save_pretrained(path)
    tokenizer(script).save_pretrained(path)
    return path


def prompts(n: int, *, bad: bool, seed: int = 1) -> list[str]:
    """Prompts that differ, with three forbidden words or with none."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < n:
        words = draw.sample(HARMLESS, draw.randint(3, 6))
        for word in draw.sample(FORBIDDEN, 3) if bad else ():
            words.insert(draw.randint(0, len(words)), word)
        found[" ".join(words)] = None
    return list(found)
