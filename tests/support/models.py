"""The real model that tests use."""

import functools
from pathlib import Path

from llmactors.backends.models.download import ensure_model


@functools.cache
def smollm2_path() -> Path:
    """The weights of SmolLM2-135M, downloaded the first time.

    Raises:
        ModelError: they cannot be had. Its text is a reason to skip that the reader can act on.
    """
    return ensure_model("smollm2-135m").path
