"""The versioned schema of what the jobs measure: `results.json`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bures.errors import plain
from bures.results.brief import audit_brief, scan_brief, search_brief
from bures.results.formatting import share
from bures.results.names import Which
from bures.results.records import Failure, Localisation, MethodNote, ScanScore, Trial, View
from bures.results.shares import least
from bures.results.stats import Measurement

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 4
"""`bures.results.migrations` reads older ones."""

Marks = Annotated[str, Field(pattern="^[01-]*$")]
"""One character a prompt, in the prompts' order: 1 where the judge saw a refusal, - where the answer is unfinished."""


class Tested(BaseModel):
    """A test set, in the order of the rows' marks: hashes for pairing, categories where the file has them."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    hashes: list[str]
    categories: list[str | None]


class Row(BaseModel):
    """One row of the table: an intervention on the test split."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: str
    label: str
    method: str
    blocks: list[int]
    sites: str
    tokens: str | None
    rank: int | None
    asr: dict[str, Measurement] = Field(default_factory=dict)
    """Per judge, of the finished answers; nothing where none is."""
    over_refusal: dict[str, Measurement] = Field(default_factory=dict)
    """Per judge, likewise."""
    asr_bounds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Per judge, the ASR if no unfinished answer counts, and if every one does; only where there are some."""
    over_refusal_bounds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Per judge, likewise."""
    unfinished: dict[Which, int] = Field(default_factory=dict)
    """Answers that were cut inside their thinking, or before they said anything: neither success nor refusal."""
    cut: dict[Which, int] = Field(default_factory=dict)
    """Answers that had not ended when their tokens ran out, the unfinished ones among them."""
    perplexity: Measurement | None = None
    """Of the original model's own greedy answers to the harmless test prompts."""
    perplexity_ratio: float | None = None
    perplexity_ratio_interval: tuple[float, float] | None = None
    """By a bootstrap over the answers, each against itself without intervention."""
    kl: Measurement | None = None
    corpus_perplexity: Measurement | None = None
    mean_gap_share: float | None = None
    """Share of the squared mean gap (harmful - harmless) inside the map's subspace; the first block's."""
    within_budget: bool | None = None
    """Whether the choice was within the perplexity budget on the selection split."""
    selection: Trial | None = None
    refused: dict[str, Marks] = Field(default_factory=dict)
    """Per judge, on the harmful test prompts."""
    refused_harmless: dict[str, Marks] = Field(default_factory=dict)
    """Per judge, on the harmless test prompts."""
    nll_each: list[float] = Field(default_factory=list)
    """Mean token NLL of every harmless test answer, in nats."""
    kl_each: list[float] = Field(default_factory=list)
    """Mean token KL along every harmless test answer, in nats."""
    view: View | None = None
    """What the map does in two dimensions, where it is one map after one block."""
    capability: dict[str, Measurement] = Field(default_factory=dict)
    """lm-eval's accuracies per task, `TASK` and `TASK:acc_norm`; the interval is 1.96 standard errors to each side."""
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    """Figures of metrics that installed packages add, per metric."""
    seconds: float = 0.0
    error: str | None = None

    def __repr__(self) -> str:
        """One line: a notebook shows whatever stands last in a cell."""
        where = "" if self.sites == "-" else f" at {self.sites}"
        asr = "".join(f", ASR {share(m)} by {judge}" for judge, m in [*self.asr.items()][:1])
        return plain(f"Row({self.key}: {self.label}{where}{asr})").replace("\n", "\\n")

    def __str__(self) -> str:
        return repr(self)

    @property
    def where(self) -> str:
        """Where its maps are; ^ where the map leads held-out activations away from where they should go."""
        return self.sites + ("^" if self.view is not None and self.view.leads_away else "")

    @property
    def ratio(self) -> Measurement | None:
        """The perplexity ratio with its interval, where that was computed."""
        if self.perplexity_ratio is None or self.perplexity is None:
            return None
        return Measurement(self.perplexity_ratio, self.perplexity.n, self.perplexity_ratio_interval)


class RowComparison(BaseModel):
    """Two rows of one audit on the same harmful test prompts: McNemar's test."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    a: str
    b: str
    judge: str
    only_a: int
    only_b: int
    p: float
    difference: Measurement | None = None
    """ASR of b less that of a, with Tango's interval; None in results of bures 0.1, whose p is of the exact test."""
    p_adjusted: float | None = None
    """For all comparisons named in advance (`bures.results.row_comparisons`); None where this one was not."""


class RunResult(BaseModel):
    """What every job writes; no text of any prompt or completion."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "complete"] = "running"
    finished: str | None = None
    """When the run became complete: UTC, ISO 8601."""
    command: str
    """A command line that measures the same."""
    options: dict[str, Any]
    """The validated configuration of the job, but for secrets and what no figure depends on."""
    versions: dict[str, str]
    model: dict[str, Any]
    machine: dict[str, Any] = Field(default_factory=dict)
    """What computed it: processor, cores, threads, and where the number of threads is from."""
    seconds: dict[str, float] | None = None
    """Of each stage by its name, in all sessions of the run together; None where results do not say."""
    methods: dict[str, MethodNote] = Field(default_factory=dict)
    """What was tried, by name."""
    prompts: dict[str, dict[str, Any]]
    judge: str
    seed: int
    tokenised: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What the model was given, per prompt set: sha256 of the token ids, the longest, how many exceed the window."""
    refusal_tokens: list[int] = Field(default_factory=list)
    refusal_begin: list[int] = Field(default_factory=list)
    """The tokens with which refusals and answers alike begin; refusal is scored behind them."""
    scan: list[ScanScore] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)
    """Candidates that the scan could not score, such as maps under which the model's numbers overflow."""
    localisation: Localisation | None = None
    notes: list[str] = Field(default_factory=list)

    def finish(self) -> None:
        """Marks the run complete, now."""
        self.status = "complete"
        self.finished = datetime.now(UTC).isoformat(timespec="seconds")

    def __repr__(self) -> str:
        """One line: a notebook shows whatever stands last in a cell."""
        return plain(f"{type(self).__name__}({self.model.get('name', '?')}, {self.status}{self._about()})").replace(
            "\n", "\\n"
        )

    def __str__(self) -> str:
        return repr(self)

    def _about(self) -> str:
        """What else the line says."""
        return ""

    def to_json(self) -> str:
        """The results as JSON text."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)


class ScanResult(RunResult):
    """Everything `bures scan` measured."""

    job: Literal["scan"] = "scan"

    def _about(self) -> str:
        return "" if self.localisation is None else f", {self.localisation.extent}"

    def _repr_html_(self) -> str:
        """The table, in a notebook; all text is escaped."""
        return scan_brief(self).html


class SearchTrial(BaseModel):
    """One intervention that a search tried, and how far it came."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    number: int
    candidate: str
    options: dict[str, Any]
    rung: str | None
    """The dearest rung that it was measured on: `first token`, `short` or `long` answers."""
    refusal_log_odds: float | None
    first_token_kl: float | None
    asr: Measurement | None
    perplexity_ratio: float | None
    kl: Measurement | None
    error: str | None = None
    unfinished: int = 0
    """Answers that were cut before they said anything, and are not in the ASR."""
    refused: Marks = ""
    """On the harmful selection prompts."""
    again: Marks = ""
    """On the further ones, where it was tried again before one was recommended."""

    @property
    def least(self) -> float:
        """Share of all prompts that were certainly answered."""
        return least(self.asr, self.unfinished)


class SearchResult(RunResult):
    """Everything `bures search` measured, on the selection split."""

    job: Literal["search"] = "search"
    trials: list[SearchTrial] = Field(default_factory=list)
    front: list[int] = Field(default_factory=list)
    """Numbers of the trials on the Pareto front of ASR and KL, by rising ASR."""
    recommended: int | None = None
    recommended_asr: Measurement | None = None
    """Of what one half of the selection prompts recommends, on the other half, both ways round."""

    def _about(self) -> str:
        return f", {len(self.trials)} trials, {len(self.front)} on the front"

    def _repr_html_(self) -> str:
        """The front, in a notebook; all text is escaped."""
        return search_brief(self).html


class AuditResult(RunResult):
    """Everything `bures audit` measured."""

    job: Literal["audit"] = "audit"
    corpus: dict[str, Any] | None
    max_new_tokens: int
    tested: dict[Which, Tested] = Field(default_factory=dict)
    answer_tokens: list[int] = Field(default_factory=list)
    """Tokens of every harmless test answer along which cost is measured."""
    trial_tokens: int | None = None
    """Upper bound on the tokens of a trial's answer; None in results of before it could differ from `select_tokens`."""
    trials: list[Trial] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    row_comparisons: list[RowComparison] = Field(default_factory=list)

    @property
    def protocol(self) -> Literal["bures", "paper"]:
        """Whose defaults its options had; results of before there were several have bures'."""
        return "paper" if self.options.get("protocol") == "paper" else "bures"

    def without_rows(self) -> AuditResult:
        """What was found before any row was measured; notes that still hold are made again on the way."""
        of_rows = ("rows", "row_comparisons", "tested", "answer_tokens", "notes")
        empty = {name: type(self).model_fields[name].get_default(call_default_factory=True) for name in of_rows}
        return self.model_copy(update={**empty, "status": "running", "finished": None})

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a DataFrame, one column per figure and one per bound of its interval."""
        import pandas as pd

        from bures.results.frames import flat

        return pd.DataFrame([flat(row, self.judge) for row in self.rows])

    def _about(self) -> str:
        return f", {len(self.rows)} rows, judge {self.judge}"

    def _repr_html_(self) -> str:
        """The table, in a notebook; all text is escaped."""
        return audit_brief(self).html
