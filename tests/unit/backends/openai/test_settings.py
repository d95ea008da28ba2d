"""The settings in `--model openai:…`."""

import pytest

from llmactors.backends.build import read_models
from llmactors.backends.models.spec import ModelSpec
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings
from llmactors.errors import ConfigError


def read_model(text: str, *offered: str) -> ModelSpec:
    [spec] = read_models([text], offered=offered)
    return spec


def test_one_upstream_is_parsed() -> None:
    settings = OpenAISettings.parse("http://host:8000/v1/,model=NAME,key_env=VAR,slots=3,continue=raw,first_s=0.5")
    assert settings.upstreams == (UpstreamSettings(url="http://host:8000/v1", model="NAME", key_env="VAR"),)
    assert (settings.slots, settings.continues, settings.first_s) == (3, "raw", 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "http://a/v1,model=X,weight=3|openai:http://b/v1,model=Y",
        "http://a/v1,model=X,weight=3|http://b/v1,model=Y",
        "url=http://a/v1,model=X,weight=3,url=http://b/v1,model=Y",
        "model=X,url=http://a/v1,weight=3,url=http://b/v1,model=Y",
    ],
)
def test_several_upstreams_are_parsed(text: str) -> None:
    assert OpenAISettings.parse(text).upstreams == (
        UpstreamSettings(url="http://a/v1", model="X", weight=3),
        UpstreamSettings(url="http://b/v1", model="Y"),
    )


def test_proxy_and_authorities_belong_to_one_upstream() -> None:
    far = "https://api.example.com/v1,proxy=http://proxy:3128,ca_file=/etc/ca.pem"
    near, through = OpenAISettings.parse(f"http://127.0.0.1:8000/v1|{far}", name="gpt").upstreams
    assert (near.proxy, near.ca_file) == ("", "")
    assert (through.proxy, through.ca_file) == ("http://proxy:3128", "/etc/ca.pem")


def test_alias_is_the_model_where_none_is_named() -> None:
    assert read_model("gpt=openai:http://h/v1") == ModelSpec("gpt", "openai", "http://h/v1")
    assert OpenAISettings.parse("http://h/v1", name="gpt").upstreams[0].model == "gpt"
    assert read_model("openai:http://h/v1,model=meta/llama").name == "meta/llama"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs a URL"),
        ("model=x", "needs a URL"),
        ("http://h/v1", "names no model"),
        ("ftp://h/v1,model=x", "nor KEY=VALUE"),
        ("http://:80/v1,model=x", "needs a URL"),
        ("http://h:99999/v1,model=x", "needs a URL"),
        ("http://h/v1?a=b,model=x", "needs a URL"),
        ("http://me:secret@h/v1,model=x", "key_env=VAR"),
        (
            "http://h/v1,model=x,nosuch=1",
            "there is no 'nosuch'; valid are url, model, key_env, weight, priority, context, proxy, ca_file, omit",
        ),
        ("http://h/v1,model=x,weight=0", "weight=0"),
        ("http://h/v1,model=x,slots=none", "slots=none"),
        ("http://h/v1,model=x,model=y", "twice"),
        ("http://h/v1,model=x,slots=1|http://i/v1,model=x,slots=2", "slots is given twice"),
        ("http://h/v1,model=x|model=y", "needs a URL"),
        ("http://h:0/v1,model=x", "no server listens"),
        ("http://h/a b,model=x", "percent-encode"),
        ("http://hüt/v1,model=x", "punycode"),
        ("http://h/v1,model=x,proxy=https://p:1", "must be asked over http://"),
        ("http://h/v1,model=x,proxy=p:3128", "proxy=http://host:3128"),
        ("http://h/v1,model=x,proxy=http://me:secret@p:3128", "leave them out"),
    ],
)
def test_mistakes_are_named_with_their_option(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"openai|upstream|URL") as caught:
        OpenAISettings.parse(text)
    assert said in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mine=mypkg:MyBackend", ModelSpec("mine", "custom", "mypkg:MyBackend")),
        ("my.pkg:Make.it", ModelSpec("Make.it", "custom", "my.pkg:Make.it")),
        ("a=my.pkg:make,x=1,y=2", ModelSpec("a", "custom", "my.pkg:make,x=1,y=2")),
        ("known", ModelSpec("known", "custom", "known")),
        ("known:x=1", ModelSpec("known", "custom", "known,x=1")),
        ("a=known,x=1", ModelSpec("a", "custom", "known,x=1")),
        ("unknown", ModelSpec("unknown", "llama", "unknown")),
        ("mypkg:model.gguf", ModelSpec("mypkg:model", "llama", "mypkg:model.gguf")),
    ],
)
def test_backends_of_users_are_recognized(text: str, spec: ModelSpec) -> None:
    assert read_model(text, "known") == spec
