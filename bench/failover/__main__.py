"""Plays failoverbench's sixteen faults against llmactors: `python -m bench.failover [--profile full] [--kills]`."""

import argparse

import httpx
import trio

from bench.failover.kills import Victim, play_with_kills
from bench.failover.play import Played, models, play_together
from bench.failover.profiles import FULL, PROFILES, Profile
from bench.failover.provider import running_provider
from bench.failover.scorecard import scorecard
from llmactors.testing.node import NodeProcess

LIMITS_S = {"llmactors": 30.0, "llmactors, 10 s for a token": 10.0}
"""How long our rows wait for a token: first as long as failoverbench has every system wait, then as long as its
reference client waits."""
_VICTIMS: tuple[Victim, ...] = ("worker", "gateway")


def options(limit_s: float, profile: Profile) -> str:
    """The options of our upstreams. A `Retry-After` of as many seconds is waited for."""
    seconds = f"{profile.scaled(limit_s):g}"
    return f"first_s={seconds},silence_s={seconds},retry_after_s={seconds},continue=chat"


async def _row(limit_s: float, profile: Profile) -> list[Played]:
    async with running_provider(profile) as provider:
        served = models(provider.url, options(limit_s, profile)).items()
        arguments = [part for name, spec in served for part in ("--model", f"{name}={spec}")]
        with NodeProcess(*arguments, "--bind", "127.0.0.1:0") as node:
            url = await trio.to_thread.run_sync(node.wait_ready)
            async with httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as client:
                return await play_together(client, provider, profile)


async def _rows_with_kills(profile: Profile) -> dict[str, list[Played]]:
    rows = {}
    for victim in _VICTIMS:
        async with running_provider(profile) as provider:
            rows[f"llmactors, kill -9 of the {victim}"] = await play_with_kills(
                provider, options(LIMITS_S["llmactors, 10 s for a token"], profile), profile, victim
            )
    return rows


async def _main(profile: Profile, *, kills: bool) -> None:
    rows = await _rows_with_kills(profile) if kills else {}
    if not kills:
        for name, limit_s in LIMITS_S.items():
            rows[name] = await _row(limit_s, profile)
    print(scorecard(rows))


def main() -> None:
    """Reads the arguments, plays, and prints the scorecard."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default=FULL.name, help="how long the faults are")
    parser.add_argument("--kills", action="store_true", help="kill a worker or a gateway in each fault, over Redis")
    chosen = parser.parse_args()
    trio.run(lambda: _main(PROFILES[chosen.profile], kills=chosen.kills))


if __name__ == "__main__":
    main()
