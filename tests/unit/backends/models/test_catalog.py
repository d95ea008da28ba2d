from pathlib import Path

import pytest

from llmactors.backends.models.catalog import CATALOG, FileSource, HubSource, find_model
from llmactors.errors import ModelError


def test_name_is_found_in_the_catalog() -> None:
    assert find_model("smollm2-135m") is CATALOG["smollm2-135m"]


def test_every_entry_has_a_checksum_and_a_licence() -> None:
    for entry in CATALOG.values():
        assert entry.sha256 is not None
        assert len(entry.sha256) == 64
        assert entry.licence


def test_hub_file_may_lie_in_a_folder() -> None:
    assert find_model("hf:some/repo-GGUF/q4/model.gguf").source == HubSource("some", "repo-GGUF", "q4/model.gguf")


def test_path_is_a_file_of_the_user() -> None:
    assert find_model("models/mine.gguf").source == FileSource(Path("models/mine.gguf"))


@pytest.mark.parametrize("name", ["nonsense", "", "hf:a/b", "hf:../x/y.gguf", "hf:a/b/../../c.gguf", "hf:a/b/.gguf"])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=r"smollm2-135m.*hf:OWNER/REPO/FILE.*path") as caught:
        find_model(name)
    assert "\n" not in caught.value.message
