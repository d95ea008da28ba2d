"""What the integration tests share."""

from pathlib import Path

import pytest

from llmactors.errors import ModelError
from llmactors.testing.models import smollm2_path


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The weights of a small real model, downloaded the first time."""
    pytest.importorskip("xllamacpp", reason="pip install 'llmactors[llama]'")
    try:
        return smollm2_path()
    except ModelError as error:
        pytest.skip(f"no weights: {error.message}")
