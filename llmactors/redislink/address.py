"""Where the server is, from a URL. No error and no `repr` of this module shows a password."""

import ssl
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
from redis.connection import parse_url

from llmactors.errors import ConfigError
from llmactors.http.host_names import can_be_looked_up

_SCHEMES = "redis://, rediss://, unix://, sentinel:// or cluster://"
_PORT = 6379
_SENTINEL_PORT = 26379
_PLAIN_OPTIONS = frozenset({"db", "username", "password"})
_TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
        "ssl_check_hostname", "ssl_min_version", "ssl_ciphers",
    }
)  # fmt: skip
_SENTINEL_OPTIONS = frozenset({"ssl", "sentinel_username", "sentinel_password"})
_CLUSTER_OPTIONS = frozenset({"ssl", "shards"})


@attrs.frozen
class Endpoint:
    """A TCP address, or a Unix socket if `path` is set."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


@attrs.frozen
class Address:
    """What is needed to connect. If there are `sentinels`, each connect asks them for the master of `service`. If there
    are `nodes` of a Redis Cluster, each connect asks them which of them holds the slot.
    """

    endpoint: Endpoint
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    sentinels: tuple[Endpoint, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    nodes: tuple[Endpoint, ...] = ()

    def __str__(self) -> str:
        if self.sentinels:
            return f"sentinel://{','.join(map(str, self.sentinels))}/{self.service}"
        if self.nodes:
            return f"cluster://{','.join(map(str, self.nodes))}"
        if self.endpoint.path:
            return f"unix://{self.endpoint}"
        return f"{'rediss' if self.tls else 'redis'}://{self.endpoint}"


def parse_address(url: str) -> Address:
    """The address that `url` names.

    `redis://[user:password@]host[:port][/db]`, the same with `rediss://` for TLS, `unix://[user:password@]/path[?db=0]`,
    `sentinel://[user:password@]host[:port][,host[:port]…]/service[?db=0&ssl=true&sentinel_password=…]`,
    `cluster://[user:password@]host[:port][,host[:port]…][?shards=3&ssl=true]`. TLS verifies the server's certificate
    and name, unless an option says otherwise; the options are redis-py's `ssl_ca_certs`, …

    Raises:
        ConfigError: The URL is wrong. The message is one line, without the password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"redis", "rediss", "unix", "sentinel", "cluster"}:
        raise ConfigError(f"the Redis URL must begin with {_SCHEMES}")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise ConfigError("the Redis URL has a space or a control character: percent-encode it")
    if "#" in rest:
        raise ConfigError("the Redis URL has a #: percent-encode it as %23")
    if scheme == "sentinel":
        return _sentinel(rest)
    if scheme == "cluster":
        return _cluster(rest)
    options = _options(url)
    if scheme == "unix":
        if not options.get("path", "").strip("/"):
            raise ConfigError("the Redis URL has no path: unix:///run/redis/redis.sock")
        endpoint = Endpoint(path=options["path"])
    else:
        endpoint = _endpoint(_authority(rest), _PORT)
        _check_database(urlsplit(url).path)
    _refuse_unknown(options, _PLAIN_OPTIONS | (_TLS_OPTIONS if scheme == "rediss" else frozenset()))
    return Address(
        endpoint, *_login(options), db=_db(options), tls=_tls_context(options) if scheme == "rediss" else None
    )


def _sentinel(rest: str) -> Address:
    authority, slash, tail = rest.partition("/")
    path, _, query = tail.partition("?")
    service = unquote(path)
    if not slash or not service or "/" in service:
        raise ConfigError("the Redis URL must end with the service's name: sentinel://host:26379,host2:26379/SERVICE")
    userinfo, at, _ = authority.rpartition("@")
    # redis-py's parser does not know Sentinel URLs, so it gets one host in place of the Sentinels.
    options = _options(f"redis://{userinfo}{at}sentinel?{query}")
    _refuse_unknown(options, _PLAIN_OPTIONS | _TLS_OPTIONS | _SENTINEL_OPTIONS)
    sentinels = tuple(_endpoint(each, _SENTINEL_PORT) for each in _authority(authority).split(","))
    return Address(
        Endpoint(),
        *_login(options),
        db=_db(options),
        tls=_tls_if_asked(options),
        sentinels=sentinels,
        service=service,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _cluster(rest: str) -> Address:
    authority = rest.partition("/")[0].partition("?")[0]
    userinfo, at, _ = authority.rpartition("@")
    # redis-py's parser takes one host, so it gets one in place of the nodes.
    options = _options(f"redis://{userinfo}{at}cluster?{rest.partition('?')[2]}")
    _refuse_unknown(options, _PLAIN_OPTIONS - {"db"} | _TLS_OPTIONS | _CLUSTER_OPTIONS)
    nodes = tuple(_endpoint(each, _PORT) for each in _authority(authority).split(","))
    return Address(Endpoint(), *_login(options), tls=_tls_if_asked(options), nodes=nodes)


def _tls_if_asked(options: dict[str, Any]) -> ssl.SSLContext | None:
    if (use_tls := str(options.get("ssl", "false")).lower()) not in {"true", "false"}:
        raise ConfigError("option `ssl` of the Redis URL must be true or false")
    return _tls_context(options) if use_tls == "true" else None


def _authority(rest: str) -> str:
    """`host:port`, without the user and the password."""
    for end in "/?":
        rest = rest.partition(end)[0]
    return rest.rpartition("@")[2]


def _endpoint(text: str, default_port: int) -> Endpoint:
    try:
        parts = urlsplit(f"//{text}")
        host, port = unquote(parts.hostname or ""), parts.port
        if not can_be_looked_up(host):
            raise ValueError(host)  # noqa: TRY301 - the URL is wrong in the same way as for the parser
    except ValueError:
        # The message does not repeat the text: if the password has a /, the text is a part of the password.
        raise ConfigError(
            "the Redis URL has no valid host:port (characters like / ? # @ in a password must be percent-encoded)"
        ) from None
    if port == 0 or (port is None and text.endswith(":")):
        raise ConfigError("the Redis URL has no valid port")
    return Endpoint(host or "localhost", port or default_port)


def _options(url: str) -> dict[str, Any]:
    repeated = [name for name, values in parse_qs(url.partition("?")[2]).items() if len(values) > 1]
    if repeated:
        raise ConfigError(f"option `{repeated[0][:40]}` is in the Redis URL twice; give it once")
    try:
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        name = str(error).partition("Invalid value for '")[2].partition("'")[0]
        if name:
            raise ConfigError(f"option `{name}` of the Redis URL has a value that is not valid") from None
        raise ConfigError(
            "the Redis URL has no valid host:port (characters like / ? # @ in a password must be percent-encoded)"
        ) from None


def _refuse_unknown(options: dict[str, Any], known: frozenset[str]) -> None:
    for name in sorted(set(options) - known - {"host", "port", "path", "connection_class"}):
        if name in _TLS_OPTIONS:
            raise ConfigError(f"option `{name}` of the Redis URL needs rediss://")
        raise ConfigError(f"the Redis URL has an unknown option `{name[:40]}`; known: {', '.join(sorted(known))}")


def _check_database(path: str) -> None:
    if path.strip("/") and not path.strip("/").isdecimal():
        raise ConfigError("the path of the Redis URL must be the number of a database, as in redis://host:6379/0")


def _db(options: dict[str, Any]) -> int:
    db = int(options.get("db", 0))
    if db < 0:
        raise ConfigError("option `db` of the Redis URL must not be negative")
    return db


def _login(options: dict[str, Any]) -> tuple[str | None, str | None]:
    username, password = options.get("username"), options.get("password")
    if username and not password:
        raise ConfigError("the Redis URL names a user without a password: redis://user:password@host")
    return username, password


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
        )
        match options.get("ssl_cert_reqs", "required"):
            case "required":
                context.check_hostname = bool(options.get("ssl_check_hostname", True))
            case "none":
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            case _:
                raise ConfigError("option `ssl_cert_reqs` of the Redis URL must be required or none")
        if (lowest := options.get("ssl_min_version")) is not None:
            context.minimum_version = ssl.TLSVersion(lowest)
        if (ciphers := options.get("ssl_ciphers")) is not None:
            context.set_ciphers(ciphers)
        if (certificate := options.get("ssl_certfile")) is not None:
            # The password is a function, so that OpenSSL never asks for it on the terminal.
            secret = options.get("ssl_password", "")
            context.load_cert_chain(certificate, options.get("ssl_keyfile"), lambda: secret)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ConfigError(f"the TLS options of the Redis URL cannot be used: {reason}") from None
    return context
