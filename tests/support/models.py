"""The real model of the tests."""

import functools
from pathlib import Path

from llmactors.backends.models.download import ensure_model


@functools.cache
def smollm2_path() -> Path:
    """The path of the weights of SmolLM2-135M, which are downloaded at the first call.

    Raises:
        ModelError: The download failed. The text of the error says what to do.
    """
    return ensure_model("smollm2-135m").path
