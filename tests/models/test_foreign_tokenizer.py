"""A tokenizer of another model, whose tokens the embedding does not have."""

from __future__ import annotations

import pytest

from bures.errors import ModelError
from bures.models.loading import wrap
from helpers import scripted


def test_a_tokenizer_with_more_tokens_than_the_model_is_one_line() -> None:
    model = scripted.model()
    model.hf.resize_token_embeddings(4)
    with pytest.raises(ModelError, match=r"the tokenizer writes the token .* has 4; give the tokenizer"):
        wrap(model.hf, model.tokenizer, "another")
