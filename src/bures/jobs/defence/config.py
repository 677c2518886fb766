"""Options of `bures defend`. Each is a field; see `bures.jobs.options`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from bures.jobs.options import command_line
from bures.results.asked import Asked
from bures.results.names import ATTACK_NAMES, AttackName

_LONGEST_NAME = 80


class DefendConfig(Asked):
    """What `bures defend` runs. Unknown keys are refused."""

    job: ClassVar[str] = "defend"

    runs: tuple[str, ...] = Field(
        min_length=1,
        description="Finished audits as NAME=RUN, the defence that is tested first.",
        json_schema_extra={"positional": True, "repeatable": True},
    )
    before: str | None = Field(
        default=None,
        min_length=1,
        description="Audit of the model before it was hardened: its maps are transferred, and costs are over it.",
    )
    search: tuple[str, ...] = Field(
        default=(),
        description="Finished searches of these models as NAME=RUN: what each recommends and the rest of its front.",
    )
    attacks: tuple[AttackName, ...] = Field(default=ATTACK_NAMES, min_length=1, description="Kinds of attacks.")
    harmless_test: tuple[str, ...] = Field(
        default=(),
        description="Further harmless prompts that are answered without an attack: names and files, such as "
        "xstest,rho-edgy.",
    )
    n_harmless_test: int | None = Field(
        default=None, ge=1, description="Prompts of each of them.", json_schema_extra={"unset": "all"}
    )
    n_perplexity: int = Field(
        default=16,
        ge=1,
        description="Harmless selection prompts on which the perplexity of an attack that is no row of the audit is "
        "measured.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> DefendConfig:
        names = [name for name, _ in self.named]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"runs: two models are called {twice[0]!r}; give each a name of its own, as NAME=RUN")
        for name, run in zip(names, self.runs, strict=True):
            if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
                raise ValueError(f"runs: {run!r} is no NAME=RUN; expected for example ours=runs/ours")
        strange = [each for each in self.search if each.partition("=")[0] not in names or not each.partition("=")[2]]
        if strange:
            raise ValueError(f"search: {strange[0]!r} is no NAME=RUN with the name of a model ({', '.join(names)})")
        return self

    @property
    def searches(self) -> dict[str, Path]:
        """Run folder of the search of a model, by the model's name."""
        return {name: Path(run) for name, _, run in (each.partition("=") for each in self.search)}

    @property
    def named(self) -> tuple[tuple[str, Path], ...]:
        """Name and run folder of every model; a folder alone is its own name."""
        found: list[tuple[str, Path]] = []
        for each in self.runs:
            name, equals, run = each.partition("=")
            found.append((name, Path(run)) if equals and run else (Path(each).name, Path(each)))
        return tuple(found)

    @property
    def options(self) -> dict[str, Any]:
        """The options as plain JSON types: what identifies a run, and what its results carry."""
        return self.model_dump(mode="json")

    @property
    def command(self) -> str:
        """A command line that does the same: every option that is not its default."""
        return command_line(self, self.job)

    @classmethod
    def make(cls, **options: Any) -> DefendConfig:
        """A configuration, or a `ConfigError` with one line."""
        return cls(**options)
