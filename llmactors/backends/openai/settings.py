"""The settings in `--model openai:…`. Pure.

    openai:http://host:8000/v1,model=NAME,key_env=VAR                     one upstream
    openai:http://a/v1,model=X,weight=3|openai:http://b/v1,model=Y        two
    openai:model=X,url=http://a/v1,weight=3,url=http://b/v1               two that serve one model
    openai:http://a/v1,model=X|openai:http://b/v1,model=Y,priority=1      the second where the first takes no request

`model`, `key_env`, `weight`, `priority`, `context`, `proxy`, `ca_file`, `traceparent` and `omit` belong to the URL
before them; before the first URL they hold for all upstreams. Everything else holds for all upstreams in any place.
"""

import typing
from collections.abc import Iterator
from typing import Annotated, Any, Self

import attrs
import msgspec

from llmactors.backends.openai.requests.omissions import OMITTABLE
from llmactors.errors import ConfigError
from llmactors.http.client_socket import Origin

Count = Annotated[int, msgspec.Meta(ge=1)]
_UNDECLARED_CONTEXT = 131_072
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


@attrs.frozen(kw_only=True)
class UpstreamSettings:
    """The settings of one upstream."""

    url: str
    """The URL of the upstream's API, such as `http://host:8000/v1`."""
    model: Annotated[str, msgspec.Meta(min_length=1)] = ""
    """The model's name at the upstream."""
    key_env: str = ""
    """The environment variable that holds the upstream's API key; empty: the upstream needs none."""
    weight: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0
    """The upstream's share of the requests, relative to the other upstreams of the same priority."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """Upstreams of priority 0 get the requests. Those of priority 1 get a request only where none of priority 0 takes
    it, and so on."""
    context: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The context length of the upstream's model; 0: not declared. The upstream itself refuses a prompt that is too
    long. Such a prompt is sent to an upstream that declares a longer context, where there is one."""
    proxy: str = ""
    """`http://HOST:PORT` of a proxy that tunnels to the upstream (CONNECT); empty: there is none. Variables of the
    environment such as HTTPS_PROXY are not read, since they would hold for upstreams on this machine too."""
    ca_file: str = ""
    """A PEM file of the certificate authorities to trust for an `https` upstream; empty: those that browsers trust.
    SSL_CERT_FILE is not read."""

    omit: tuple[str, ...] = ()
    """The fields that the upstream refuses, which it is never sent: names separated by `;`. A request whose client
    gives such a field is refused by its name, whichever upstream would get the request. Stop strings are honoured all
    the same: the answer is cut here."""
    traceparent: bool = True
    """Whether requests to the upstream carry the headers `traceparent` and `tracestate`, where this node and its
    gateway export traces."""

    @property
    def context_tokens(self) -> int:
        """The context length, where none is declared that of most models of vendors."""
        return self.context or _UNDECLARED_CONTEXT


@attrs.frozen(kw_only=True)
class OpenAISettings:
    """The settings of one model: its upstreams, and the bounds on requests to them."""

    upstreams: tuple[UpstreamSettings, ...]
    slots: Count = 64
    """How many requests may run at once, at all upstreams together."""
    continues: typing.Literal["probe", "chat", "raw", "none"] = "probe"
    """`continue`: how an answer goes on after its upstream or its worker was lost. With `engine` the answer goes on by
    token ids where it can. Otherwise `chat`: the upstreams continue the text of an answer, to a chat and to a raw
    prompt; `raw`: to a raw prompt only; `probe`: an upstream is asked with two requests of one token, when that is
    needed first, whether it continues the text of a chat. A greedy or seeded answer that cannot go on is asked for
    again, and the part that the client has is dropped. `none`: an answer that has begun ends with `INTERRUPTED`."""
    attempts: Count = 4
    """How often one request is sent to upstreams before it fails."""
    retries: typing.Literal[0, 1] = 1
    """How often a request is sent again to an upstream that failed in a way that may pass, before upstreams of the next
    priority get the request. Another upstream of the same priority gets the request at once."""
    retry_after_s: Seconds = 5.0
    """The longest pause of an upstream (`Retry-After`) after which a request is sent to it again while upstreams of the
    next priority could get the request."""
    connect_s: Seconds = 5.0
    """How long the opening of a connection to an upstream may take."""
    first_s: Seconds = 60.0
    """How long an upstream may take from the request to the first token, including its own queue, beside the time for
    reading the prompt. Reasoning counts as a token."""
    prompt_tokens_per_s: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """How many tokens of a prompt an upstream reads per second at least, at about four characters for each: a prompt of
    8,000 tokens may take 40 s longer than `first_s`."""
    hedge_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    """After how long without a first token a second upstream is asked beside the first; the first of them to give a
    token makes the answer. 0: never. At most a quarter of `slots` requests are sent twice at a time."""
    silence_s: Seconds = 30.0
    """How long an upstream may take from one token to the next. Comments that keep a connection open do not count."""
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 20.0
    """How long one request may wait in all for an upstream that takes requests."""
    health_check_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    """An upstream that has answered nothing for this long is asked for its list of models, to see whether the upstream
    works and accepts the key. 0: never."""
    engine: typing.Literal["openai", "llamacpp", "vllm", "sglang"] = "openai"
    """The server that all upstreams run; `openai` for an unknown one. With a known server, answers go on by token ids,
    and follow JSON schemas and grammars that this node makes. A known server is sent the rules for drawing tokens that
    OpenAI's API lacks, such as `top_k`; other upstreams might ignore these rules, so requests with them are refused."""
    tools: typing.Literal["upstream", "hermes", "llama3", "mistral"] = "upstream"
    """Who reads the calls of tools in an answer: the upstream, or this node, in the form that the model writes. Only
    what this node reads goes on in the middle of a call. Needs `engine`."""
    reasoning: typing.Literal["upstream", "think", "think_begun"] = "upstream"
    """Who tells reasoning from the answer: the upstream, or this node, by the tags `<think>` and `</think>`. Say
    `think_begun` where the chat template writes the first tag. Needs `engine`."""
    images: typing.Literal["none", "data", "links"] = "none"
    """Which images in chats the upstreams' model takes: none; `data` for images as `data:` URLs; `links` for `http` and
    `https` URLs too. The upstream fetches a link, and so clients can reach what the upstream can reach: choose `links`
    only where the upstream restricts what it fetches, or can reach nothing that clients may not reach."""
    tokens_field: typing.Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the token limit on the chat route. Some models of OpenAI take only `max_completion_tokens`."""
    done_ends: bool = False
    """Whether `[DONE]` ends an answer that has neither a finish reason nor counts of tokens. Otherwise such an answer
    counts as cut: proxies write `[DONE]` after they have lost their own upstream."""

    @classmethod
    def parse(cls, text: str, *, name: str = "") -> Self:
        """Parses the text behind `openai:`. `name` is the model of upstreams that name none. Raises `ConfigError`."""
        shared: dict[str, Any] = {}
        upstreams: list[UpstreamSettings] = []
        for part in text.split("|"):
            upstreams += _read_part(part.strip().removeprefix("openai:"), shared, name)
        settings = cls(upstreams=tuple(upstreams), **shared)
        if settings.engine == "openai":
            for key in ("tools", "reasoning"):
                if (value := getattr(settings, key)) != "upstream":
                    raise _wrong(f"{key}={value}", "this needs an engine, as in engine=vllm")
        return settings


_OWN = {key: kind for key, kind in typing.get_type_hints(UpstreamSettings, include_extras=True).items() if key != "url"}
_SHARED = {
    "continue" if key == "continues" else key: kind
    for key, kind in typing.get_type_hints(OpenAISettings, include_extras=True).items()
    if key != "upstreams"
}
_VALID = ", ".join(["url", *_OWN, *_SHARED])


def _read_part(part: str, shared: dict[str, Any], name: str) -> list[UpstreamSettings]:
    common: dict[str, Any] = {"model": name} if name else {}
    found: list[dict[str, Any]] = []
    given: dict[str, Any] = {}
    target = common
    for key, value in _pairs(part):
        if key == "url":
            target = {"url": _checked_url(value)}
            given = {}
            found.append(target)
        elif key in _OWN:
            if key in given:
                raise _wrong(f"{key}={value}", f"{key} is given twice for one upstream")
            given[key] = target[key] = _convert(key, value, _OWN[key])
        elif key in _SHARED:
            field = "continues" if key == "continue" else key
            converted = _convert(key, value, _SHARED[key])
            if shared.setdefault(field, converted) != converted:
                raise _wrong(f"{key}={value}", f"{key} is given twice")
        else:
            raise _wrong(key, f"there is no {key!r}")
    if not found:
        raise ConfigError("`model`: openai: needs a URL, as in openai:http://host:8000/v1,model=NAME")
    for values in found:
        if not (values.get("model") or common.get("model")):
            raise ConfigError(
                "`model`: openai: names no model for an upstream; say which model the upstream serves, model=NAME"
            )
    return [UpstreamSettings(**(common | values)) for values in found]


def _pairs(part: str) -> Iterator[tuple[str, str]]:
    for piece in filter(None, map(str.strip, part.split(","))):
        if piece.startswith(("http://", "https://")):
            yield "url", piece
            continue
        key, equals, value = (text.strip() for text in piece.partition("="))
        if not equals or not value:
            raise _wrong(piece, "this is neither a URL that begins with http:// or https://, nor KEY=VALUE")
        yield key, value


def _checked_url(text: str) -> str:
    if "@" in text:
        raise ConfigError(
            "`model`: the URL of an upstream holds a user or a key, which every user of this machine can read; put the "
            "key into a variable, and name the variable with key_env=VAR"
        )
    try:
        origin = Origin.parse(text)
    except ValueError as error:
        raise ConfigError(f"`model`: openai: needs a URL such as http://host:8000/v1; {error}") from None
    return f"{'https' if origin.is_tls else 'http'}://{origin.authority}{origin.prefix}"


def _check_proxy(text: str) -> None:
    try:
        proxy = Origin.parse(text)
    except ValueError as error:
        raise _wrong("proxy", f"{error}; a proxy is named as in proxy=http://host:3128") from None
    if proxy.is_tls:
        raise _wrong(f"proxy={text}", "the proxy itself must be asked over http://")


def _convert(key: str, value: str, kind: Any) -> Any:
    if key == "proxy":
        _check_proxy(value)
    if key == "omit":
        return _fields_of(value)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _wrong(f"{key}={value}", str(error)) from None


def _fields_of(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, map(str.strip, text.split(";"))))
    for name in names:
        if name not in OMITTABLE:
            known = ", ".join(OMITTABLE)
            raise _wrong(f"omit={text}", f"{name!r} is no field that can be left out; these can: {known}")
    return names


def _wrong(piece: str, why: str) -> ConfigError:
    return ConfigError(f"openai setting {piece!r}: {why}; valid are {_VALID}")
