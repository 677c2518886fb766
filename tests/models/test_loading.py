"""Loading, the chat template, the structure that hooks need, and one line for everything that cannot be loaded."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import transformers
from huggingface_hub import errors
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bures.errors import ModelError
from bures.models.activations import collect
from bures.models.architecture import find_parts
from bures.models.intervention import Intervention, Site
from bures.models.loading import NAME_OF_ITS_BASE, ChatModel, load_model, wrap
from helpers import reference, tiny

BOS, END, USER, ASSISTANT, SYSTEM = (
    tiny.SPECIAL.index(f"<|{name}|>") for name in ("bos", "end", "user", "assistant", "system")
)


def with_template(template: str | None) -> Any:
    made = copy.deepcopy(tiny.tokenizer())
    made.chat_template = template
    return made


def wrapped(template: str | None) -> ChatModel:
    return wrap(tiny.network("llama"), with_template(template), "made")


def refused(spec: str | Path, **options: Any) -> str:
    """The one line that a user reads."""
    with pytest.raises(ModelError) as caught:
        load_model(spec, device="cpu", **options)
    line = str(caught.value)
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def spelled(text: str) -> list[int]:
    """One token a byte."""
    return [tiny.token_of(c) for c in text]


# Chat template ----------------------------------------------------------------------------------------------------


def test_a_prompt_is_one_user_turn_with_one_bos_and_the_generation_prompt(llama: ChatModel) -> None:
    ids = llama.encode(["2 + 2?", "Name three rivers."])
    assert ids == [
        [BOS, USER, *spelled("2 + 2?"), END, ASSISTANT],
        [BOS, USER, *spelled("Name three rivers."), END, ASSISTANT],
    ]


def test_a_system_prompt_comes_first(llama: ChatModel) -> None:
    (ids,) = llama.encode(["2 + 2?"], system="Be brief.")
    assert ids == [BOS, SYSTEM, *spelled("Be brief."), END, USER, *spelled("2 + 2?"), END, ASSISTANT]


def test_there_is_one_bos_even_where_the_tokenizer_would_add_its_own() -> None:
    adding: Any = copy.deepcopy(tiny.tokenizer())
    from tokenizers.processors import TemplateProcessing

    adding.backend_tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)])
    rendered = adding.apply_chat_template(
        [{"role": "user", "content": "2 + 2?"}], tokenize=False, add_generation_prompt=True
    )
    assert adding(rendered)["input_ids"][:2] == [BOS, BOS]  # what rendering and tokenising again would give
    model = wrap(tiny.network("llama"), adding, "adding")
    (ids,) = model.encode(["2 + 2?"])
    assert ids.count(BOS) == 1
    assert ids == adding(rendered, add_special_tokens=False)["input_ids"]


THINKING = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<no>{% else %}<yes>{% endif %}"
)


def test_a_thinking_switch_is_off() -> None:
    model = wrapped(THINKING)
    assert model.encode(["Hi"]) == [[USER, *spelled("Hi"), END, ASSISTANT, *spelled("<no>")]]
    assert model.describe()["template"]["thinking"] == "off: template told enable_thinking=False"


def test_a_template_without_a_switch_is_not_given_one(llama: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert llama.describe()["template"]["thinking"] == "none seen"
    given: list[dict[str, Any]] = []
    tokenizer: Any = copy.deepcopy(llama.tokenizer)
    plain = tokenizer.apply_chat_template

    def watched(*args: Any, **kwargs: Any) -> Any:
        given.append(kwargs)
        return plain(*args, **kwargs)

    monkeypatch.setattr(tokenizer, "apply_chat_template", watched)
    wrap(tiny.network("llama"), tokenizer, "watched").encode(["Hi"])
    assert given
    assert not any("enable_thinking" in kwargs for kwargs in given)


NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system\nturn') }}{% endif %}"
    "<|user|>{{ m['content'] }}{% endfor %}"
)


def test_a_template_that_raises_is_one_line() -> None:
    model = wrapped(NO_SYSTEM)
    assert model.encode(["Hi"]) == [[USER, *spelled("Hi")]]
    with pytest.raises(ModelError, match=r"no system turn.*leave the system prompt out") as caught:
        model.encode(["Hi"], system="Be brief.")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="made has no chat template; expected an instruction-tuned"):
        wrapped(None)
    tiny.network("llama").save_pretrained(tmp_path)
    with_template(None).save_pretrained(tmp_path)
    assert "has no chat template" in refused(tmp_path)


def test_no_prompts_are_no_rows(llama: ChatModel) -> None:
    assert llama.encode([]) == []


# Loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_folder_is_loaded_as_saved(tmp_path: Path, family: str) -> None:
    folder = tiny.folder(tmp_path / family, family)
    model = load_model(folder, device="cpu", dtype="float32")
    ids = torch.tensor(model.encode(["How do I bake bread?"]))
    with torch.inference_mode():
        torch.testing.assert_close(model.hf(input_ids=ids).logits, tiny.network(family)(input_ids=ids).logits)
    assert not model.hf.training
    assert model.name == str(folder)
    parts = find_parts(model.hf, family)
    assert model.blocks == parts.blocks == tuple(parts.decoder.get_submodule("layers").children())
    assert model.decoder is parts.decoder is model.hf.get_decoder()
    assert len(parts.blocks) == 3
    for number, block in enumerate(parts.blocks):
        attention, mlp = reference.writers(block)
        assert parts.writers(number, "attention") == (attention,)
        assert parts.writers(number, "mlp") == (mlp,)
    described = model.describe()
    assert (described["n_blocks"], described["d_model"], described["dtype"]) == (3, 32, "float32")
    assert described["n_parameters"] == sum(p.numel() for p in tiny.network(family).parameters())
    assert described["architecture"] == type(tiny.network(family)).__name__


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_the_dtype_is_the_checkpoints_own_unless_asked(tmp_path: Path, dtype: Any, expected: torch.dtype) -> None:
    tiny.network("llama").bfloat16().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert load_model(tmp_path, device="cpu", dtype=dtype).hf.dtype == expected


def test_ending_tokens_are_the_configurations_the_tokenizers_and_the_templates() -> None:
    """The template's: what closes a turn, and what the next one begins with, where that is one token."""
    model = wrap(tiny.network("llama"), tiny.tokenizer(), "made")
    config: Any = model.hf.generation_config
    for configured, expected in ((None, (1,)), (1, (1,)), (9, (9, 1)), ([9, 1, 8], (9, 1, 8))):
        config.eos_token_id = configured
        assert model.eos_ids == (*expected, 3, 4)


def test_remote_code_is_off_unless_asked(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    for loader in (AutoTokenizer, AutoModelForCausalLM):
        plain = loader.from_pretrained

        def watched(*args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            given.append(kwargs["trust_remote_code"])
            return plain(*args, **kwargs)

        monkeypatch.setattr(loader, "from_pretrained", watched)
    load_model(model_folder, device="cpu")
    assert given == [False, False]
    load_model(model_folder, device="cpu", trust_remote_code=True)
    assert given == [False, False, True, True]


def test_a_hub_id_is_asked_for_its_revision_and_never_for_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, dict[str, Any]]] = []

    def watched(source: Any, **kwargs: Any) -> Any:
        given.append((source, kwargs))
        network = tiny.network("llama")
        return [tiny.tokenizer(), network.config, (network, {"missing_keys": []})][len(given) - 1]

    for loader in (transformers.AutoTokenizer, transformers.AutoConfig, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(loader, "from_pretrained", watched)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, revision: asked.append((*a, revision)))
    load_model("someone/some-model", revision="abc123", device="cpu")
    assert [source for source, _ in given] == ["someone/some-model"] * 3
    assert [kwargs["revision"] for _, kwargs in given] == ["abc123"] * 3
    assert given[2][1]["use_safetensors"] is True
    assert asked == [("someone/some-model", "config.json", "abc123")]


# What cannot be loaded --------------------------------------------------------------------------------------------


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "no such file or folder" in refused("./nowhere")
    assert "no such file or folder" in refused("~/no-such-folder-of-models")
    assert "no such file or folder" in refused("missing.gguf")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    tiny.tokenizer().save_pretrained(tmp_path)
    assert "has no weights; expected *.safetensors or exactly one .gguf" in refused(tmp_path)


def test_a_pickle_in_a_folder_is_not_loaded_whatever_lies_beside_it(tmp_path: Path) -> None:
    tiny.folder(tmp_path)
    torch.save(tiny.network("llama").state_dict(), tmp_path / "pytorch_model.bin")
    load_model(tmp_path, device="cpu")
    (tmp_path / "model.safetensors").unlink()
    save_file({"other": torch.ones(1)}, tmp_path / "other.safetensors")
    assert "no file named model.safetensors" in refused(tmp_path)


def test_a_folder_with_two_gguf_files(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    assert "2 .gguf files" in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", bytes(range(256)) * 40, b"GGUF\x03\x00\x00\x00" + bytes(range(200))])
def test_a_damaged_gguf_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    for spec in (tmp_path / "broken.gguf", tmp_path):
        line = refused(spec)
        assert line.startswith(f"cannot load {spec}")
        assert "check that the files are complete" in line


def test_a_file_that_is_not_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert "is a file but not .gguf" in refused(tmp_path / "model.bin")


def test_damaged_weights(tmp_path: Path) -> None:
    folder = tiny.folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert refused(folder).startswith(f"cannot load {folder}")


def test_an_unknown_hub_id_while_offline() -> None:
    line = refused("nobody-at-all/no-such-model")
    assert line.startswith("nobody-at-all/no-such-model is not cached, and the hub cannot be reached")
    assert "check the id and the network" in line


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", "is gated"),
        ("RepositoryNotFoundError", "has no model"),
        ("RevisionNotFoundError", "has no revision 'v2'"),
        ("EntryNotFoundError", "no config.json"),
        ("HfHubHTTPError", "cannot look for"),
    ],
)
def test_what_the_hub_says_is_one_line(kind: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = getattr(errors, kind)

    def fails(*_: object, **__: object) -> None:
        response = httpx2.Response(404, request=httpx2.Request("GET", "http://hub.invalid/x"))
        raise error("a screen\nof words", **({"response": response} if issubclass(error, OSError) else {}))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    with pytest.raises(ModelError, match=said) as caught:
        load_model("owner/name", revision="v2")
    assert "screen" not in str(caught.value)


# Architectures ----------------------------------------------------------------------------------------------------


def tiny_config(kind: str) -> Any:
    common = {"vocab_size": tiny.VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return AutoConfig.for_model(
        kind,
        **common,
        **{
            "mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
            "bert": {
                "hidden_size": 32,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "intermediate_size": 64,
            },
            "vit": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32},
            "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512},
            "t5": {"d_model": 32, "d_ff": 64, "num_layers": 3, "num_heads": 4, "d_kv": 8, "decoder_start_token_id": 2},
        }[kind],
    )


@pytest.mark.parametrize(
    ("kind", "name", "what"),
    [
        ("mamba", "MambaForCausalLM", "it has no attention, as a state-space or recurrent model"),
        ("bert", "BertLMHeadModel", "later tokens change what earlier ones become, as in a masked encoder"),
        ("t5", "T5ForConditionalGeneration", "is an encoder-decoder"),
        ("vit", "ViTForImageClassification", "transformers knows .* as vit, not as a model that writes text"),
    ],
)
def test_a_model_that_is_no_decoder_is_told_what_it_is(tmp_path: Path, kind: str, name: str, what: str) -> None:
    hf = getattr(transformers, name)(tiny_config(kind)).float().eval()
    line = f"architecture {name} is not supported: .*{what}.*; expected a decoder-only transformer"
    if kind != "vit":  # reads no tokens at all
        with pytest.raises(ModelError, match=line) as caught:
            wrap(hf, tiny.tokenizer(), kind)
        assert "\n" not in str(caught.value)
    hf.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    assert re.search(line, refused(tmp_path))


def test_a_model_that_does_not_run_on_text_is_refused() -> None:
    hf = tiny.network("llama")

    def needs_an_image(*_: Any, **__: Any) -> Any:
        raise ValueError("You have to specify\npixel_values")

    hf.forward = needs_an_image
    with pytest.raises(ModelError, match=r"does not run on text alone.*ValueError: You have to specify pixel_values"):
        wrap(hf, tiny.tokenizer(), "made")


def test_another_decoder_of_the_same_structure_works() -> None:
    """GPT-2: learned positions, blocks under another name."""
    model = wrap(AutoModelForCausalLM.from_config(tiny_config("gpt2")).float().eval(), tiny.tokenizer(), "gpt2")
    rows = collect(model, tiny.PROMPTS)
    for i, prompt in enumerate(tiny.PROMPTS):
        ids = torch.tensor(model.encode([prompt]))
        with torch.inference_mode():
            states = model.hf(input_ids=ids, output_hidden_states=True).hidden_states
        for block in (0, 1):
            torch.testing.assert_close(rows[block][i], states[block + 1][0, -1], rtol=1e-4, atol=1e-6)
    map_ = reference.low_rank(model.d_model)
    ids = torch.tensor(model.encode(["2 + 2?"]))
    block = model.hf.get_submodule("transformer.h.1")
    for site, where in ((Site(1), "output"), (Site(1, "input"), "input")):
        with torch.inference_mode():
            with reference.replaced(block, reference.dense(map_), where):
                expected = model.hf(input_ids=ids).logits
            with Intervention({site: map_}).applied(model):
                torch.testing.assert_close(model.hf(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_blocks_that_are_not_the_hidden_states_are_refused() -> None:
    """A second residual path around the blocks, say."""
    hf = tiny.network("llama")
    layers: Any = hf.model.layers
    original = layers[0].forward

    class Sly(torch.nn.Module):
        """Looks like a block; the stream that counts is not what it returns."""

        def __init__(self) -> None:
            super().__init__()
            self.self_attn, self.mlp = layers[0].self_attn, layers[0].mlp

        def forward(self, hidden_states: Any, **kwargs: Any) -> Any:
            return original(hidden_states, **kwargs)

    layers[0] = Sly()
    with pytest.raises(ModelError, match="is not a stack of blocks whose outputs are its hidden_states"):
        wrap(hf, tiny.tokenizer(), "sly")


# Adapters and fingerprints ----------------------------------------------------------------------------------------


def adapter(path: Path, **options: Any) -> tuple[Path, Any]:
    """A LoRA adapter that does something, and the model that carries it unmerged."""
    torch.manual_seed(4)
    carrying = get_peft_model(
        tiny.network("llama", **options), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    ).eval()
    with torch.no_grad():
        for name, parameter in carrying.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    carrying.save_pretrained(str(path), save_embedding_layers=False)
    return path, carrying


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_a_merged_adapter_is_the_adapter(tmp_path: Path, model_folder: str) -> None:
    path, carrying = adapter(tmp_path / "adapter")
    model = load_model(model_folder, adapter=path, device="cpu")
    ids = torch.tensor(model.encode(["How do I bake bread?"]))
    with torch.inference_mode():
        expected = carrying(input_ids=ids).logits
        torch.testing.assert_close(model.hf(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)
        plain = load_model(model_folder, device="cpu")
        assert float((plain.hf(input_ids=ids).logits - expected).abs().max()) > 1e-3
    assert type(model.hf) is type(plain.hf)
    assert not any("lora" in name for name, _ in model.hf.named_parameters())
    assert model.fingerprint() != plain.fingerprint()


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path, model_folder: str) -> None:
    assert "no adapter in" in refused(model_folder, adapter=tmp_path)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, model_folder: str) -> None:
    path, _ = adapter(tmp_path / "adapter", width=48)
    assert "with the adapter adapter" in refused(model_folder, adapter=path)


def test_fingerprints_are_of_the_weights(model_folder: str) -> None:
    model = load_model(model_folder, device="cpu")
    before = model.fingerprint()
    assert before == load_model(model_folder, device="cpu").fingerprint()
    assert len(before) == 64
    seen = {before}
    for name, parameter in model.hf.named_parameters():
        value = parameter.detach().flatten()[0].clone()
        with torch.no_grad():
            parameter.flatten()[0] += 1.0
            seen.add(model.fingerprint())
            parameter.flatten()[0] = value
        assert model.fingerprint() == before, name
    assert len(seen) == 1 + len(list(model.hf.named_parameters()))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_loaded_weights_require_gradients_with_and_without_an_adapter(model_folder: str, tmp_path: Path) -> None:
    """Frozen weights make torch copy the vocabulary matrix once per row of a batch: many times slower."""
    adapted = get_peft_model(tiny.network("llama"), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(str(tmp_path), save_embedding_layers=False)
    for adapter in (None, tmp_path):
        model = load_model(model_folder, device="cpu", adapter=adapter)
        assert all(parameter.requires_grad for parameter in model.hf.parameters())


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_of_the_organism_is_merged_on_top_of_its_own_and_another_organism_in_its_place(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Path] = {}
    for name, base in (("own", NAME_OF_ITS_BASE), ("other", NAME_OF_ITS_BASE), ("hardened", "organism")):
        lora = LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        torch.manual_seed(len(made))
        adapted = get_peft_model(load_model(model_folder).hf, lora)
        adapted.peft_config["default"].base_model_name_or_path = base
        adapted.save_pretrained(str(tmp_path / name), save_embedding_layers=False)
        made[name] = tmp_path / name
    monkeypatch.setattr("bures.models.loading.BASE_OF_ORGANISM", model_folder)
    monkeypatch.setattr("bures.models.loading.organism_adapter", lambda: made["own"])
    weight = "model.layers.1.mlp.down_proj.weight"
    base = load_model(model_folder).hf.get_parameter(weight)
    added = {
        name: load_model(model_folder, adapter=path).hf.get_parameter(weight) - base for name, path in made.items()
    }
    assert all(float(each.detach().abs().max()) > 1e-3 for each in added.values())
    for adapter, expected in ((None, ("own",)), ("other", ("other",)), ("hardened", ("own", "hardened"))):
        found = load_model("organism", adapter=made.get(adapter or "")).hf.get_parameter(weight)
        torch.testing.assert_close(found, base + sum(added[name] for name in expected), atol=1e-5, rtol=1e-4)
