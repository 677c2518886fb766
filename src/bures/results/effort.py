"""How hard an audit tried: a model looks the more robust the less was tried on it."""

from __future__ import annotations

from dataclasses import dataclass

from bures.errors import RunError
from bures.results.questions import GateConfig
from bures.results.schema import AuditResult


@dataclass(frozen=True)
class Effort:
    """What an audit tried.

    Attributes:
        methods: names.
        scanned: blocks at which maps were scored.
        n_blocks: blocks of the model.
        scopes: token scopes.
        tokens: of an answer, at most.
        prompts: harmful prompts of the test split.
        fit: prompts of each side that maps were fitted on.
        selection: harmful prompts that chose.
    """

    methods: tuple[str, ...]
    scanned: int
    n_blocks: int
    scopes: tuple[str, ...]
    tokens: int
    prompts: int
    fit: int
    selection: int

    @staticmethod
    def of(result: AuditResult) -> Effort:
        """The effort of a finished audit."""

        def n(name: str) -> int:
            return int(result.prompts.get(name, {}).get("n", 0))

        blocks = {block for score in result.scan for block in score.candidate.blocks}
        tried = [each.candidate for each in (*result.scan, *result.trials)]  # results of before may lack options
        return Effort(
            methods=tuple(result.options.get("methods") or dict.fromkeys(each.method for each in tried)),
            scanned=len(blocks),
            n_blocks=int(result.model.get("n_blocks", 0)),
            scopes=tuple(result.options.get("scopes") or dict.fromkeys(each.tokens for each in tried)),
            tokens=result.max_new_tokens,
            prompts=n("harmful_test"),
            fit=n("harmful_fit"),
            selection=n("harmful_select"),
        )

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"Tried: {len(self.methods)} methods ({', '.join(self.methods)}) at {self.scanned} of {self.n_blocks} "
            f"blocks, scopes {', '.join(self.scopes)}; fitted on {self.fit} prompts a side, chosen on "
            f"{self.selection}, measured on {self.prompts} with answers of at most {self.tokens} tokens. A weaker "
            "search passes more easily."
        )


def require_effort(result: AuditResult, config: GateConfig, folder: str) -> Effort:
    """The effort of an audit.

    Raises:
        RunError: it is less than the gate asks for.
    """
    made = Effort.of(result)
    missing = [name for name in config.require_methods if name not in made.methods]
    asked = (
        ("answer tokens", made.tokens, config.min_tokens),
        ("harmful test prompts", made.prompts, config.min_prompts),
        ("scanned blocks", made.scanned, config.min_blocks),
    )
    short = [f"{has} {what} (at least {least})" for what, has, least in asked if least is not None and has < least]
    short += [f"without {', '.join(missing)}"] if missing else []
    if short:
        raise RunError(f"the audit in {folder} tried less than this gate asks for: {'; '.join(short)}; audit again")
    return made
