"""Login, TLS and Unix sockets. A failure of the first connect is one clear line."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import pytest
import trio

from llmactors.errors import OperatorError
from llmactors.redislink.errors import AccessDenied
from llmactors.redislink.link import RedisLink
from llmactors.redislink.settings import LinkSettings
from llmactors.testing.host import free_port
from llmactors.testing.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.integration

Running = Callable[[RedisLink], AbstractAsyncContextManager[RedisLink]]


async def _fails(url: str, settings: LinkSettings) -> str:
    with trio.fail_after(10), pytest.raises(OperatorError) as caught:
        await RedisLink(url, settings).run()
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert "s3cret" not in caught.value.message
    return caught.value.message


async def test_wrong_or_missing_password_is_refused(binary: str, running: Running, quick: LinkSettings) -> None:
    with redis_server(binary, appendfsync="no", requirepass="s3cret/@") as server:
        async with running(RedisLink(f"redis://:s3cret%2F%40@127.0.0.1:{server.port}", quick)) as link:
            assert await link.call("PING") == b"PONG"
        assert "needs a password" in await _fails(server.url, quick)
        patient = attrs.evolve(quick, wait_for_server_s=60.0)
        wrong = await _fails(f"redis://:s3cret@127.0.0.1:{server.port}", patient)
        assert wrong == f"Redis at 127.0.0.1:{server.port} does not accept the password"
        assert "of user ann" in await _fails(f"redis://ann:s3cret@127.0.0.1:{server.port}", quick)


async def test_user_with_few_rights_can_use_a_link(server: RedisServer, running: Running, quick: LinkSettings) -> None:
    with server.client() as observer:
        observer.execute_command("ACL", "SETUSER", "ann", "on", ">s3cret", "~mine:*", "+@read", "+@write", "+ping")
    async with running(RedisLink(f"redis://ann:s3cret@127.0.0.1:{server.port}", quick)) as link:
        assert await link.call("SET", "mine:k", 1) == b"OK"
        with pytest.raises(AccessDenied) as caught:
            await link.call("SET", "k", 1)
        assert caught.value.word == "NOPERM"
        await trio.sleep(quick.command_s * 2)
        assert await link.call("GET", "mine:k") == b"1"
        assert link.statistics().connects == 1
        assert link.statistics().run_id is None


async def test_link_uses_a_unix_socket(binary: str, tmp_path: Path, running: Running, quick: LinkSettings) -> None:
    path = tmp_path / "s"
    assert "No such file" in await _fails(f"unix://{path}", quick)
    with redis_server(binary, appendfsync="no", unixsocket=str(path)):
        async with running(RedisLink(f"unix://{path}?db=2", quick)) as link:
            assert await link.call("PING") == b"PONG"


async def test_no_server_at_the_address_is_one_line(quick: LinkSettings) -> None:
    port = free_port()
    assert await _fails(f"redis://127.0.0.1:{port}", quick) == (
        f"cannot connect to Redis at 127.0.0.1:{port}: Connection refused"
    )
    assert "unknown host" in await _fails("redis://no-such-host.invalid", quick)
    assert "database 99" in await _fails_with_database(quick)


async def _fails_with_database(quick: LinkSettings) -> str:
    with redis_server(appendfsync="no") as server:
        return await _fails(f"{server.url}/99", quick)


async def test_link_waits_for_a_server_that_starts_late(
    server: RedisServer, running: Running, quick: LinkSettings
) -> None:
    server.kill()
    patient = attrs.evolve(quick, wait_for_server_s=20.0)
    link = RedisLink(server.url, patient)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        with trio.move_on_after(0.2):
            await link.wait_up()
        assert not link.is_up
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(10):
            await link.wait_up()
        assert await link.call("PING") == b"PONG"
        nursery.cancel_scope.cancel()
    impatient = attrs.evolve(quick, wait_for_server_s=0.2)
    assert "refused" in await _fails(f"redis://127.0.0.1:{free_port()}", impatient)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, and its certificate for `localhost` only."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl program to make certificates with")
    place = tmp_path_factory.mktemp("tls")
    new = [openssl, "req", "-newkey", "rsa:2048", "-nodes", "-subj"]
    ca_use = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    (place / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    for command in (
        [*new, "/CN=test authority", "-x509", "-days", "2", *ca_use, "-keyout", "ca.key", "-out", "ca.crt"],
        [*new, "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"],
        [openssl, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", "names", "-out", "server.crt"],
    ):  # fmt: skip
        subprocess.run(command, cwd=place, check=True, capture_output=True)
    return place


@pytest.fixture
def tls_server(binary: str, certificates: Path) -> Iterator[tuple[RedisServer, int]]:
    """A server that also listens for TLS, and its TLS port."""
    tls_port = free_port()
    server = RedisServer(
        binary,
        appendfsync="no",
        tls_port=str(tls_port),
        tls_cert_file=str(certificates / "server.crt"),
        tls_key_file=str(certificates / "server.key"),
        tls_ca_cert_file=str(certificates / "ca.crt"),
        tls_auth_clients="no",
    )
    try:
        server.__enter__()
    except RuntimeError as error:
        if "tls" not in str(error).lower():
            raise
        pytest.skip(f"{Path(binary).name} was built without TLS")
    yield server, tls_port
    server.__exit__()


async def test_tls_certificate_is_verified(
    tls_server: tuple[RedisServer, int], certificates: Path, running: Running, quick: LinkSettings
) -> None:
    server, tls_port = tls_server
    ours = f"ssl_ca_certs={certificates / 'ca.crt'}"
    async with running(RedisLink(f"rediss://localhost:{tls_port}?{ours}", quick)) as link:
        value = b"x" * 3_000_000
        await link.call("SET", "k", value)
        assert await link.call("GET", "k") == value

        async def talk(number: int) -> None:
            assert await link.call("ECHO", number) == str(number).encode()

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(talk, number)
    assert "not trusted" in await _fails(f"rediss://localhost:{tls_port}", quick)
    assert "not trusted" in await _fails(f"rediss://127.0.0.1:{tls_port}?{ours}", quick)
    assert "TLS" in await _fails(f"rediss://localhost:{server.port}?{ours}", quick)
    assert "ended the connection" in await _fails(f"redis://localhost:{tls_port}", quick)
    loose = f"rediss://127.0.0.1:{tls_port}?{ours}&ssl_check_hostname=false"
    async with running(RedisLink(loose, quick)) as link:
        assert await link.call("PING") == b"PONG"
