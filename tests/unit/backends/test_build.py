"""From what `--model` says to backends: every kind is built, and gets the settings of the node."""

from pathlib import Path
from typing import Any

import pytest

from llmactors.backends.build import KINDS, read_models, serve_model, serve_models
from llmactors.backends.custom.batch import BatchBackend
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.mock.backend import MockBackend, MockCrash
from llmactors.backends.openai import OpenAIBackend
from llmactors.config import Settings
from llmactors.errors import ConfigError

MODELS = ("mock:step_ms=1", "far=openai:http://h/v1", "shout=tests.unit.backends.test_build:shout", "tiny.gguf")


def shout(prompts: list[str], max_tokens: int) -> Any:
    yield [prompt.upper() for prompt in prompts]


def test_every_kind_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(Path(__file__).parents[3])
    assert {spec.kind for spec in read_models(MODELS, offered=())} == set(KINDS)
    models = serve_models(Settings(model=(*MODELS[:-1], str(tmp_path / MODELS[-1])), slots=3, context=512))
    assert [model.name for model in models] == ["mock", "far", "shout", "tiny"]
    backends = [model.make() for model in models]
    assert [type(backend) for backend in backends] == [MockBackend, OpenAIBackend, BatchBackend, LlamaBackend]
    assert {(each.capabilities.slots, each.capabilities.context_tokens) for each in backends} == {(3, 512)}
    assert [model.name for model in models if model.fetch is not None] == ["tiny"]


def test_each_incarnation_gets_a_backend_of_its_own() -> None:
    model = serve_model("mock")
    assert model.make() is not model.make()


async def test_faults_are_counted_over_all_incarnations() -> None:
    model = serve_model("mock:start_fail=1")
    with pytest.raises(MockCrash):
        await model.make().start()
    await model.make().start()


def test_slots_of_a_model_win_over_those_of_the_node() -> None:
    [silent] = serve_models(Settings(model=("mock:slots=5",)))
    [given] = serve_models(Settings(model=("mock:slots=5",), slots=2))
    [plain] = serve_models(Settings(model=("mock",), slots=2))
    assert [model.make().capabilities.slots for model in (silent, given, plain)] == [5, 5, 2]


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_missing_key_of_an_upstream_is_named(environ: dict[str, str]) -> None:
    settings = Settings(model=("openai:http://h/v1,model=x,key_env=KEY",))
    with pytest.raises(ConfigError, match="key_env=KEY: there is no such variable, or it is empty"):
        serve_models(settings, environ=environ)
    assert serve_models(settings, environ={"KEY": "secret"})


@pytest.mark.parametrize("text", ["mock:nosuch=1", "a=mock:nosuch=1", "a=openai:nosuch", "openai:http://h/v1"])
def test_wrong_option_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(ConfigError):
        read_models([text])
