"""Data by name: files at an address, one name for all splits of a side, and the pinned corpora. No network."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bures import cli
from bures.cli import app
from bures.data import archives, assets, corpora, pinned_sets, prompt_files, prompts
from bures.data.asset import Asset
from bures.data.assets import ASSETS, asset_path, cache_dir, fetch
from bures.data.pinned_sets import PARTS, SPLIT
from bures.data.prompts import load_corpus, load_prompts, require_disjoint
from bures.errors import AssetError, BuresError, ConfigError, PromptError
from bures.jobs.config import AuditConfig, SearchConfig
from bures.jobs.scan_config import ScanConfig
from bures.jobs.splits import load_splits

POEM = b"the kettle sings\nthe cat sleeps\n"
COMMIT = "c0ffee" * 6 + "c0ff"
THINGS = tuple(f"Draw the {size} {thing}" for size in ("small", "large") for thing in "abcdefghijklmnopqrstuvwxyz")


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def refused(act: Callable[[], object], kind: type[BuresError]) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files at an address ---------------------------------------------------------------------------------------------


class Web:
    """A server on this machine: what lies at its paths (bytes, or a redirect's target), and what was asked of it."""

    def __init__(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.monkeypatch = f"http://127.0.0.1:{port}", monkeypatch
        self.pages: dict[str, bytes | str] = {}
        self.asked: list[str] = []
        self.sent = 0

    def pin(self, content: bytes, *paths: str, kind: str = "file", member: str = "", name: str = "poem") -> Asset:
        """Register the asset that lies at the paths; `content` is what the table expects there."""
        assert kind in {"file", "zip"}
        inner = zipfile.ZipFile(io.BytesIO(content)).read(member) if kind == "zip" else content
        asset = Asset(
            name=name,
            package="someone/poems",
            version=COMMIT,
            archive="zip" if kind == "zip" else "file",
            archive_sha256=hashlib.sha256(content).hexdigest(),
            archive_bytes=len(content),
            member=member or paths[0].rpartition("/")[2],
            member_sha256=hashlib.sha256(inner).hexdigest(),
            n_bytes=len(inner),
            licence="CC0-1.0",
            description="a test",
            url="https://example.org",
            addresses=tuple(path if "://" in path else self.root + path for path in paths),
        )
        self.monkeypatch.setattr(assets, "ASSETS", {**assets.ASSETS, name: asset})
        return asset


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for key in [key for key in os.environ if key.startswith("PIP_") or key.lower().endswith("_proxy")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("BURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "ASSETS", {})
    monkeypatch.setattr(archives, "SCHEMES", frozenset({"http"}))
    monkeypatch.setattr(archives, "pip_settings", dict)  # what pip is configured with is tested in test_assets

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            page = found.pages.get(self.path)
            self.send_response(404 if page is None else 302 if isinstance(page, str) else 200)
            if isinstance(page, str):
                self.send_header("Location", page)
            body = page if isinstance(page, bytes) else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the reader had enough
                for start in range(0, len(body), 1 << 16):
                    self.wfile.write(body[start : start + (1 << 16)])
                    found.sent += len(body[start : start + (1 << 16)])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Web(server.server_address[1], monkeypatch)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def nothing_stored() -> bool:
    return not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_a_file_at_an_address_is_fetched_once(web: Web) -> None:
    web.pages["/a/poem.txt"] = POEM
    web.pin(POEM, "/a/poem.txt")
    steps: list[str] = []
    path = fetch("poem", progress=steps.append)
    assert path == asset_path("poem") == cache_dir() / "assets" / "poem" / "poem.txt"
    assert path.read_bytes() == POEM
    assert f"someone/poems@{COMMIT}" in steps[0]
    assert fetch("poem") == path
    assert web.asked == ["/a/poem.txt"]


def test_a_member_of_a_zip_at_an_address(web: Web) -> None:
    content = zipped({"poems/poem.txt": POEM, "poems/other.txt": b"x"})
    web.pages["/poems.zip"] = content
    web.pin(content, "/poems.zip", kind="zip", member="poems/poem.txt")
    assert fetch("poem").read_bytes() == POEM
    assert fetch("poem").name == "poem.txt"


def test_the_next_address_is_tried_when_one_is_gone_or_serves_something_else(web: Web) -> None:
    web.pages |= {"/changed/poem.txt": POEM.upper(), "/moved/poem.txt": f"{web.root}/here", "/here": POEM}
    web.pin(POEM, "/gone/poem.txt", "/changed/poem.txt", "/moved/poem.txt")
    assert fetch("poem").read_bytes() == POEM
    assert web.asked == ["/gone/poem.txt", "/changed/poem.txt", "/moved/poem.txt", "/here"]


def test_what_is_served_must_be_what_is_pinned(web: Web) -> None:
    web.pages |= {"/a": POEM.upper(), "/b": POEM + b"and more", "/c": POEM[:-1]}
    asset = web.pin(POEM, "/a", "/b", "/c", "/d")
    text = refused(lambda: fetch("poem"), AssetError)
    assert text.count("another checksum") == 2  # /a and /c
    assert f"more than the pinned {len(POEM)} bytes" in text
    assert "HTTP 404" in text
    assert asset.addresses[0] in text
    assert asset.archive_sha256 in text
    assert str(asset_path("poem")) in text
    assert nothing_stored()
    asset_path("poem").parent.mkdir(parents=True, exist_ok=True)
    asset_path("poem").write_bytes(POEM)  # by hand, as the message says
    assert fetch("poem").read_bytes() == POEM


def test_no_more_than_the_pinned_size_is_waited_for(web: Web) -> None:
    web.pages["/endless"] = bytes(64 << 20)
    web.pin(POEM, "/endless")
    assert "more than the pinned" in refused(lambda: fetch("poem"), AssetError)
    assert web.sent < 32 << 20  # what the sockets between hold, and no more
    assert nothing_stored()


def test_only_https_is_followed(web: Web) -> None:
    web.pages |= {"/poem.txt": POEM, "/redirect": "ftp://127.0.0.1/poem.txt"}
    web.pin(POEM, "/redirect")
    assert "it leads to ftp, expected https" in refused(lambda: fetch("poem"), AssetError)
    web.monkeypatch.setattr(archives, "SCHEMES", frozenset({"https"}))
    web.asked.clear()
    web.pin(POEM, "/poem.txt", "file:///poem.txt")
    text = refused(lambda: fetch("poem"), AssetError)
    assert "it leads to http, expected https" in text
    assert "it leads to file, expected https" in text
    assert web.asked == []
    assert nothing_stored()


def test_the_table_is_read_by_https_alone() -> None:
    assert frozenset({"https"}) == archives.SCHEMES


def test_a_silent_server_is_given_up(web: Web) -> None:
    web.monkeypatch.setattr(archives, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        web.pin(POEM, f"http://127.0.0.1:{silent.getsockname()[1]}/poem.txt")
        assert "timed out" in refused(lambda: fetch("poem"), AssetError)


def test_a_python_without_pip_can_fetch_them(web: Web) -> None:
    def no_pip() -> dict[str, str]:
        raise AssetError("this Python has no pip")

    web.monkeypatch.setattr(archives, "pip_settings", no_pip)
    web.pages["/poem.txt"] = POEM
    web.pin(POEM, "/poem.txt")
    assert fetch("poem").read_bytes() == POEM


def test_fetching_all_goes_on_after_one_that_cannot_be_had(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    web.pages["/poem.txt"] = POEM
    web.pin(POEM.upper(), "/gone.txt", name="lost")
    web.pin(POEM, "/poem.txt")
    with pytest.raises(SystemExit) as end:
        cli.main(["assets", "--fetch"])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert "bures: not fetched: lost;" in printed.err
    assert "cannot fetch lost" in printed.err
    assert re.search(r"poem +│ cached +│ someone/poems@c0ffeec0ffee ", printed.out)
    assert re.search(r"lost +│ missing", printed.out)


# --- the named sets --------------------------------------------------------------------------------------------------


def as_csv(columns: list[str], rows: list[list[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([columns, *rows])
    return buffer.getvalue()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Innocuous stand-ins of the same form as the published files."""

    def stand_in(name: str) -> Path:
        path = tmp_path / ASSETS[name].filename
        texts = [f"{text}, {name}" for text in THINGS]
        if name.startswith("jailbreakbench"):
            rows = [[str(i), text, "Sure", "Drawing", "Art"] for i, text in enumerate(texts)]
            path.write_text(as_csv(["", "Goal", "Target", "Behavior", "Category"], rows))
        elif name == "strongreject":
            path.write_text(as_csv(["category", "source", "forbidden_prompt"], [["Art", "made up", t] for t in texts]))
        elif name.startswith("rho-edgy"):
            path.write_text(json.dumps([{"text": t, "category": "Art", "id": t} for t in texts]))
        elif name.startswith("rho-pairs"):
            answered = [{"text": f"{t}, benign?\n\nYES", "harmful_version": f"{t}?\n\nNO\nMORE"} for t in texts]
            path.write_text(json.dumps(answered))
        elif name == "weighted-safety":
            targets = (("refusal", ""), ("comply", ", benign"))
            rows = [
                {"input": f"{t}{end}", "target": target, "metadata": {"category": "Art"}}
                for t in texts
                for target, end in targets
            ]
            path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        elif name == "advbench":
            path.write_text("seeds:\n" + "".join(f"- value: {t}\n  harm_categories: [a]\n" for t in texts))
        elif name == "alpaca":
            path = tmp_path / "alpaca.txt"
            path.write_text("\n".join(texts))
        elif name == "pile":
            documents = ["a long one. " * 400, *(f"document {i}" for i in range(corpora.PILE_DOCUMENTS + 5))]
            pd.DataFrame({"meta": "x", "text": documents}).to_parquet(path)
        else:
            path.write_text("\n".join(texts))
        return path

    monkeypatch.setattr(pinned_sets, "fetch", stand_in)
    monkeypatch.setattr(corpora, "fetch", stand_in)


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("name", ["jailbreakbench", "jailbreakbench-benign", "strongreject"])
def test_the_new_sets_have_categories_and_three_disjoint_parts(name: str) -> None:
    whole = load_prompts(name)
    assert list(whole) == [f"{text}, {name}" for text in THINGS]
    assert set(whole.categories) == {"Art"}
    assert whole.revision == ASSETS[name].requirement
    parts = {part: load_prompts(f"{name}:{part}") for part in PARTS[name]}
    assert list(parts) == ["fit", "select", "test"]
    require_disjoint(**parts)
    assert sum(map(len, parts.values())) == len(whole)


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(
    "name", ["rho-edgy", "rho-pairs", "rho-pairs-benign", "weighted-safety", "weighted-safety-benign"]
)
def test_sets_of_two_sides_give_each_its_prompts_and_no_answer(name: str) -> None:
    whole = load_prompts(name)
    sides = {"rho-pairs": 2, "rho-edgy": 2, "weighted-safety": 1}  # files of each
    base = name.removesuffix("-benign")
    assert len(whole) == sides[base] * len(THINGS)
    assert {", benign" in text for text in whole.texts} == {name != base}
    assert not any(answer in text for text in whole.texts for answer in ("\n", "YES", "NO", "MORE"))
    assert set(whole.categories) == {None if base == "rho-pairs" else "Art"}
    parts = {part: load_prompts(f"{name}:{part}") for part in PARTS[name]}
    require_disjoint(**parts)
    assert sum(map(len, parts.values())) == len(whole)


def test_the_shares_cover_every_bucket_once() -> None:
    assert sorted(bucket for share in SPLIT.values() for bucket in share) == list(range(10))


@pytest.mark.assets
def test_the_published_set_has_its_documented_size() -> None:
    sizes = {part: len(load_prompts(f"jailbreakbench:{part}")) for part in SPLIT}
    assert sizes == {"fit": 48, "select": 24, "test": 28}
    assert len(set(load_prompts("jailbreakbench").categories)) == 10


@pytest.mark.assets
def test_the_published_sets_of_two_sides_are_questions_alone() -> None:
    edgy = load_prompts("rho-edgy")
    assert (len(edgy), len(set(edgy.categories))) == (150, 8)
    for name in ("rho-pairs", "rho-pairs-benign"):
        assert {text[-1] for text in load_prompts(name).texts} == {"?"}
    assert len(set(load_prompts("weighted-safety-benign").categories)) == 6


# --- shares of a file or a hub dataset -------------------------------------------------------------------------------


def test_shares_of_a_file_are_disjoint_and_do_not_depend_on_its_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(THINGS))
    shares = {share: load_prompts(f"{path}#{share}") for share in SPLIT}
    require_disjoint(**shares)
    assert sum(map(len, shares.values())) == len(THINGS)
    assert shares["test"].name == "mine#test"
    assert shares["test"].revision == load_prompts(path).revision
    assert load_prompts(f"{path}#test", limit=2).prompts == shares["test"].prompts[:2]
    path.write_text("\n".join([*reversed(THINGS), "Draw something new"]))
    again = load_prompts(f"{path}#test")
    assert set(again.hashes) >= set(shares["test"].hashes)
    assert len(again) - len(shares["test"]) in (0, 1)


def test_a_source_too_small_to_share_says_how_many_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(THINGS[:19]))
    text = refused(lambda: load_prompts(f"{path}#fit"), PromptError)
    assert "has 19 prompts: at least 20 are needed" in text
    path.write_text("\n".join(THINGS[:20]))
    assert len(load_prompts(f"{path}#fit")) > 1


def test_an_empty_share_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(THINGS))
    path.write_text("\n".join(load_prompts(f"{path}#fit").texts))
    assert "no prompt in the hash buckets 5, 6 of 10" in refused(lambda: load_prompts(f"{path}#select"), PromptError)


def test_a_file_whose_name_ends_like_a_share_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.txt").write_text("\n".join(THINGS))
    (tmp_path / "odd.txt#fit").mkdir()
    assert "is a folder" in refused(lambda: load_prompts("./odd.txt#fit"), PromptError)
    assert len(load_prompts("odd.txt#test")) < len(THINGS)


def test_a_split_of_a_hub_dataset_and_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def read_hub(source: str, column: str | None, split: str | None, revision: str | None) -> tuple[str, str, Any]:
        asked.append((source, split))
        return split or "train", "c0ffee", prompt_files.Rows(THINGS, (None,) * len(THINGS))

    monkeypatch.setattr(prompts, "read_hub", read_hub)
    found = load_prompts("owner/name:validation#test")
    assert (found.name, found.source) == ("owner/name:validation#test", "owner/name")
    assert load_prompts("owner/name#fit").name == "owner/name:train#fit"
    assert load_prompts("owner/name", split="test").name == "owner/name:test"
    assert asked == [("owner/name", "validation"), ("owner/name", None), ("owner/name", "test")]


# --- one name for a side ---------------------------------------------------------------------------------------------


def chosen(config: ScanConfig) -> dict[str, str]:
    return {name: getattr(config, name) for name in config.sizes}


def test_the_documented_table_is_what_the_names_mean() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (?:.*`my.csv`|`--(harmful|harmless) ([\w-]+)`.*?) \| `(\S+)` \| `(\S+)` \| `(\S+)` \|$", page, re.M
    )
    assert len(rows) == 6
    for side, name, *splits in rows:
        config = AuditConfig.make(model="m", **{side or "harmful": name or "my.csv"})
        assert [getattr(config, f"{side or 'harmful'}_{split}") for split in SPLIT] == splits


def test_the_defaults_have_names() -> None:
    assert AuditConfig.make(model="m", harmful="harmbench", harmless="alpaca") == AuditConfig.make(model="m")


def test_an_option_of_one_split_is_above_the_shorthand() -> None:
    config = AuditConfig.make(model="m", harmful="jailbreakbench", harmful_test="strongreject:test")
    assert config.harmful_fit == "jailbreakbench:fit"
    assert config.harmful_test == "strongreject:test"
    assert config.harmless_test == "alpaca:test"


def test_a_job_without_a_test_split_takes_the_other_two() -> None:
    for schema in (ScanConfig, SearchConfig):
        assert chosen(schema.make(model="m", harmful="owner/name")) == {
            "harmful_fit": "owner/name#fit",
            "harmful_select": "owner/name#select",
            "harmless_fit": "alpaca:fit",
            "harmless_select": "alpaca:select",
        }


@pytest.mark.parametrize("source", ["harmbench:test", "my.csv#fit", "advbench#test", "", 3])
def test_the_shorthand_wants_a_whole_source(source: object) -> None:
    text = refused(lambda: ScanConfig.make(model="m", harmful=source), ConfigError)
    assert text.startswith("harmful: ")


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    given: list[ScanConfig] = []
    monkeypatch.setattr(f"bures.cli.{words[0]}.carry_out", lambda _, settings, *__, **___: given.append(settings))
    app(list(words), standalone_mode=False)
    return given[0]


def test_the_command_line_is_above_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('model = "m"\nharmful = "strongreject"\nharmful-test = "a.csv"\nharmless-fit = "b.csv"\n')
    config = typed(monkeypatch, "audit", "--config", str(recipe))
    assert chosen(config) == {
        "harmful_fit": "strongreject:fit",
        "harmful_select": "strongreject:select",
        "harmful_test": "a.csv",
        "harmless_fit": "b.csv",
        "harmless_select": "alpaca:select",
        "harmless_test": "alpaca:test",
    }
    assert "--harmful-fit strongreject:fit" in config.command
    config = typed(monkeypatch, "audit", "--config", str(recipe), "--harmful", "advbench", "--harmless", "c.csv")
    assert (config.harmful_fit, config.harmful_test, config.harmless_fit) == (
        "advbench#fit",
        "advbench#test",
        "c.csv#fit",
    )
    config = typed(monkeypatch, "audit", "--config", str(recipe), "--harmful-test", "d.csv")
    assert (config.harmful_fit, config.harmful_test) == ("strongreject:fit", "d.csv")


@pytest.mark.parametrize("command", ["audit", "scan", "search"])
def test_every_job_has_the_shorthand(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = typed(monkeypatch, command, "m", "--harmful", "jailbreakbench", "--harmless", "jailbreakbench-benign")
    assert (config.harmful_select, config.harmless_fit) == ("jailbreakbench:select", "jailbreakbench-benign:fit")


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("name", ["harmbench", "advbench", "jailbreakbench", "strongreject"])
def test_the_splits_of_every_name_can_be_loaded_and_are_disjoint(name: str) -> None:
    splits = load_splits(AuditConfig.make(model="m", harmful=name, harmless="jailbreakbench-benign"))
    every = {
        f"{side}_{i}": found
        for i, split in enumerate((splits.fit, splits.select, splits.tested))
        for side, found in split.items()
    }
    require_disjoint(**every)
    assert all(len(found) > 1 for found in every.values())


@pytest.mark.usefixtures("pinned")
def test_a_prompt_of_two_sets_is_refused_in_two_splits(tmp_path: Path) -> None:
    known = load_prompts("jailbreakbench:test").texts[0]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join([known.upper(), "Sing a song"]))
    config = ScanConfig.make(model="m", harmful_fit=str(path), harmful_select="jailbreakbench:test")
    text = refused(lambda: load_splits(config), PromptError)
    assert "'harmful_fit' and 'harmful_select' share 1 of" in text
    assert known not in text


def test_shares_of_two_sets_never_share_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(THINGS))
    (tmp_path / "b.txt").write_text("\n".join(text.upper() for text in reversed(THINGS)))
    assert "such as #fit and #test" in refused(
        lambda: require_disjoint(a=load_prompts(tmp_path / "a.txt"), b=load_prompts(tmp_path / "b.txt")), PromptError
    )
    require_disjoint(a=load_prompts(f"{tmp_path}/a.txt#fit"), b=load_prompts(f"{tmp_path}/b.txt#test"))


@pytest.mark.usefixtures("pinned")
def test_a_column_is_of_the_files_and_not_of_the_pinned_sets(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(as_csv(["id", "wish"], [[str(i), text] for i, text in enumerate(THINGS)]))
    splits = load_splits(ScanConfig.make(model="m", harmful=str(path), column="wish"))
    assert set(splits.fit.harmful) <= set(THINGS)
    assert splits.fit.harmless.name == "alpaca:fit"


# --- corpora ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pinned")
def test_corpora_by_name() -> None:
    found = load_corpus("wikitext")
    assert (found.name, found.source) == ("wikitext", ASSETS["wikitext"].url)
    assert found.text.startswith(f"{THINGS[0]}, wikitext\n")
    pile = load_corpus("pile")
    documents = pile.text.split("\n\n")
    assert len(documents) == corpora.PILE_DOCUMENTS
    assert documents[0] == ("a long one. " * 400)[: corpora.PILE_CHARS]
    assert documents[1:3] == ["document 0", "document 1"]
    assert pile.sha256 == hashlib.sha256(pile.text.encode()).hexdigest()


def test_an_unknown_corpus_lists_the_known_ones() -> None:
    text = refused(lambda: load_corpus("wikitex"), PromptError)
    assert "unknown corpus 'wikitex': expected wikipedia, wikitext, pile, c4, or a UTF-8 text file" in text
    assert "no such file" in refused(lambda: load_corpus("wikitex.txt"), PromptError)
