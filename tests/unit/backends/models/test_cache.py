"""The place of the models is named by the environment, and never a folder called `~`."""

import platformdirs
import pytest

from llmactors.backends.models.cache import cache_root
from llmactors.backends.models.catalog import find_model
from llmactors.config import CACHE_VARIABLE
from llmactors.errors import ModelError


@pytest.fixture(autouse=True)
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")


def test_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(ModelError, match=f"set HOME, or {CACHE_VARIABLE}"):
        cache_root()


def test_model_below_a_home_that_is_not_there_is_no_fault() -> None:
    with pytest.raises(ModelError):
        find_model("~nobody-of-this-name/no-such-model")
    with pytest.raises(ModelError, match="there is no model"):
        find_model("x" * 5000)
