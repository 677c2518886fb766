"""Pinned files that no package index carries: each lies in a public repository, at a fixed commit.

Further addresses hold the same bytes and are tried when the first does not answer: the checksum is what is trusted.
"""

from __future__ import annotations

from bures.data.asset import Asset

_GITHUB = "https://raw.githubusercontent.com"
_HUB = "https://huggingface.co/datasets"


def _plain_file(
    *,
    name: str,
    package: str,
    version: str,
    sha256: str,
    n_bytes: int,
    addresses: tuple[str, ...],
    licence: str,
    description: str,
    url: str,
) -> Asset:
    """A file as it lies in a repository at the commit `version`, which the first address holds as `{version}`."""
    first, *mirrors = addresses
    file = first.rpartition("/")[2]
    return Asset(
        name=name,
        package=package,
        version=version,
        archive="file",
        archive_sha256=sha256,
        archive_bytes=n_bytes,
        member=file,
        member_sha256=sha256,
        n_bytes=n_bytes,
        licence=licence,
        description=description,
        url=url,
        addresses=(first.format(version=version), *mirrors),
    )


_XSTEST = "d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d"


def _xstest(name: str, path: str, sha256: str, n_bytes: int, description: str) -> Asset:
    """A file of XSTest's authors."""
    return _plain_file(
        name=name,
        package="paul-rottger/exaggerated-safety",
        version=_XSTEST,
        sha256=sha256,
        n_bytes=n_bytes,
        addresses=(f"{_GITHUB}/paul-rottger/exaggerated-safety/{{version}}/{path}",),
        licence="CC-BY-4.0",
        description=description,
        url="https://github.com/paul-rottger/exaggerated-safety",
    )


def _xstest_answers(model: str, sha256: str, n_bytes: int) -> Asset:
    file = f"model_completions/xstest_v2_completions_{model}.csv"
    return _xstest(f"xstest-{model}", file, sha256, n_bytes, f"XSTest, the answers of {model} with human labels")


LINKED: tuple[Asset, ...] = (
    _xstest(
        "xstest",
        "xstest_prompts.csv",
        "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        38_719,
        "XSTest, 250 safe prompts that sound unsafe and 200 unsafe contrasts",
    ),
    _xstest_answers("llama2orig", "cbc52550e8ba8197a3e3d97a5af078d27bae4766737cd62df80270126a87ffc6", 470_900),
    _xstest_answers("mistralguard", "0ac03817b65e019a8f5b4b3eed805086f9f7fafe538ac9ebd156f80210af6903", 303_726),
    _xstest_answers("mistralinstruct", "6a146b65a5b96ec8249729bc2db459697175125998d7cbbcc88f7688ecf31dad", 371_935),
    _plain_file(
        name="jailbreakbench-benign",
        package="JailbreakBench/JBB-Behaviors",
        version="886acc352a31533ffbcf4ef22c744658688086fc",
        sha256="3cda234d21a991fa309bbfea4b6d9dae31ccdf8e9d452424b6a983e4fdc33468",
        n_bytes=20_570,
        addresses=(f"{_HUB}/JailbreakBench/JBB-Behaviors/resolve/{{version}}/data/benign-behaviors.csv",),
        licence="MIT",
        description="JailbreakBench, the benign behaviours of JBB-Behaviors, paired with the harmful ones",
        url="https://github.com/JailbreakBench/jailbreakbench",
    ),
    _plain_file(
        name="strongreject",
        package="alexandrasouly/strongreject",
        version="f7cad6c17e624e21d8df2278e918ae1dddb4cb56",
        sha256="4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",
        n_bytes=56_359,
        addresses=(
            f"{_GITHUB}/alexandrasouly/strongreject/{{version}}/strongreject_dataset/strongreject_dataset.csv",
            f"{_GITHUB}/andyrdt/refusal_direction/9d852fae1a9121c78b29142de733cb1340770cc3/dataset/raw/strongreject.csv",
        ),
        licence="MIT",
        description="StrongREJECT, the forbidden prompts, in six categories",
        url="https://github.com/alexandrasouly/strongreject",
    ),
    Asset(
        name="wikitext",
        package="ggml-org/ci",
        version="927b3642933080f1b0e811e2f916e14c292992f9",
        archive="zip",
        archive_sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        archive_bytes=4_721_645,
        member="wikitext-2-raw/wiki.test.raw",
        member_sha256="173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
        n_bytes=1_290_590,
        licence="CC-BY-SA-3.0",
        description="WikiText-2, the raw test split",
        url="https://huggingface.co/datasets/Salesforce/wikitext",
        addresses=(
            f"{_HUB}/ggml-org/ci/resolve/927b3642933080f1b0e811e2f916e14c292992f9/wikitext-2-raw-v1.zip",
            "https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
        ),
    ),
    _plain_file(
        name="pile",
        package="NeelNanda/pile-10k",
        version="127bfedcd5047750df5ccf3a12979a47bfa0bafa",
        sha256="a1a9475a8684ac8f1b17a36eccb2ec49c127edd7aae9beb2f240726972d93f31",
        n_bytes=33_262_901,
        addresses=(
            f"{_HUB}/NeelNanda/pile-10k/resolve/{{version}}/data/train-00000-of-00001-4746b8785c874cc7.parquet",
        ),
        licence="bigscience-bloom-rail-1.0",
        description="the first 10,000 documents of the Pile; the corpus is the beginnings of the first 500",
        url="https://huggingface.co/datasets/NeelNanda/pile-10k",
    ),
)
"""They are listed with all others in `ASSETS`."""
