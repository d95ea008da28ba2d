"""mosec with dynamic batching and server-sent events, as shown in the manual of mosec.

A Rust HTTP server passes batches to one Python process. Events of mosec have no id and cannot be named, so the payload
has the name of the event. Batches are static: no request joins a batch that runs.
"""

import os
import sys
import time

from mosec import Server, SSEWorker

from bench.peers.work import Job, Model, StepSchedule, arguments, done_data, token_data

MODEL = "BENCH_MODEL"
"""The environment variable with the model. mosec starts the worker process, so arguments cannot be passed."""
TIMEOUT_S = 600
MAX_QUEUED = 128
"""Further requests are refused with status 429."""


class MockWorker(SSEWorker):
    """The simulated model."""

    def __init__(self) -> None:
        self._step_s = Model.parse(os.environ[MODEL]).step_s

    def forward(self, data: list[dict[str, object]]) -> list[str]:  # type: ignore[override]
        jobs = [Job.read(body) for body in data]
        longest = max(job.max_tokens for job in jobs)
        schedule = StepSchedule(self._step_s, time.monotonic())
        for seq in range(1, longest + 1):
            time.sleep(schedule.wait_s(time.monotonic()))
            for index, job in enumerate(jobs):
                if seq <= job.max_tokens:
                    self.send_stream_event(token_data(job, seq), index)
                if seq == job.max_tokens:
                    self.send_stream_event(done_data(job), index)
        return [""] * len(jobs)


class UnbatchedWorker(MockWorker):
    """The simulated model with one slot, for which mosec passes one input instead of a list."""

    def forward(self, data: dict[str, object]) -> str:  # type: ignore[override]
        return super().forward([data])[0]


def main() -> None:
    given = arguments("mosec.")
    model: Model = given.model
    os.environ[MODEL] = f"mock:step_ms={model.step_s * 1000},slots={model.slots}"
    # mosec reads its settings from `sys.argv`.
    sys.argv[1:] = ["--address", given.host, "--port", str(given.port), "--timeout", str(TIMEOUT_S * 1000)]
    sys.argv += ["--log-level", "error", "--capacity", str(model.slots + MAX_QUEUED)]
    server = Server()
    server.append_worker(
        MockWorker if model.slots > 1 else UnbatchedWorker,
        max_batch_size=model.slots,
        max_wait_time=max(1, round(model.window_s * 1000)),
        timeout=TIMEOUT_S,
        route="/v1/generate",
    )
    server.run()


if __name__ == "__main__":
    main()
