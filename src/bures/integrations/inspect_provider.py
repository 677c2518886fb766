"""Inspect AI: the model under a fitted intervention, as a model provider. Importing this module needs inspect-ai.

    inspect eval TASK --model bures/MODEL -M run=RUN_FOLDER -M row=pca-ot-1

Inspect asks for many answers at once. They are gathered for a moment, answered greedily as one padded batch in a worker
thread, and never two batches at a time, because hooks belong to the model and not to a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bures.errors import ConfigError, needs
from bures.integrations.inspect_task import one_line
from bures.jobs.beginning import asked_as
from bures.jobs.saved_interventions import load_config, load_intervention
from bures.models.architecture import text_config
from bures.models.batching import TOKEN_BUDGET
from bures.models.generation import Answer, continued, read
from bures.models.intervention import Intervention
from bures.models.loading import load_model
from bures.results.run_folder import load_result

with needs("inspect", "bures in Inspect AI"):
    import anyio
    import anyio.to_thread
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessage,
        ChatMessageAssistant,
        Content,
        ContentReasoning,
        ContentText,
        GenerateConfig,
        ModelAPI,
        ModelOutput,
        ModelUsage,
        StopReason,
    )
    from inspect_ai.tool import ToolChoice, ToolInfo

logger = logging.getLogger(__name__)

Chat = list[dict[str, str]]

MAX_TOKENS = 2048
"""Of an answer, where neither the task nor the user says."""

_LOADING = ("dtype", "device", "adapter", "revision")
_IGNORED: Mapping[str, Any] = {  # settings that greedy answers do not follow, and the value at which they ask nothing
    "temperature": 0,
    "top_p": 1,
    "top_k": 1,
    "num_choices": 1,
    "best_of": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "response_schema": None,
}


class BuresAPI(ModelAPI):
    """A provider whose models are those of `bures.load_model`.

    Arguments (`-M`): `run` and `row`, the intervention of an audit; `dtype`, `device`, `adapter`, `revision`, which
    default to those of the run where it is of the same model; `trust_remote_code`; `batch_size`; `token_budget`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  (Inspect's own signature)
        *,
        run: str | None = None,
        row: str | None = None,
        batch_size: int = 32,
        token_budget: int = TOKEN_BUDGET,
        trust_remote_code: bool = False,
        **loading: Any,
    ) -> None:
        super().__init__(model_name=model_name, base_url=base_url, api_key=api_key, config=config)
        with one_line():
            unknown = sorted(set(loading) - set(_LOADING))
            if unknown:
                known = ", ".join(("run", "row", *_LOADING, "trust_remote_code", "batch_size", "token_budget"))
                raise ConfigError(f"unknown model arguments {', '.join(unknown)}; expected some of {known}")
            if row is not None and run is None:
                raise ConfigError(f"row {row} of which run? give -M run=RUN_FOLDER too")
            options = dict(loading)
            if run is not None and load_config(run).model == model_name:
                held = load_config(run).model_dump(include=set(_LOADING))
                options = {**held, **loading}
            self.row = None if run is None else row or "pca-ot-1"
            self.intervention = Intervention() if run is None else load_intervention(run, self.row or "")
            self.model = load_model(model_name, trust_remote_code=trust_remote_code, **options)
            if run is not None:
                self.model = asked_as(self.model, load_config(run), load_result(run))
            with self.intervention.applied(self.model):
                pass  # maps that do not fit are refused before anything runs
        if run is not None and load_result(run).model["fingerprint"] != self.model.fingerprint():
            logger.warning("%s is not the model on which the maps of %s were fitted", model_name, run)
        if self.row is not None:
            logger.info("%s under row %s of %s: %r", model_name, self.row, run, self.intervention)
        self.batch_size = int(batch_size)
        self.token_budget = int(token_budget)
        self.gather = Gatherer(self._answer, most=self.batch_size)
        self.warned: set[str] = set()

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  (Inspect's own signature)
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One greedy answer."""
        if tools:
            raise ConfigError(f"bures/{self.model_name} calls no tools; choose a task without tools")
        self._warn(config)
        request = Request([_turn(message) for message in input], config.max_tokens or MAX_TOKENS)
        await self.gather(request)
        text, stop = request.said.text, request.stop
        for sequence in config.stop_seqs or ():
            if sequence in text:
                text, stop = text[: text.index(sequence)], "stop"
        thought = [] if request.said.thinking is None else [ContentReasoning(reasoning=request.said.thinking)]
        content: str | list[Content] = [*thought, ContentText(text=text)] if thought else text
        message = ChatMessageAssistant(content=content, model=self.model_name, source="generate")
        n_in, n_out = request.n_prompt, len(request.answer)
        return ModelOutput(
            model=self.model_name,
            choices=[ChatCompletionChoice(message=message, stop_reason=stop)],
            usage=ModelUsage(input_tokens=n_in, output_tokens=n_out, total_tokens=n_in + n_out),
            time=request.seconds,
            metadata={"finished": request.said.finished, "row": self.row},
        )

    def max_tokens(self) -> int | None:
        """Of an answer, where nobody says."""
        return MAX_TOKENS

    def max_connections(self) -> int:
        """As many requests as one batch takes."""
        return self.batch_size

    def collapse_user_messages(self) -> bool:
        """Chat templates want turns that alternate."""
        return True

    def collapse_assistant_messages(self) -> bool:
        """Chat templates want turns that alternate."""
        return True

    def _warn(self, config: GenerateConfig) -> None:
        """Says once of every setting that greedy answers do not follow it."""
        for name, neutral in _IGNORED.items():
            value = getattr(config, name, None)
            if value is not None and value != neutral and name not in self.warned:
                self.warned.add(name)
                logger.warning("bures answers greedily: %s=%s is ignored", name, value)

    def _answer(self, batch: Sequence[Request]) -> None:
        """Fills the requests; runs in a worker thread."""
        began = time.monotonic()
        window = int(getattr(text_config(self.model.hf), "max_position_embeddings", 1 << 30))
        for request, ids in zip(batch, self.model.chat.encode_messages([r.chat for r in batch]), strict=True):
            request.ids, request.room = ids, max(0, min(request.max_tokens, window - len(ids)))
        for room in sorted({request.room for request in batch if request.room}):
            chosen = [request for request in batch if request.room == room]
            with self.intervention.applied(self.model):
                asked = [request.ids for request in chosen]
                answers = continued(self.model, asked, max_new_tokens=room, token_budget=self.token_budget)
            for request, answer in zip(chosen, answers, strict=True):
                request.answer, request.said = answer, read(self.model, answer)
                if request.said.ended:
                    request.stop = "stop"
                elif room == request.max_tokens:
                    request.stop = "max_tokens"
        for request in batch:
            request.seconds = time.monotonic() - began


NOTHING = Answer("", None, ended=False, finished=False)
"""What is said where no token fits behind the chat."""


@dataclass(eq=False)
class Request:
    """One chat, and its answer once it is there."""

    chat: Chat
    max_tokens: int
    ids: list[int] = field(default_factory=list[int])
    room: int = 0
    answer: list[int] = field(default_factory=list[int])
    said: Answer = NOTHING
    stop: StopReason = "model_length"
    seconds: float = 0.0
    done: bool = False
    error: BaseException | None = None

    @property
    def n_prompt(self) -> int:
        """Tokens of the chat."""
        return len(self.ids)


class Gatherer:
    """Answers requests that arrive within a moment together, one batch at a time.

    Args:
        work: fills a batch; called in a worker thread, never twice at once.
        most: requests of one batch.
        window: how long the first one waits for others, in seconds.
    """

    def __init__(self, work: Callable[[Sequence[Request]], None], *, most: int, window: float = 0.02) -> None:
        self.work = work
        self.most = most
        self.window = window
        self.waiting: list[Request] = []
        self.lock = anyio.Lock()

    async def __call__(self, request: Request) -> None:
        """Returns once the request has its answer; raises what the work raised."""
        self.waiting.append(request)
        try:
            await anyio.sleep(self.window)
            async with self.lock:  # whoever comes first answers for all who wait; the others find themselves done
                while not request.done:
                    batch = self.waiting[: self.most]
                    del self.waiting[: len(batch)]
                    await anyio.to_thread.run_sync(self._run, batch)
        finally:
            if request in self.waiting:  # cancelled
                self.waiting.remove(request)
        if request.error is not None:
            raise request.error

    def _run(self, batch: Sequence[Request]) -> None:
        try:
            self.work(batch)
        except Exception as error:  # noqa: BLE001  (it belongs to everyone who waits, not to this thread)
            for request in batch:
                request.error = error
        finally:
            for request in batch:
                request.done = True


def _turn(message: ChatMessage) -> dict[str, str]:
    """A message as chat templates take it."""
    kinds = set() if isinstance(message.content, str) else {part.type for part in message.content}
    if message.role == "tool" or kinds - {"text", "reasoning"}:
        what = "tool" if message.role == "tool" else ", ".join(sorted(kinds - {"text", "reasoning"}))
        raise ConfigError(f"bures models read text only, not {what} messages; choose another task")
    return {"role": message.role, "content": message.text}
