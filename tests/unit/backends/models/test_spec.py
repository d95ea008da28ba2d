"""The texts that `--model` takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.build import read_models
from llmactors.backends.models.spec import LLAMA, ModelSpec
from llmactors.config import LlamaOptions
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
    assert read_model(text) == ModelSpec(name, LLAMA, source, LlamaOptions(mmproj=mmproj))


def test_options_of_llama_stand_behind_the_model() -> None:
    text = (
        "big=/path/x.gguf,context=8192,slots=4,threads=8,gpu_layers=99,batch=512,flash_attn=on,kv_type=q8_0,"
        "mmproj=p.gguf,lora=hf:o/r/l.gguf,chat_template=/t.jinja"
    )
    options = LlamaOptions(
        context=8192,
        slots=4,
        threads=8,
        gpu_layers=99,
        batch=512,
        flash_attn="on",
        kv_type="q8_0",
        mmproj="p.gguf",
        lora="hf:o/r/l.gguf",
        chat_template="/t.jinja",
    )
    assert read_model(text) == ModelSpec("big", LLAMA, "/path/x.gguf", options)
    assert read_model("a, b.gguf,slots=2") == ModelSpec("a, b", LLAMA, "a, b.gguf", LlamaOptions(slots=2))
    assert set(options.given()) == set(LlamaOptions.__struct_fields__)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("contxt=8192", "there is no option `contxt`; did you mean context?"),
        ("zzz=1", "there is no option `zzz`; there are: batch, chat_template, context"),
        ("slots=1,slots=2", "the option `slots` is given twice"),
        ("context=8k", "context=8k is wrong: `context` takes a whole number of tokens, 16 or more"),
        ("context=", "context= is wrong: `context` takes a whole number of tokens, 16 or more"),
        ("slots=0", "slots=0 is wrong: `slots` takes a whole number, 1 or more"),
        ("threads=1.5", "threads=1.5 is wrong"),
        ("gpu_layers=-1", "gpu_layers=-1 is wrong: `gpu_layers` takes a whole number, 0 or more"),
        ("batch=1", "batch=1 is wrong: `batch` takes a whole number of tokens from 16 to 65536"),
        ("flash_attn=yes", "flash_attn=yes is wrong: `flash_attn` takes on, off or auto"),
        ("kv_type=q9", "kv_type=q9 is wrong: `kv_type` takes f32, f16,"),
        ("flash_attn=off,kv_type=q8_0", "kv_type=q8_0 needs flash attention: leave out flash_attn=off"),
        ("mmproj=", "nothing stands behind mmproj=; write a file there"),
    ],
)
def test_wrong_option_is_refused_by_name(options: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_model(f"x.gguf,{options}")
    assert caught.value.message.startswith(f"`model`: 'x.gguf,{options}': {told}")


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
