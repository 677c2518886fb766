"""Shapes in signatures are checked in every test; tiny models are built once a session."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # jobs measure nothing: a test's batches are the same wherever it runs

from jaxtyping import install_import_hook

install_import_hook("bures", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

from bures.models.loading import ChatModel, wrap  # noqa: E402
from helpers import tiny  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=tiny.FAMILIES)
def any_model(request: pytest.FixtureRequest) -> ChatModel:
    """A random model of every supported family."""
    return wrap(tiny.network(request.param), tiny.tokenizer(), request.param)


@pytest.fixture(scope="session")
def llama() -> ChatModel:
    """A random Llama."""
    return wrap(tiny.network("llama"), tiny.tokenizer(), "tiny-llama")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random Llama and its tokenizer."""
    return str(tiny.folder(tmp_path_factory.mktemp("model")))
