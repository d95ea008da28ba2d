"""The texts that `--model` takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.build import read_models
from llmactors.backends.models.spec import LLAMA, ModelSpec
from llmactors.errors import ConfigError

MOCK = "mock"


def read_model(text: str) -> ModelSpec:
    [spec] = read_models([text], offered=())
    return spec


@pytest.mark.parametrize(
    ("text", "name", "kind", "source"),
    [
        ("mock", "mock", MOCK, ""),
        ("mock:", "mock", MOCK, ""),
        ("mock:step_ms=1", "mock", MOCK, "step_ms=1"),
        ("mock:step_ms=1,slots=2", "mock", MOCK, "step_ms=1,slots=2"),
        ("fast=mock", "fast", MOCK, ""),
        ("fast=mock:step_ms=1", "fast", MOCK, "step_ms=1"),
        ("fast=mock:crash_prompt=a=b", "fast", MOCK, "crash_prompt=a=b"),
        ("smollm2-135m", "smollm2-135m", LLAMA, "smollm2-135m"),
        ("mockingbird", "mockingbird", LLAMA, "mockingbird"),
        ("chat=smollm2-135m", "chat", LLAMA, "smollm2-135m"),
        ("a=b=c", "a", LLAMA, "b=c"),
        ("hf:o/r/f.gguf", "f", LLAMA, "hf:o/r/f.gguf"),
        ("hf:o/r/sub/f-q4.gguf", "f-q4", LLAMA, "hf:o/r/sub/f-q4.gguf"),
        ("x=hf:o/r/f.gguf", "x", LLAMA, "hf:o/r/f.gguf"),
        ("./x=y.gguf", "x=y", LLAMA, "./x=y.gguf"),
        ("x=y.gguf", "x", LLAMA, "y.gguf"),
        ("/models/tiny.gguf", "tiny", LLAMA, "/models/tiny.gguf"),
        ("/mo=dels/tiny.gguf", "tiny", LLAMA, "/mo=dels/tiny.gguf"),
        ("tiny=/mo=dels/a.gguf", "tiny", LLAMA, "/mo=dels/a.gguf"),
        (" mock ", "mock", MOCK, ""),
    ],
)
def test_text_is_read_as_a_spec(text: str, name: str, kind: str, source: str) -> None:
    assert read_model(text) == ModelSpec(name, kind, source)


@pytest.mark.parametrize(
    ("text", "name", "source", "mmproj"),
    [
        ("a/x.gguf,mmproj=a/mmproj-x.gguf", "x", "a/x.gguf", "a/mmproj-x.gguf"),
        ("sees=x.gguf,mmproj=y=z.gguf", "sees", "x.gguf", "y=z.gguf"),
        ("hf:o/r/f.gguf,mmproj=hf:o/r/mmproj-f.gguf", "f", "hf:o/r/f.gguf", "hf:o/r/mmproj-f.gguf"),
        ("smollm2-135m,mmproj=p.gguf", "smollm2-135m", "smollm2-135m", "p.gguf"),
    ],
)
def test_projector_is_named_behind_the_model(text: str, name: str, source: str, mmproj: str) -> None:
    assert read_model(text) == ModelSpec(name, LLAMA, source, mmproj)


def test_projector_without_a_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no file behind mmproj="):
        read_model("x.gguf,mmproj=")


@pytest.mark.parametrize(
    "text", ["", " ", "a=", "=", "=mock", "=a.gguf", ".gguf", "dir/.gguf", "hf:", "hf:o/r", "hf:o/r/", "hf:/r/f"]
)
def test_text_that_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="`model`"):
        read_model(text)


@given(st.text())
def test_any_text_is_a_named_spec_or_an_error(text: str) -> None:
    try:
        spec = read_model(text)
    except ConfigError:
        return
    assert spec.name
    assert not spec.name.startswith("=")


def test_several_texts_give_several_specs() -> None:
    specs = read_models(("mock", "slow=mock:step_ms=20", "smollm2-135m"), offered=())
    assert [spec.name for spec in specs] == ["mock", "slow", "smollm2-135m"]


@pytest.mark.parametrize(
    ("texts", "hint"),
    [
        (("mock", "mock:slots=2"), "other=mock:slots=2"),
        (("a/x.gguf", "b/x.gguf"), "other=b/x.gguf"),
        (("m=mock", "smollm2-135m", "m=smollm2-135m"), "other=smollm2-135m"),
    ],
)
def test_two_models_of_one_name_are_refused(texts: tuple[str, ...], hint: str) -> None:
    with pytest.raises(ConfigError, match="two models are called") as caught:
        read_models(texts, offered=())
    assert caught.value.message.endswith(hint)
