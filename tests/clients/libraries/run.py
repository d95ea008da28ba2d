"""Try client libraries against real nodes, and print a table: `python -m tests.clients.libraries.run [NAME…]`.

Each library is installed from PyPI or npm into an environment of its own in the cache directory of the user. Only the
clients whose names contain one of the NAMEs are tried; without a NAME, all of them. The program exits with 1 if an
attempt failed that `table.py` does not name as a known failure.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from llmactors.testing.node import NodeProcess
from tests.clients.libraries.environments import command_of, environment_of, installed_versions
from tests.clients.libraries.results import Row, attempts_of, table
from tests.clients.libraries.table import CLIENTS, FRAGILE, Client

_SETTINGS = {
    # No library sends what it did, or asks for lists, elsewhere.
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONUNBUFFERED": "1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}
_SECRETS = ("OPENAI_", "ANTHROPIC_", "AZURE_")


def _environ(urls: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith((*_SECRETS, "PYTHONPATH"))}
    return {**own, **_SETTINGS, **urls}


def try_client(client: Client, urls: Mapping[str, str]) -> Row:
    """Runs the script of one client, and returns its row."""
    try:
        home = environment_of(client)
    except RuntimeError as error:
        return Row(client, "not installed", (), str(error))
    versions = installed_versions(client, home)
    print(f"trying {client.name}: {versions}", file=sys.stderr, flush=True)
    wanted = {name: url for name, url in urls.items() if name == "MOCK_URL" or client.needs_model}
    command = command_of(client, home)
    try:
        done = subprocess.run(
            command,
            env=_environ(wanted),
            cwd=home,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=client.within_s,
            check=False,
        )
        output, failure = done.stdout, ""
        if done.returncode:
            failure = f"the script exited with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else ""
        failure = f"the script did not end within {client.within_s} s"
    attempts = attempts_of(output)
    return Row(client, versions, attempts, failure or ("" if attempts else "the script made no attempt"))


def main(names: Sequence[str]) -> int:
    """Tries the clients, prints the table, and returns the exit code."""
    chosen = [client for client in CLIENTS if not names or any(name in client.name for name in names)]
    if not chosen:
        print(
            f"there is no client {' or '.join(names)}; there are {', '.join(c.name for c in CLIENTS)}", file=sys.stderr
        )
        return 2
    fragile = [f"fragile-{name}=mock:crash_at=20,crash_times=1" for name in FRAGILE]
    flags = [flag for model in ("mock", "agent=mock:eos_one_in=16", *fragile) for flag in ("--model", model)]
    with NodeProcess("serve", *flags, "--bind", "127.0.0.1:0") as mock:
        urls = {"MOCK_URL": mock.wait_ready()}
        rows = [try_client(client, urls) for client in chosen if not client.needs_model]
        if needing := [client for client in chosen if client.needs_model]:
            with NodeProcess("serve", "--bind", "127.0.0.1:0") as real:
                urls |= {"MODEL_URL": real.wait_ready(), "MODEL_PID": str(real.process.pid)}
                rows += [try_client(client, urls) for client in needing]
        ended = mock.process.poll() is not None
    rows.sort(key=lambda row: chosen.index(row.client))
    print(table(rows))
    unexpected = [line for row in rows for line in row.unexpected()]
    if ended:
        unexpected.append("the node of the mock ended before the last client")
    for line in unexpected:
        print(f"\nUNEXPECTED: {line}")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
