"""The prompt sets of a job: shuffled by the seed, cut to size, disjoint by hash."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bures.data.prompts import PARTS, PromptSet, load_prompts, require_disjoint
from bures.errors import ConfigError, PromptError
from bures.jobs.option_types import too_large
from bures.jobs.scan_config import ScanConfig

Side = Literal["harmful", "harmless"]

LOCALISING = frozenset({"scan", "audit"})
"""Jobs that say where refusal is decided."""

CHOOSING = frozenset({"audit", "search"})
"""Jobs that choose among trials."""

CONTROL_SHARE = 4
"""Of a source too small for both, one prompt in so many is kept for the control."""


@dataclass(frozen=True)
class Sides:
    """The two prompt sets of a split."""

    harmful: PromptSet
    harmless: PromptSet

    def __len__(self) -> int:
        """Prompts of both sides together."""
        return len(self.harmful) + len(self.harmless)

    def items(self) -> Iterator[tuple[Side, PromptSet]]:
        """Each side with its name."""
        yield "harmful", self.harmful
        yield "harmless", self.harmless


@dataclass(frozen=True)
class Splits:
    """The prompts of a job, pairwise disjoint.

    Attributes:
        fit: what maps are fitted on.
        select: what is chosen on.
        test: what is reported on; audits alone.
        control: what the strongest map is fitted on anew, and on shuffled labels: prompts of the sources to fit on that
            had no part in choosing it. Only where a job says where refusal is decided.
        again: harmful prompts of the source to choose on that the selection split does not hold, on which the best
            trials are tried again. Only where a job chooses, and has some to spare.
        further: other sets of the job, by name: what thresholds are set on, further sources, sets to transfer to.
    """

    fit: Sides
    select: Sides
    test: Sides | None
    control: Sides | None = None
    again: PromptSet | None = None
    further: Mapping[str, PromptSet] = field(default_factory=dict[str, PromptSet])

    @property
    def tested(self) -> Sides:
        """The test split of an audit.

        Raises:
            LookupError: the job has none.
        """
        if self.test is None:
            raise LookupError("this job reports on no test split")
        return self.test

    @property
    def sets(self) -> dict[str, PromptSet]:
        """Every prompt set, under the name of its option."""
        given = {"fit": self.fit, "control": self.control, "select": self.select, "test": self.test}
        found = {
            f"{side}_{name}": prompts
            for name, sides in given.items()
            if sides is not None
            for side, prompts in sides.items()
        }
        return {**found, **({} if self.again is None else {"harmful_again": self.again}), **self.further}

    def describe(self) -> dict[str, dict[str, Any]]:
        """Source, n and sha256 of each set, under the names of their options."""
        return {name: prompts.describe() for name, prompts in self.sets.items()}


def load_splits(config: ScanConfig) -> Splits:
    """The prompt sets of a job: shuffled by the seed, cut to size, and disjoint.

    Raises:
        PromptError: a set cannot be read, two of them share a prompt, or there are too few to fit on.
        ConfigError: a rank is larger than the prompts to fit on allow.
    """
    sets = {name: _load(name, config, getattr(config, name)) for name in config.sizes}
    require_disjoint(**sets)
    drawn = {
        name: _sample(found, config.sizes[name], config, nested=name.endswith("_test")) for name, found in sets.items()
    }
    if config.job in LOCALISING:
        drawn |= _fit_and_control({name: sets[name] for name in ("harmful_fit", "harmless_fit")}, config)

    def sides(split: str) -> Sides | None:
        return Sides(drawn[f"harmful_{split}"], drawn[f"harmless_{split}"]) if f"harmful_{split}" in drawn else None

    fit, select = sides("fit"), sides("select")
    if fit is None or select is None:
        raise LookupError("every job fits and chooses")
    _require_enough(config, fit, shared="harmful_control" in drawn)
    again = None
    if config.job in CHOOSING and config.n_again:
        again = _others(sets["harmful_select"], select.harmful, config.n_again, config)
    return Splits(fit, select, sides("test"), sides("control"), again, _further(sets, drawn, config))


def _further(sets: Mapping[str, PromptSet], drawn: Mapping[str, PromptSet], config: ScanConfig) -> dict[str, PromptSet]:
    """The sets that thresholds are set on, and those that the job names besides.

    No prompt of them is in another set; further sources to fit on have none that any other source holds.
    """
    found: dict[str, PromptSet] = {}
    if config.calibrating:
        others = _others(sets["harmless_select"], drawn["harmless_select"], config.calibrating, config)
        found |= {} if others is None else {"harmless_calibrate": others}
    for name, (source, n) in config.further.items():
        taken = sets if "_fit_" in name else drawn
        rest = _load(name, config, source).disjoint_from(*taken.values(), *found.values())
        found[name] = _sample(rest, n, config)
    return found


def _require_enough(config: ScanConfig, fit: Sides, *, shared: bool) -> None:
    """Refuses sources with fewer prompts than a fit needs. `shared`: the control takes a quarter of small ones."""
    side, fewest = min(fit.items(), key=lambda item: len(item[1]))
    left = " after a quarter is kept for the check against shuffled labels" if shared else ""
    found = f"{side}_fit ({fewest.name}) has {len(fewest)} of the {config.n_fit} prompts asked for{left}"
    if len(fewest) < 2:
        raise PromptError(f"{found}; expected at least 2 to fit on: add prompts")
    problem = too_large(config.methods, config.ranks, len(fewest))
    if problem is not None:
        raise ConfigError(f"{found}, and {problem} with more prompts")


def _load(name: str, config: ScanConfig, source: str) -> PromptSet:
    """The whole source of a set; its name begins with its side."""
    if source.partition("#")[0].partition(":")[0] in PARTS:
        return load_prompts(source)  # its column is known
    of_side = config.harmful_column if name.startswith("harmful") else config.harmless_column
    return load_prompts(source, column=config.column if of_side is None else of_side)


def _fit_and_control(sources: dict[str, PromptSet], config: ScanConfig) -> dict[str, PromptSet]:
    """What maps are fitted on, and as many others of the sources; a quarter of a source that is too small for both.

    Without the control where a source has no prompt to spare.
    """
    found: dict[str, PromptSet] = {}
    for name, prompts in sources.items():
        fit = _sample(prompts, min(config.n_fit, len(prompts) - len(prompts) // CONTROL_SHARE), config)
        others = _others(prompts, fit, config.n_fit, config)
        found[name] = fit
        if others is not None:
            found[name.replace("_fit", "_control")] = others
    return found if len(found) == 2 * len(sources) else {name: found[name] for name in sources}


def _others(prompts: PromptSet, taken: PromptSet, n: int, config: ScanConfig) -> PromptSet | None:
    """So many prompts of a source that are not taken; None where none is left."""
    held = set(taken.hashes)
    others = [i for i, key in enumerate(prompts.hashes) if key not in held]
    return _sample(_subset(prompts, others), n, config) if others else None


def _sample(prompts: PromptSet, n: int | None, config: ScanConfig, *, nested: bool = False) -> PromptSet:
    """A random subset, in the file's order; the same for the same seed.

    Nested ones lie inside every larger one of that seed: audits of other sizes can be compared on the test prompts of
    both. (Python draws a few of many in another way than many of them.)
    """
    wanted = min(x for x in (n, config.limit, len(prompts)) if x is not None)
    drawn = random.Random(config.seed).sample(range(len(prompts)), len(prompts) if nested else wanted)
    return _subset(prompts, sorted(drawn[:wanted]))


def _subset(prompts: PromptSet, chosen: Sequence[int]) -> PromptSet:
    return replace(
        prompts, prompts=tuple(prompts[i] for i in chosen), categories=tuple(prompts.categories[i] for i in chosen)
    )
