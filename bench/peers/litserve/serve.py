"""LitServe with dynamic batching and streaming, as shown in the manual of LitServe.

One inference process and one API process are connected by ZeroMQ (`fast_queue`). The uvicorn of LitServe uses uvloop
and httptools, since both are installed. Batches are static: no request joins a batch that runs.
"""

import time
from collections.abc import Iterator
from typing import Any

import litserve

from bench.peers.work import Job, Model, StepSchedule, arguments, events


class MockApi(litserve.LitAPI):
    """The simulated model."""

    def __init__(self, model: Model) -> None:
        super().__init__(max_batch_size=model.slots, batch_timeout=model.window_s, api_path="/v1/generate", stream=True)
        self._step_s = model.step_s

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict[str, object]) -> Job:
        return Job.read(request)

    def batch(self, inputs: list[Job]) -> list[Job]:
        return inputs

    def predict(self, x: list[Job]) -> Iterator[list[str]]:
        longest = max(job.max_tokens for job in x)
        schedule = StepSchedule(self._step_s, time.monotonic())
        for seq in range(1, longest + 1):
            time.sleep(schedule.wait_s(time.monotonic()))
            yield [events(job, seq) if seq <= job.max_tokens else "" for job in x]

    def unbatch(self, output: Iterator[list[str]]) -> Iterator[list[str]]:
        yield from output

    def encode_response(self, output: Any) -> Any:  # LitServe passes this annotation to FastAPI
        yield from output


class UnbatchedApi(MockApi):
    """The simulated model with one slot, for which LitServe passes one input instead of a list."""

    def predict(self, x: Job) -> Iterator[str]:  # type: ignore[override]
        for (event,) in super().predict([x]):
            yield event


def main() -> None:
    given = arguments("LitServe.")
    kind = MockApi if given.model.slots > 1 else UnbatchedApi
    server = litserve.LitServer(kind(given.model), accelerator="cpu", devices=1, timeout=False, fast_queue=True)
    server.run(
        host=given.host,
        port=given.port,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
