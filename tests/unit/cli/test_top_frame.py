"""What `top` draws, at each width, and while its node is away."""

import io

import pytest
from rich.console import Console, RenderableType

from llmactors.cli.top import Picture
from llmactors.cli.top_frame import FrameSize, frame
from llmactors.cli.top_sources import Rates, Snapshot
from llmactors.errors import Unavailable
from llmactors.gateway.operating.nodes import ModelRow, NodeRow
from llmactors.gateway.operating.requests import QueueRow, RequestRow

IDS = [f"req_{number:032x}" for number in range(40)]
SNAPSHOT = Snapshot(
    source="http://node:8000",
    unix_s=1_000_000.0,
    nodes=[
        NodeRow(
            name="worker-1",
            roles=("worker",),
            version="0.1.0",
            url="http://10.0.0.1:9100",
            started_unix_s=1_000_000.0 - 3700,
            draining=False,
            cordoned=False,
            models=("smollm2-135m",),
            slots=8,
            slots_busy=8,
            followed_streams=0,
            loop_stall_s=0.012,
        )
    ],
    models=[
        ModelRow(
            name="smollm2-135m",
            state="ready",
            detail="",
            workers=1,
            slots=8,
            slots_busy=8,
            waiting=32,
            oldest_wait_s=75.0,
            tokens_per_s=123.4,
        )
    ],
    requests=[
        RequestRow(
            id=request_id,
            key_id="k",
            tenant="a tenant \x1b[31mof a long name",
            model="smollm2-135m",
            class_=1,
            state="running" if number < 8 else "queued",
            age_s=80.0,
            tokens=12,
            attempts=1,
            epoch=1,
            worker="worker-1" if number < 8 else None,
            takeovers=0,
        )
        for number, request_id in enumerate(IDS)
    ],
    requests_total=40,
    queue=[QueueRow(model="smollm2-135m", class_=1, tenant="t", waiting=32, cost_tokens=900.0, oldest_wait_s=75.0)],
    rates=Rates(requests_per_s=1.5, ttft_p50_s=0.25, ttft_p99_s=4.0),
)


def drawn(picture: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(picture)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 40), (200, 100)])
def test_frame_fits_the_terminal_and_cuts_no_id(width: int, height: int) -> None:
    lines = drawn(frame(SNAPSHOT, FrameSize(width, height)), width).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    shown = [word for line in lines for word in line.split() if word.startswith("req_")]
    assert shown == IDS[: len(shown)]
    assert len(shown) == 40 or f"… and {40 - len(shown)} more" in "\n".join(lines)
    assert shown


def test_frame_has_more_columns_where_there_is_room() -> None:
    narrow, wide = (drawn(frame(SNAPSHOT, FrameSize(width, None)), width) for width in (80, 160))
    assert "running 8  waiting 32" in narrow
    assert "first token 250ms p50 4.0s p99" in narrow
    assert "worker-1" in narrow
    assert ("http://10.0.0.1:9100" in narrow, "http://10.0.0.1:9100" in wide) == (False, True)
    assert "between tokens" in wide
    assert "1h1m" in narrow


def test_narrow_frame_cuts_neither_figures_nor_states() -> None:
    narrow = drawn(frame(SNAPSHOT, FrameSize(80, None)), 80)
    [titles] = [line.split() for line in narrow.splitlines() if line.startswith("request ")]
    assert titles == ["request", "model", "tenant", "state", "age", "tokens"]
    states = [line.split()[-3] for line in narrow.splitlines() if line.startswith("req_")]
    assert states == ["running"] * 8 + ["queued"] * 32


def test_names_cannot_control_the_terminal() -> None:
    assert "\x1b" not in drawn(frame(SNAPSHOT, FrameSize(160, None)), 160)


def test_worker_without_a_queue_is_drawn() -> None:
    seen = drawn(frame(Snapshot(source="w", unix_s=0.0, nodes=SNAPSHOT.nodes), FrameSize(80, 24)), 80)
    assert "worker-1" in seen
    assert "waiting" not in seen


async def test_lost_node_is_shown_with_its_last_figures() -> None:
    class Source:
        looks = 0

        async def look(self) -> Snapshot:
            self.looks += 1
            if self.looks > 1:
                raise Unavailable("no node answers at http://node:8000")
            return SNAPSHOT

    console = Console(width=80, height=24)
    picture = Picture(Source())
    await picture.draw(console)
    seen = drawn(await picture.draw(console), 80)
    assert "for 0 s: no node answers at http://node:8000" in seen
    assert "worker-1" in seen
