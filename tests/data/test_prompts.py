"""Prompt sets: provenance, hashes, splits, and every way in which a file can be wrong. All texts here are innocuous."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import sys
import types
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bures.data import corpora, pinned_sets, prompt_files
from bures.data.assets import ASSETS
from bures.data.prompts import PARTS, PromptSet, load_corpus, load_prompts, prompt_hash, require_disjoint
from bures.errors import ConfigError, PromptError

SECRET = "Describe the purple teapot, please"  # stands for a text that no message may repeat
WEB = [{"text": "A page."}, {"text": "Another one,\nwith Gr\u00fc\u00dfen."}]
TEXTS = ("Bake a loaf, slowly", 'Say "hello" twice', "Zeichne eine Bäckerei")
KINDS = ("kitchen", "manners", "kitchen")


def of(*texts: str, name: str = "mine") -> PromptSet:
    return PromptSet(name, "a test", None, texts)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(PromptError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "teapot" not in message
    chain: BaseException | None = caught.value
    while chain is not None:  # a traceback that is printed must not show it either
        assert "teapot" not in repr(vars(chain)) + str(chain)
        chain = chain.__cause__ or chain.__context__
    return message


# --- the set ---------------------------------------------------------------------------------------------------------


def test_a_set_keeps_order_and_categories_and_drops_duplicates() -> None:
    found = PromptSet("mine", "a test", "r1", ("One  two", "three", "one TWO ", "four"), ("a", None, "b", "c"))
    assert found.prompts == ("One  two", "three", "four")
    assert found.categories == ("a", None, "c")
    assert found.n_duplicates == 1
    assert list(found) == ["One  two", "three", "four"]
    assert (len(found), found[0], found[-1]) == (3, "One  two", "four")
    assert found[1:].prompts == ("three", "four")
    assert found[1:].categories == (None, "c")
    assert found.take(2).prompts == found.take(2)[:9].prompts == ("One  two", "three")
    assert found.take(99) == found
    description = {"name": "mine", "source": "a test", "revision": "r1", "n": 3, "n_duplicates": 1, "n_incomplete": 0}
    assert found.describe() == {**description, "sha256": found.sha256}
    json.dumps(found.describe())


def test_the_checksum_is_of_the_content_alone() -> None:
    base = PromptSet("a", "b", None, ("x", "y"), (None, "k"))
    assert base.sha256 == PromptSet("other", "place", "r", ("x", "y"), (None, "k")).sha256
    assert base.sha256 == hashlib.sha256(b'[["x","y"],[null,"k"]]').hexdigest()
    others = [("y", "x"), ("X", "y"), ("x", "y ")]
    assert len({base.sha256, *(PromptSet("a", "b", None, p, (None, "k")).sha256 for p in others)}) == 4


@pytest.mark.parametrize(
    ("texts", "expected"),
    [((), "empty"), (("fine", " \t\n"), "prompt 2"), ((SECRET + "\ud800",), "surrogate")],
)
def test_a_bad_set_is_refused(texts: tuple[str, ...], expected: str) -> None:
    assert expected in refused(lambda: of(*texts))


def test_more_ways_to_ask_for_nothing() -> None:
    some = of(SECRET, "b")
    assert "0 prompts" in refused(lambda: some.take(0))
    assert "-1 prompts" in refused(lambda: some.sample(-1))
    assert "empty" in refused(lambda: some[5:])
    assert "categories" in refused(lambda: PromptSet("m", "s", None, (SECRET, "b"), ("one",)))
    assert "nothing left" in refused(lambda: some.disjoint_from(of("B"), of(SECRET.upper())))


def test_nul_bytes_and_long_prompts_are_text() -> None:
    found = of("a\0b", "x" * 1_000_000)
    assert [len(text) for text in found.texts] == [3, 1_000_000]


def test_samples_are_nested_ordered_and_blind_to_the_order_of_the_file() -> None:
    texts = [f"prompt number {i}" for i in range(50)]
    found, backwards = of(*texts), of(*reversed(texts))
    small, large = found.sample(7), found.sample(20)
    assert (len(small), len(large)) == (7, 20)
    assert set(small) < set(large)
    assert list(small) == [text for text in texts if text in set(small)]
    assert set(backwards.sample(7)) == set(small) != set(found.take(7))


# --- hashes and splits -----------------------------------------------------------------------------------------------

words = st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6), min_size=1, max_size=5)
gaps = st.text(" \t\n\r\u00a0\u2003", min_size=1, max_size=3)


@given(words, gaps, st.sampled_from(["NFC", "NFD"]))
def test_the_hash_is_blind_to_whitespace_case_and_composition(
    parts: list[str], gap: str, form: Literal["NFC", "NFD"]
) -> None:
    text = " ".join(parts)
    disguised = unicodedata.normalize(form, gap + gap.join(parts).casefold() + gap)
    assert prompt_hash(disguised) == prompt_hash(text)
    assert prompt_hash(text + " more") != prompt_hash(text)


def test_the_hash_of_plain_text_is_the_plain_sha256() -> None:
    assert prompt_hash("  Bake\n a LOAF ") == hashlib.sha256(b"bake a loaf").hexdigest()
    assert prompt_hash("bakea loaf") != prompt_hash("bake a loaf")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1), st.lists(st.sampled_from("efghijkl"), min_size=1))
def test_disjoint_means_an_empty_intersection(one: list[str], two: list[str]) -> None:
    first, second = of(*one), of(*(text.upper() for text in two))
    shared = set(one) & set(two)
    if not shared:
        require_disjoint(fit=first, test=second)
        assert first.disjoint_from(second) == first
        return
    text = refused(lambda: require_disjoint(fit=first, test=second))
    assert f"'fit' and 'test' share {len(shared)} " in text
    assert any(prompt_hash(letter)[:12] in text for letter in shared)
    if set(one) - shared:
        rest = first.disjoint_from(second)
        require_disjoint(fit=rest, test=second)
        assert set(rest) == set(one) - shared


def test_an_overlap_names_the_splits_and_hashes_and_never_the_text() -> None:
    sets = {"fit": of("a", "b"), "select": of("c", SECRET), "test": of("d", f" {SECRET.upper()}")}
    text = refused(lambda: require_disjoint(**sets))
    assert "'select' and 'test' share 1 of their 2 and 2 prompts" in text
    assert prompt_hash(SECRET)[:12] in text
    assert prompt_hash(SECRET) not in text


# --- files -----------------------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_file(path: Path) -> Path:
    frame = pd.DataFrame({"id": [1, 2, 3], "Category": KINDS, "Goal": TEXTS})
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".txt":
        write(path, "\n".join(TEXTS) + "\n\n")
    else:
        frame.to_json(path, orient="records", lines=path.suffix == ".jsonl", force_ascii=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"])
def test_every_format_round_trips(suffix: str, tmp_path: Path) -> None:
    path = as_file(tmp_path / f"three{suffix}")
    found = load_prompts(str(path))
    assert found.prompts == TEXTS
    assert found.categories == ((None,) * 3 if suffix == ".txt" else KINDS)
    assert (found.name, found.source) == ("three", str(path))
    assert found.revision == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_prompts(path) == found  # a Path is a path
    assert load_prompts(path, limit=2).prompts == TEXTS[:2]
    if suffix != ".txt":
        assert load_prompts(path, column="Category").prompts == ("kitchen", "manners")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(suffix: str, tmp_path: Path) -> None:
    plain = as_file(tmp_path / f"plain{suffix}")
    content = plain.read_bytes().replace(b"\n", b"\r\n")
    assert load_prompts(write(tmp_path / f"marked{suffix}", b"\xef\xbb\xbf" + content)).prompts == TEXTS


def test_text_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    assert load_prompts(write(tmp_path / "a.txt", "one\x0ctwo\u2028three\nfour")).prompts == (
        "one\x0ctwo\u2028three",
        "four",
    )


def test_awkward_cells_survive(tmp_path: Path) -> None:
    huge = "word " * 60_000
    path = write(tmp_path / "a.csv", f'text,note\nNA,\nnull,\n"two\nlines",y\n"{huge}",z\n')
    found = load_prompts(path)
    assert found.prompts == ("NA", "null", "two\nlines", huge)
    assert found.categories == (None,) * 4


LIKE_VALUES = ("NA", "null", "None", "nan", "1e5", "007", "TRUE", "2024-01-02", "-inf", "1,5", " padded ", '5" nails')


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_cells_that_look_like_values_are_the_text_that_they_are(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            lines = csv.writer(file, delimiter="," if suffix == ".csv" else "\t")
            lines.writerows([("prompt", "category"), *((text, text.strip()) for text in LIKE_VALUES)])
    else:
        frame = pd.DataFrame({"prompt": LIKE_VALUES, "category": [text.strip() for text in LIKE_VALUES]})
        if suffix == ".parquet":
            frame.astype({"category": "category"}).to_parquet(path)
        else:
            frame.to_json(path, orient="records", lines=suffix == ".jsonl")
    found = load_prompts(path)
    assert found.prompts == LIKE_VALUES
    assert found.categories == tuple(text.strip() for text in LIKE_VALUES)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str, suffix: str, tmp_path: Path) -> None:
    text = as_file(tmp_path / f"plain{suffix}").read_text(encoding="utf-8")
    mark = "\ufeff" if encoding.endswith("be") else ""
    assert load_prompts(write(tmp_path / f"a{suffix}", (mark + text).encode(encoding))).prompts == TEXTS


def test_lines_that_all_end_with_a_carriage_return(tmp_path: Path) -> None:
    assert load_prompts(write(tmp_path / "a.txt", "one\rtwo\r")).prompts == ("one", "two")
    assert load_prompts(write(tmp_path / "a.csv", "prompt,x\rone,1\rtwo,2\r")).prompts == ("one", "two")
    assert load_prompts(write(tmp_path / "a.jsonl", '{"prompt": "one"}\r{"prompt": "two"}')).prompts == ("one", "two")


def test_a_column_is_named_without_regard_to_case_and_blanks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Id, Request\n1,Sing\n")
    assert load_prompts(path, column="request").prompts == ("Sing",)
    alike = write(tmp_path / "b.csv", "prompt,Prompt\nSing,Hop\n")
    assert load_prompts(alike, column="Prompt").prompts == ("Hop",)
    assert "letter case" in refused(lambda: load_prompts(alike))


def test_the_prompt_column_is_found_in_the_documented_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,Behavior,Prompt,SemanticCategory\nno,no,yes,sky\n")
    assert load_prompts(path).prompts == ("yes",)
    assert load_prompts(path).categories == ("sky",)
    assert load_prompts(path, column="Behavior").prompts == ("no",)
    unused = write(tmp_path / "b.csv", "prompt,note,note\nyes,no,no\n")
    assert load_prompts(unused).prompts == ("yes",)


def test_rows_that_lean_on_a_context_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"instruction": "Sum it", "input": "a text"}, {"instruction": "Sing", "input": ""}, {"instruction": "Hop"}]
    path = write(tmp_path / "a.json", json.dumps(rows))
    found = load_prompts(path)
    assert found.prompts == ("Sing", "Hop")
    assert found.n_incomplete == found.describe()["n_incomplete"] == 1
    assert load_prompts(path, column="instruction").prompts == ("Sum it", "Sing", "Hop")
    alone = write(tmp_path / "b.json", json.dumps(rows[:1]))
    assert "every row fills input" in refused(lambda: load_prompts(alone))


def test_list_and_missing_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"prompt": ["a", "b", "c"], "harm_categories": [["x", "y"], [], None]}).to_parquet(path)
    assert load_prompts(path).categories == ("x; y", None, None)
    floats = write(
        tmp_path / "b.jsonl", '{"prompt": "a", "category": NaN}\n"bare string"\n{"prompt": "c", "category": 3}'
    )
    assert load_prompts(floats).prompts == ("a", "bare string", "c")
    assert load_prompts(floats).categories == (None, None, "3")


BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {
    "headerless csv": ("a.csv", f"{SECRET.replace(',', '')}\nSing\n", "(a sentence)"),
    "no prompt column": ("a.csv", "id,title\n1,purple teapot\n", "columns are id, title"),
    "csv without rows": ("a.csv", "prompt\n", "no prompts"),
    "empty csv": ("a.csv", "", "empty"),
    "too many fields": ("a.csv", f"prompt\nfine\n{SECRET}\n", "line 3"),
    "too many fields everywhere": ("a.csv", f"prompt\n{SECRET}\n{SECRET}\n", "line 2"),
    "too few fields": ("a.csv", f'prompt,x\n"two\nlines",1\n{SECRET.replace(",", "")}\n', "line 4 has 1 cells"),
    "open quote": ("a.csv", f'prompt\nfine\n"{SECRET}\n', "begins on line 3 a quote is opened and never closed"),
    "quote open for a row": ("a.csv", f'prompt\nfine\n"{SECRET}\n"teapot"\n', "on line 3 text follows a closing quote"),
    "backslashed quote": ("a.tsv", 'prompt\tx\n"a \\"teapot\\" b"\t1\n', "line 2 text follows a closing quote"),
    "blank before a quote": ("a.csv", 'x,prompt\n1, "purple teapot"\n', "line 2 has a blank before a quote"),
    "semicolons": ("a.csv", "id;prompt\n1;purple teapot\n", "no comma in its header but ';'"),
    "tabs in a csv": ("a.csv", "id\tprompt\n1\tpurple teapot\n", "no comma in its header but '\\t'"),
    "two prompt columns": ("a.csv", "prompt,prompt\npurple teapot,b\n", "has 2 columns prompt"),
    "two category columns": ("a.csv", "prompt,category,category\npurple teapot,b,c\n", "has 2 columns category"),
    "two values of a key": (
        "a.jsonl",
        '{"prompt": "a"}\n{"prompt": "a", "prompt": "teapot"}\n',
        "line 2 has an object",
    ),
    "blank cell": ("a.csv", f'prompt,x\n{SECRET.replace(",", "")},1\n"",2\n', "line 3 is blank"),
    "not utf-8": ("a.csv", b"prompt\nfine\npurple teapot \xff\n", "0xff on line 3, column 15"),
    "utf-16 without a mark": ("a.txt", SECRET.encode("utf-16-le"), "NUL on line 1"),
    "utf-16 cut short": ("a.txt", SECRET.encode("utf-16")[:-1], "not UTF-16"),
    "NUL": ("a.csv", 'prompt\nfine\n"teapot \0"\n', "NUL on line 3"),
    "latin-1 text": ("a.txt", b"ok\nteapot caf\xe9\n", "0xe9 on line 2, column 11"),
    "cp1252 behind a mark": ("a.txt", b"\xef\xbb\xbfteapot \x93ok\x94\n", "0x93 on line 1, column 9"),
    "workbook": ("a.xlsx", SECRET, "save its sheet as CSV"),
    "workbook by another name": ("a.csv", b"PK\x03\x04" + b"\0" * 30, "a ZIP archive"),
    "compressed": ("a.jsonl.gz", SECRET, "unpack it first"),
    "parquet by another name": ("a.jsonl", b"PAR1" + b"\0" * 30, "a Parquet file"),
    "empty text": ("a.txt", "\n  \n", "no prompts"),
    "malformed line": ("a.jsonl", '{"prompt": "a"}\n\n{"prompt": "' + SECRET + '"\n', "line 3 is not valid JSON"),
    "deep nesting": ("a.jsonl", "[" * 200_000, "line 1 is not valid JSON: nested"),
    "number row": ("a.jsonl", '{"prompt": "teapot"}\n3\n', "line 2 is neither"),
    "number prompt": ("a.jsonl", '{"prompt": "teapot"}\n{"prompt": 3}\n', "line 2 is not text but a value of type int"),
    "list prompt": ("a.jsonl", '{"prompt": ["purple teapot"]}\n', "line 1 is not text"),
    "null prompt": ("a.jsonl", '{"prompt": "teapot"}\n{"prompt": null}\n', "line 2 is blank"),
    "surrogate": ("a.jsonl", '{"prompt": "teapot \\ud800"}\n', "surrogate"),
    "empty jsonl": ("a.jsonl", "", "no prompt column"),
    "json object": ("a.json", json.dumps({"prompt": SECRET}), "expected a list"),
    "broken json": ("a.json", f'["{SECRET}", ', "not valid JSON"),
    "broken parquet": ("a.parquet", SECRET, "not a valid Parquet"),
    "document": ("a.docx", SECRET, "a document"),
    "unknown suffix": ("a.prompts", SECRET, "cannot tell the format"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line_without_its_text(case: str, tmp_path: Path) -> None:
    name, content, expected = BAD_FILES[case]
    path = write(tmp_path / name, content)
    message = refused(lambda: load_prompts(str(path)))
    assert expected in message
    assert name in message or "'a'" in message


def test_wrong_columns_are_answered_with_the_ones_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,title,first name\n1,x,y\n")
    message = refused(lambda: load_prompts(path, column="prompt"))
    assert "no column 'prompt'" in message
    assert "id, title, first name" in message
    assert "by --column" in message
    text = write(tmp_path / "a.txt", SECRET)
    assert "no column" in refused(lambda: load_prompts(text, column="prompt"))


@pytest.mark.parametrize(
    "source", ["absent.csv", "absent.xlsx", "./absent", "~/absent-folder/absent.jsonl", "a/b/c.txt", "a/b/c"]
)
def test_an_absent_file_is_no_such_file(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no such file" in refused(lambda: load_prompts(source))


def test_a_folder_an_odd_name_and_an_unknown_name(tmp_path: Path) -> None:
    assert "is a folder" in refused(lambda: load_prompts(tmp_path))
    message = refused(lambda: load_prompts("harmbnech"))
    assert "unknown prompts 'harmbnech'" in message
    assert "harmbench, advbench, jailbreakbench, strongreject, do-not-answer" in message
    assert "unknown prompts" in refused(lambda: load_prompts("x" * 5000))
    assert "unknown prompts" in refused(lambda: load_prompts("a\0b"))
    assert "cannot read" in refused(lambda: load_prompts("./a\0b.csv"))


def test_options_that_do_not_belong_to_a_source(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", SECRET)
    assert "hub datasets" in refused(lambda: load_prompts(path, split="train"))
    assert "hub datasets" in refused(lambda: load_prompts("alpaca", revision="main"))
    assert "pinned set" in refused(lambda: load_prompts("alpaca", column="instruction"))
    assert "0 prompts" in refused(lambda: load_prompts(path, limit=0))


# --- the hub, with a stand-in for `datasets` -------------------------------------------------------------------------


class FakeSplit(list[dict[str, object]]):
    column_names = ("id", "question", "category")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    rows = FakeSplit([{"id": 1, "question": "Sing", "category": "art"}, {"id": 2, "question": "Hop", "category": None}])
    asked: dict[str, object] = {}

    def load_dataset(source: str, *, split: str | None, revision: str | None) -> object:
        asked.update(source=source, split=split, revision=revision)
        if source == "nobody/nothing":
            raise FileNotFoundError(f"Dataset '{source}' doesn't exist\non the hub")
        splits = {"train": rows} if source == "one/split" else {"train": rows, "test": rows}
        return splits if split is None else splits[split]

    class HTTPError(Exception):
        """As in the HTTP library of the hub: not an OSError."""

    class HfHubHTTPError(HTTPError, OSError):
        pass

    class HfApi:
        def dataset_info(self, source: str, *, revision: str | None, timeout: float) -> types.SimpleNamespace:
            if source == "off/line":
                raise HTTPError("no route to host")
            return types.SimpleNamespace(sha="c0ffee")

    fake_hub = types.ModuleType("huggingface_hub")
    constants = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    fake_errors = types.ModuleType("huggingface_hub.errors")
    vars(fake_errors).update(HfHubHTTPError=HfHubHTTPError)
    vars(fake_hub).update(HfApi=HfApi, constants=constants)
    fake_datasets = types.ModuleType("datasets")
    vars(fake_datasets).update(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", fake_errors)
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets)
    return asked


def test_a_hub_dataset_is_pinned_to_the_commit_it_resolved_to(hub: dict[str, object]) -> None:
    found = load_prompts("one/split")
    assert (found.prompts, found.categories) == (("Sing", "Hop"), ("art", None))
    assert (found.name, found.source, found.revision) == ("one/split:train", "one/split", "c0ffee")
    assert hub["revision"] == "c0ffee"
    assert load_prompts("two/splits", split="test").name == "two/splits:test"


def test_what_can_go_wrong_with_the_hub(hub: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "splits train, test" in refused(lambda: load_prompts("two/splits"))
    assert "cannot load 'nobody/nothing'" in refused(lambda: load_prompts("nobody/nothing"))
    assert "no route to host" in refused(lambda: load_prompts("off/line"))
    assert "no column 'goal'" in refused(lambda: load_prompts("one/split", column="goal"))
    monkeypatch.setitem(sys.modules, "datasets", None)  # how Python marks a module that cannot be imported
    with pytest.raises(ConfigError, match=r"the hub dataset 'one/split' needs .*; pip install 'bures\[hub\]'$"):
        load_prompts("one/split")


# --- pinned sets, with a stand-in for the download -------------------------------------------------------------------


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fetch(name: str) -> Path:
        texts = [f"{name} {i}" for i in range(40)]
        rows: list[dict[str, str]] = [{"prompt": text, "intents": "x"} for text in texts]
        if name == "harmbench":
            return write(tmp_path / "harmbench.txt", "\n".join(texts))
        if name == "alpaca":
            rows = [{"instruction": text, "input": "with" * (i == 0), "output": "o"} for i, text in enumerate(texts)]
            return write(tmp_path / "alpaca.json", json.dumps(rows))
        if name == "advbench":
            seeds = "".join(f"- value: {text}\n  harm_categories: [a, b]\n" for text in texts)
            return write(tmp_path / "adv.prompt", f"dataset_name: adv_bench\nseeds:\n{seeds}")
        if name.startswith("pyrit-"):
            lines = "\n".join(f'"{text}, please",x' for text in texts) + '\n" ",x'
            return write(tmp_path / f"{name}.csv", f"# dataset_version=1.0,\nobjective,assistant_response\n{lines}\n")
        if name == "chat-dpo":
            turns = [
                {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": ""}]} for text in texts
            ]
            return write(tmp_path / "dpo.json", json.dumps(turns))
        if name == "chat-kto":
            messages = [[{"role": "user", "content": text}] for text in texts] + [[{"role": "system", "content": "x"}]]
            return write(tmp_path / "kto.json", json.dumps([{"messages": each} for each in messages]))
        if name == "c4":
            return write(tmp_path / "c4.jsonl", "".join(json.dumps(row) + "\n" for row in WEB))
        if name == "wikipedia":
            return write(tmp_path / "wiki.txt", "Bread is food. " * 10)
        return write(tmp_path / f"{name}.jsonl", "\n".join(json.dumps(row) for row in rows))

    monkeypatch.setattr(pinned_sets, "fetch", fetch)
    monkeypatch.setattr(corpora, "fetch", fetch)


@pytest.mark.usefixtures("pinned")
def test_pinned_sets_are_read_and_their_parts_are_hash_buckets() -> None:
    sizes = {
        "harmbench": 40,
        "advbench": 40,
        "do-not-answer": 200,
        "pyrit": 640,
        "spikee": 40,
        "alpaca": 39,
        "chat": 80,
    }
    for name, size in sizes.items():
        whole = load_prompts(name)
        assert (len(whole), whole.name) == (size, name)
        assert whole.revision is not None
        assert "==" in whole.revision
        for part, buckets in PARTS[name].items():
            expected = [text for text in whole if int(prompt_hash(text), 16) % 10 in buckets]
            found = load_prompts(f"{name}:{part}")
            assert list(found) == expected
            assert found.name == f"{name}:{part}"
    assert load_prompts("alpaca").n_incomplete == 1
    assert set(load_prompts("advbench").categories) == {"a; b"}
    areas = {"discrimination", "human", "information", "malicious", "misinformation"}
    assert set(load_prompts("do-not-answer").categories) == areas
    assert {"harm-violence", "objective-bias"} <= set(load_prompts("pyrit").categories)
    assert set(load_prompts("chat").categories) == {"dpo", "kto"}
    assert load_prompts("pyrit").texts[0].endswith(", please")
    assert "no part 'fitt': expected fit, organism, select, test" in refused(lambda: load_prompts("alpaca:fitt"))
    assert "no part ''" in refused(lambda: load_prompts("alpaca:"))


@pytest.mark.usefixtures("pinned")
def test_the_parts_that_measure_share_nothing_with_the_parts_that_fit() -> None:
    parts = {name: load_prompts(f"alpaca:{name}") for name in ("fit", "select", "test")}
    require_disjoint(**parts, hb_select=load_prompts("harmbench:select"), hb_test=load_prompts("harmbench:test"))
    assert sum(map(len, parts.values())) == len(load_prompts("alpaca"))
    assert load_prompts("alpaca:organism").prompts == parts["fit"].prompts
    assert "'a' and 'b'" in refused(lambda: require_disjoint(a=parts["fit"], b=load_prompts("alpaca:organism")))


# --- the corpus ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pinned")
def test_a_corpus_is_text_with_a_checksum(tmp_path: Path) -> None:
    path = write(tmp_path / "novel.txt", b"\xef\xbb\xbfCall me a baker.\r\nSome years ago")
    found = load_corpus(path)
    assert (found.name, found.source, found.text) == ("novel", str(path), "Call me a baker.\r\nSome years ago")
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()
    cut = load_corpus(str(path), limit_chars=7)
    assert (cut.text, cut.sha256) == ("Call me", hashlib.sha256(b"Call me").hexdigest())
    web = load_corpus("c4")
    assert web.text == "\n\n".join(row["text"] for row in WEB)
    wiki = load_corpus("wikipedia", limit_chars=14)
    assert (wiki.name, wiki.text, wiki.source) == ("wikipedia", "Bread is food.", "https://en.wikipedia.org")


def test_a_bad_corpus_is_one_line(tmp_path: Path) -> None:
    assert "blank" in refused(lambda: load_corpus(write(tmp_path / "a.txt", " \n")))
    assert "not UTF-8" in refused(lambda: load_corpus(write(tmp_path / "b.txt", b"teapot \xff")))
    assert "no such file" in refused(lambda: load_corpus(tmp_path / "absent.txt"))
    assert "is a folder" in refused(lambda: load_corpus(tmp_path))
    assert "1 or more" in refused(lambda: load_corpus("wikipedia", limit_chars=0))


def test_the_column_tables_are_what_detection_uses() -> None:
    for name in (*prompt_files.PROMPT_COLUMNS, *prompt_files.CATEGORY_COLUMNS, *prompt_files.CONTEXT_COLUMNS):
        assert name == name.casefold().strip()


# --- the real sets ---------------------------------------------------------------------------------------------------


def test_the_installed_hub_library_has_what_the_loader_uses() -> None:
    hub = pytest.importorskip("huggingface_hub")
    http_error = importlib.import_module("huggingface_hub.errors").HfHubHTTPError.__bases__[0]
    assert http_error.__name__ == "HTTPError"
    assert callable(hub.HfApi().dataset_info)
    assert isinstance(hub.constants.HF_HUB_OFFLINE, bool)


def shared(one: str, two: str) -> str:
    return refused(lambda: require_disjoint(**{one: load_prompts(one), two: load_prompts(two)}))


@pytest.mark.assets
def test_the_real_sets_have_the_documented_sizes_and_do_not_overlap() -> None:
    packaged = [name for name in PARTS if not ASSETS[pinned_sets.assets_of(name)[0]].addresses]
    sizes = {name: len(load_prompts(name)) for name in packaged}
    assert sizes == {
        "harmbench": 200,
        "advbench": 520,
        "jailbreakbench": 100,
        "do-not-answer": 938,
        "pyrit": 460,
        "spikee": 43,
        "alpaca": 578,
        "chat": 508,
        "rho-edgy": 150,
        "rho-pairs": 150,
        "rho-pairs-benign": 150,
        "weighted-safety": 60,
        "weighted-safety-benign": 60,
    }
    parts = {f"{name}:{part}": load_prompts(f"{name}:{part}") for name in packaged for part in PARTS[name]}
    assert [len(parts[f"harmbench:{part}"]) for part in ("select", "test")] == [48, 152]
    assert [len(parts[f"alpaca:{part}"]) for part in ("fit", "select", "test")] == [278, 133, 167]
    trained_on = {
        "alpaca:organism",
        "chat:organism",
        "pyrit:organism",
        "pyrit:select",
    }  # what repeats elsewhere is left out there
    apart = {name: found for name, found in parts.items() if name not in trained_on}
    require_disjoint(**{name: found for name, found in apart.items() if not name.startswith("jailbreakbench")})
    assert "'harmbench' and 'jailbreakbench' share 9 of their 200 and 100" in shared("harmbench", "jailbreakbench")
    assert "'advbench' and 'jailbreakbench' share 11 of their 520 and 100" in shared("advbench", "jailbreakbench")
    assert len(load_corpus("wikipedia").text) == 1_026_454
    web = load_corpus("c4")
    assert (len(web.text.split("\n\n")) >= 300, "\\u" in web.text) == (True, False)
