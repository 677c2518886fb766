"""Pinned downloads, exercised through the real pip and a local package index: no network, except the `assets` test."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bures.data import archives, assets
from bures.data.asset_table import Asset
from bures.data.assets import ASSETS, asset_path, asset_status, cache_dir, fetch
from bures.errors import AssetError

POEM = b"the kettle sings\nthe cat sleeps\n"
RECIPE = b'["how to bake bread"]'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(members: dict[str, bytes]) -> bytes:
    info = {
        "tiny_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"
        b"Requires-Python: >=99\n",  # data does not care which Python the code around it wants
        "tiny_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_data-1.0.dist-info/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {**members, **info}.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sdist(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"tiny_data-1.0/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pinned(kind: str, archive: bytes, member: str, content: bytes, name: str = "poem") -> Asset:
    assert kind in {"wheel", "sdist"}
    return Asset(
        name=name,
        package="tiny-data",
        version="1.0",
        archive="wheel" if kind == "wheel" else "sdist",
        archive_sha256=sha256(archive),
        archive_bytes=len(archive),
        member=member,
        member_sha256=sha256(content),
        n_bytes=len(content),
        licence="CC0-1.0",
        description="a test",
        url="https://example.org",
    )


class Shelf:
    """A `find-links` folder and a registry, both empty until `publish` fills them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def publish(self, archive: bytes, *entries: Asset) -> None:
        (self.folder / entries[0].archive_name).write_bytes(archive)
        self.register(*entries)

    def register(self, *entries: Asset) -> None:
        self.monkeypatch.setattr(assets, "ASSETS", {entry.name: entry for entry in entries})


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    for key in [key for key in os.environ if key.startswith("PIP_") or key.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    return Shelf(folder, monkeypatch)


def poem_in(kind: str) -> tuple[bytes, Asset]:
    if kind == "wheel":
        archive = wheel({"tiny_data/poem.txt": POEM})
        return archive, pinned(kind, archive, "tiny_data/poem.txt", POEM)
    archive = sdist({"data/poem.txt": POEM, "PKG-INFO": b""})
    return archive, pinned(kind, archive, "tiny_data-1.0/data/poem.txt", POEM)


def message(name: str = "poem") -> str:
    with pytest.raises(AssetError) as caught:
        fetch(name)
    text = str(caught.value)
    assert "\n" not in text
    return text


def leftovers() -> list[Path]:
    return list(cache_dir().rglob(".*"))


KINDS = pytest.mark.parametrize("kind", ["wheel", "sdist"])


@KINDS
def test_fetch_extracts_the_member_and_the_second_fetch_is_silent(kind: str, shelf: Shelf) -> None:
    archive, asset = poem_in(kind)
    shelf.publish(archive, asset)
    steps: list[str] = []
    path = fetch("poem", progress=steps.append)
    assert path.read_bytes() == POEM
    assert path == asset_path("poem") == cache_dir() / "assets" / "poem" / "poem.txt"
    assert any("tiny-data==1.0" in step for step in steps)
    assert leftovers() == []

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a cache hit must not start anything")

    shelf.monkeypatch.setattr(subprocess, "run", forbidden)
    shelf.monkeypatch.setattr(archives, "download_archive", forbidden)
    assert fetch("poem", progress=steps.append) == path
    assert len(steps) == 2


def test_everything_in_one_archive_is_stored_by_one_download(shelf: Shelf) -> None:
    archive = wheel({"a/poem.txt": POEM, "b/recipe.json": RECIPE})
    poem = pinned("wheel", archive, "a/poem.txt", POEM)
    recipe = pinned("wheel", archive, "b/recipe.json", RECIPE, name="recipe")
    shelf.publish(archive, poem, recipe)
    assert [status.state for status in asset_status()] == ["missing", "missing"]
    fetch("poem")
    assert [status.state for status in asset_status()] == ["cached", "cached"]
    (shelf.folder / poem.archive_name).unlink()
    assert fetch("recipe").read_bytes() == RECIPE


def test_a_damaged_cache_file_is_fetched_again(shelf: Shelf) -> None:
    archive, asset = poem_in("sdist")
    shelf.publish(archive, asset)
    path = fetch("poem")
    path.write_bytes(b"x" * len(POEM))
    assert asset_status()[0].state == "damaged"
    assert fetch("poem").read_bytes() == POEM
    assert asset_status()[0].state == "cached"


@KINDS
def test_an_archive_with_another_checksum_is_refused(kind: str, shelf: Shelf) -> None:
    archive, asset = poem_in(kind)
    shelf.publish(archive, asset)
    other = sdist({"data/poem.txt": POEM, "more": b"1"}) if kind == "sdist" else wheel({"tiny_data/poem.txt": b"!"})
    (shelf.folder / asset.archive_name).write_bytes(other)
    text = message()
    assert "another checksum" in text
    assert asset.archive_sha256 in text
    assert not asset_path("poem").exists()


@KINDS
def test_a_member_with_another_checksum_is_refused(kind: str, shelf: Shelf) -> None:
    archive, asset = poem_in(kind)
    shelf.publish(archive, pinned(kind, archive, asset.member, RECIPE))
    assert f"{asset.member} in {asset.archive_name} has another checksum" in message()
    assert not asset_path("poem").exists()
    assert leftovers() == []


@KINDS
def test_a_missing_member_is_named(kind: str, shelf: Shelf) -> None:
    archive, _ = poem_in(kind)
    shelf.publish(archive, pinned(kind, archive, "data/novel.txt", POEM))
    assert "has no file data/novel.txt" in message()


@KINDS
def test_an_archive_that_is_no_archive(kind: str, shelf: Shelf) -> None:
    _, asset = poem_in(kind)
    shelf.publish(b"not an archive", pinned(kind, b"not an archive", asset.member, POEM))
    text = message()
    assert "cannot fetch poem" in text
    assert str(asset_path("poem")) in text


def test_a_truncated_sdist_is_one_line(shelf: Shelf) -> None:
    archive = poem_in("sdist")[0][:-40]
    shelf.publish(archive, pinned("sdist", archive, "tiny_data-1.0/data/novel.txt", POEM))
    assert "not a readable sdist" in message()


@KINDS
def test_without_network_the_error_says_how_to_bring_the_file(kind: str, shelf: Shelf) -> None:
    _, asset = poem_in(kind)
    shelf.register(asset)
    with socket.socket() as closed:  # bound and never listening: every connection is refused
        closed.bind(("127.0.0.1", 0))
        shelf.monkeypatch.delenv("PIP_NO_INDEX")
        shelf.monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        shelf.monkeypatch.setattr(archives, "ATTEMPTS", 1)
        text = message()
    for part in (asset.archive_name, asset.archive_sha256, asset.member, asset.member_sha256, str(asset_path("poem"))):
        assert part in text
    asset_path("poem").write_bytes(POEM)  # by hand, as the message says
    assert fetch("poem").read_bytes() == POEM


@KINDS
def test_a_python_without_pip_is_told_what_to_run(kind: str, shelf: Shelf, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    bare = next(path for path in (tmp_path / "bare").rglob("python*") if path.stem == "python")
    shelf.register(poem_in(kind)[1])
    shelf.monkeypatch.setattr(sys, "executable", str(bare))
    assert "python -m ensurepip" in message()


def test_a_cache_that_cannot_be_written(shelf: Shelf, tmp_path: Path) -> None:
    archive, asset = poem_in("wheel")
    shelf.publish(archive, asset)
    (tmp_path / "file").write_text("")
    shelf.monkeypatch.setenv("BURES_CACHE", str(tmp_path / "file"))
    assert asset_status()[0].state == "missing"
    text = message()
    assert "cannot store poem" in text
    assert "BURES_CACHE" in text


def test_a_full_disk_is_named(shelf: Shelf) -> None:
    archive, asset = poem_in("wheel")
    shelf.publish(archive, asset)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    shelf.monkeypatch.setattr(assets, "_extract", full)
    assert "is full" in message()
    assert leftovers() == []


def test_the_code_of_a_source_distribution_never_runs(shelf: Shelf, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    setup = (
        f"open({str(witness)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='tiny-data', version='1.0')\n"
    )
    (tmp_path / "setup.py").write_text(setup)
    subprocess.run([sys.executable, "setup.py", "--version"], cwd=tmp_path, check=False, capture_output=True)
    assert witness.exists()  # the trap works
    witness.unlink()
    archive = sdist({"setup.py": setup.encode(), "data/poem.txt": POEM})
    shelf.publish(archive, pinned("sdist", archive, "tiny_data-1.0/data/poem.txt", POEM))
    assert fetch("poem").read_bytes() == POEM
    assert not witness.exists()


def test_fetching_at_the_same_time_is_safe(shelf: Shelf) -> None:
    archive, asset = poem_in("sdist")
    shelf.publish(archive, asset)
    with ThreadPoolExecutor(3) as pool:
        paths = list(pool.map(fetch, ["poem"] * 3))
    assert {path.read_bytes() for path in paths} == {POEM}
    assert leftovers() == []


SECRET = "Basic " + base64.b64encode(b"me:p@ss").decode()


class Index:
    """A "simple" package index that serves one sdist; what was asked of it, with which `Authorization`."""

    def __init__(self, port: int, archive: bytes) -> None:
        self.host, self.archive = f"127.0.0.1:{port}", archive
        self.files = "../../files"
        """Where its page says that the archive lies."""
        self.password = ""
        """The `Authorization` that its pages want."""
        self.speaks_json = False
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://{self.host}/simple"

    def answer(self, path: str, given: str | None) -> tuple[int, str, bytes]:
        self.seen.append((path, given))
        link, name = f"{self.files}/tiny_data-1.0.tar.gz", "tiny_data-1.0.tar.gz"
        if path.endswith("/files/tiny_data-1.0.tar.gz"):
            return 200, "application/gzip", self.archive
        if not path.endswith("/simple/tiny-data/"):
            return 404, "text/plain", b""
        if self.password and given != self.password:
            return 401, "text/html", b""
        if self.speaks_json:
            page = json.dumps({"files": [{"filename": name, "url": link, "hashes": {}}]})
            return 200, "application/vnd.pypi.simple.v1+json", page.encode()
        return 200, "text/html", f'<!DOCTYPE html><a href="{link}#sha256=00">{name}</a>'.encode()


@contextlib.contextmanager
def serving(archive: bytes, context: ssl.SSLContext | None = None) -> Iterator[Index]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, kind, body = found.answer(self.path, self.headers.get("Authorization"))
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found = Index(server.server_address[1], archive)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def index(shelf: Shelf) -> Iterator[Index]:
    archive, asset = poem_in("sdist")
    shelf.register(asset)
    shelf.monkeypatch.delenv("PIP_NO_INDEX")
    shelf.monkeypatch.setattr(archives, "ATTEMPTS", 1)
    shelf.monkeypatch.setenv("NETRC", os.devnull)
    with serving(archive) as found:
        yield found


def test_the_index_is_the_one_that_pip_is_configured_with(index: Index, shelf: Shelf, tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"  # a file, so that pip's own configuration is what is read
    config.write_text(f"[global]\nindex-url = http://me:p%40ss@{index.host}/simple/\n")
    shelf.monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    index.password = SECRET
    assert fetch("poem").read_bytes() == POEM
    assert index.seen == [("/simple/tiny-data/", SECRET), ("/files/tiny_data-1.0.tar.gz", SECRET)]


def test_the_password_of_a_page_does_not_go_to_another_host(index: Index, shelf: Shelf) -> None:
    shelf.monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@{index.host}/simple/")
    index.password = SECRET
    with serving(index.archive) as other:
        index.files = f"http://{other.host}/files"
        assert fetch("poem").read_bytes() == POEM
        assert other.seen == [("/files/tiny_data-1.0.tar.gz", None)]
    assert index.seen == [("/simple/tiny-data/", SECRET)]


def test_the_password_may_stand_in_netrc(index: Index, shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p@ss\n")
    shelf.monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    shelf.monkeypatch.setenv("PIP_INDEX_URL", index.url)
    index.password = SECRET
    assert fetch("poem").read_bytes() == POEM


def test_a_refused_password_shows_neither_user_nor_password(
    index: Index, shelf: Shelf, capfd: pytest.CaptureFixture[str]
) -> None:
    index.password = SECRET
    shelf.monkeypatch.setenv("PIP_INDEX_URL", f"http://someone:secret@{index.host}/simple")
    text = message()
    assert "127.0.0.1: HTTP 401" in text
    assert "secret" not in text
    assert "someone" not in text
    assert capfd.readouterr().err == ""  # nor does the library say it on its own


def test_an_index_that_answers_in_json_and_comes_second(index: Index, shelf: Shelf) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        shelf.monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/simple")
        shelf.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://{index.host}/nothing/here {index.url}")
        index.speaks_json = True
        assert fetch("poem").read_bytes() == POEM
    assert [path for path, _ in index.seen] == [
        "/nothing/here/tiny-data/",
        "/simple/tiny-data/",
        "/files/tiny_data-1.0.tar.gz",
    ]


def test_an_index_that_serves_something_else_does_not_hide_the_next(index: Index, shelf: Shelf) -> None:
    with serving(b"something else") as first:
        shelf.monkeypatch.setenv("PIP_INDEX_URL", first.url)
        assert "127.0.0.1: it serves a file with another checksum" in message()
        shelf.monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.url)
        assert fetch("poem").read_bytes() == POEM


def test_an_index_without_tls_has_to_be_trusted_and_pips_proxy_is_used(index: Index, shelf: Shelf) -> None:
    shelf.monkeypatch.setenv("PIP_INDEX_URL", "http://packages.invalid/simple")
    shelf.monkeypatch.setenv("PIP_PROXY", index.host)  # pip lets the scheme away
    assert "packages.invalid: it is neither https nor among pip's trusted hosts" in message()
    assert index.seen == []
    shelf.monkeypatch.setenv("PIP_TRUSTED_HOST", "packages.invalid")
    assert fetch("poem").read_bytes() == POEM
    assert [path for path, _ in index.seen] == [
        "http://packages.invalid/simple/tiny-data/",
        "http://packages.invalid/files/tiny_data-1.0.tar.gz",
    ]


def test_a_proxy_that_cannot_be_used_is_one_line(index: Index, shelf: Shelf) -> None:
    shelf.monkeypatch.setenv("PIP_INDEX_URL", index.url)
    shelf.monkeypatch.setenv("PIP_PROXY", "gopher://me:secret@proxy.invalid")
    text = message()
    assert "the proxy that is configured cannot be used" in text
    assert "secret" not in text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody signed, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "cert.pem", folder / "key.pem"
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1")
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made[0]), "-keyout", str(made[1]))
    subprocess.run([openssl, *request, *names], check=True, capture_output=True)
    return made


@pytest.mark.parametrize(
    ("option", "value"),
    [("PIP_CERT", "CERTIFICATE"), ("PIP_TRUSTED_HOST", "127.0.0.1"), ("REQUESTS_CA_BUNDLE", "CERTIFICATE")],
)
def test_a_certificate_of_ones_own(
    index: Index, shelf: Shelf, certificate: tuple[Path, Path], option: str, value: str
) -> None:
    shelf.monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with serving(index.archive, context) as secure:
        shelf.monkeypatch.setenv("PIP_INDEX_URL", f"https://{secure.host}/simple")
        assert "127.0.0.1: [SSL: CERTIFICATE_VERIFY_FAILED]" in message()
        shelf.monkeypatch.setenv(option, str(certificate[0]) if value == "CERTIFICATE" else value)
        assert fetch("poem").read_bytes() == POEM


def test_certificates_that_cannot_be_read_are_named(index: Index, shelf: Shelf, tmp_path: Path) -> None:
    shelf.monkeypatch.setenv("PIP_INDEX_URL", index.url)
    shelf.monkeypatch.setenv("PIP_CERT", str(tmp_path / "none.pem"))
    assert f"the certificates {tmp_path / 'none.pem'} that pip is configured with cannot be read" in message()


def test_a_connection_that_breaks_is_tried_again(index: Index, shelf: Shelf) -> None:
    shelf.monkeypatch.setenv("PIP_INDEX_URL", index.url)
    shelf.monkeypatch.setattr(archives, "ATTEMPTS", 2)
    answer, broken = index.answer, [True]

    def once_broken(path: str, given: str | None) -> tuple[int, str, bytes]:
        if broken and broken.pop():
            raise BrokenPipeError
        return answer(path, given)

    index.answer = once_broken  # pyright: ignore[reportAttributeAccessIssue]
    assert fetch("poem").read_bytes() == POEM


def test_an_index_in_a_folder(shelf: Shelf, tmp_path: Path) -> None:
    archive, asset = poem_in("sdist")
    page = tmp_path / "simple" / "tiny-data"
    page.mkdir(parents=True)
    (page / "index.html").write_text('<a href="other-1.0.tar.gz">o</a><a href="../tiny_data-1.0.tar.gz">t</a>')
    (tmp_path / "simple" / asset.archive_name).write_bytes(archive)
    shelf.register(asset)
    shelf.monkeypatch.delenv("PIP_NO_INDEX")
    shelf.monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert fetch("poem").read_bytes() == POEM


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BURES_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "bures"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_dir() == Path.home() / ".cache" / "bures"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "bures"
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_an_unknown_name_lists_the_known_ones() -> None:
    text = message("harmbnech")
    assert "harmbnech" in text
    assert "harmbench" in text


def test_the_registry_is_pinned_and_frozen() -> None:
    assert list(ASSETS) == [asset.name for asset in ASSETS.values()]
    for asset in ASSETS.values():
        assert re.fullmatch(r"[0-9a-f]{64}", asset.archive_sha256)
        assert re.fullmatch(r"[0-9a-f]{64}", asset.member_sha256)
        assert asset.url.startswith("https://") or asset.url.endswith(f"{asset.package} {asset.version}")
        assert asset.licence
        assert asset.archive != "sdist" or asset.member.startswith(f"{asset.archive_name.removesuffix('.tar.gz')}/")
        assert (asset.archive in {"zip", "file"}) == bool(asset.addresses)
        assert all(address.startswith("https://") for address in asset.addresses)
        assert not asset.addresses or (asset.version in asset.addresses[0] and len(asset.version) == 40)
    assert len({asset.member_sha256 for asset in ASSETS.values()}) == len(ASSETS)
    with pytest.raises(TypeError):
        ASSETS["mine"] = ASSETS["alpaca"]  # pyright: ignore[reportIndexIssue]


def test_the_documentation_lists_every_checksum() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for asset in ASSETS.values():
        for fact in (asset.name, asset.requirement, asset.archive_sha256, asset.member, asset.member_sha256, asset.url):
            assert fact in page


@pytest.mark.assets
@pytest.mark.parametrize("name", ["harmbench", "alpaca"])
def test_the_pinned_archives_are_still_there(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BURES_CACHE", str(tmp_path))  # an empty cache: the download itself is the test
    assert sha256(fetch(name).read_bytes()) == ASSETS[name].member_sha256
    shared = {asset.name for asset in ASSETS.values() if asset.archive_sha256 == ASSETS[name].archive_sha256}
    assert {status.asset.name for status in asset_status() if status.state == "cached"} == shared
