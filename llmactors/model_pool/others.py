"""What a worker knows of the models of other workers."""

from typing import Protocol


class OtherWorkers(Protocol):
    """The other workers of the cluster. All answers are hints, which may be a second old."""

    def serving(self) -> frozenset[str]:
        """The models that other workers have in memory or load."""
        ...

    def is_ready(self, model: str) -> bool:
        """Whether another worker has `model` in memory and works on requests."""
        ...

    def may_serve(self, model: str) -> bool:
        """Whether another worker has `model`, or can load it as far as that worker knows."""
        ...

    async def reserve(self, model: str, for_s: float) -> bool:
        """Reserves the load of `model` for this worker for `for_s` seconds. False while another worker has the load."""
        ...


class NoOtherWorkers:
    """In a single process there are none."""

    def serving(self) -> frozenset[str]:
        return frozenset()

    def is_ready(self, model: str) -> bool:  # noqa: ARG002 - as the Protocol has it
        return False

    def may_serve(self, model: str) -> bool:  # noqa: ARG002 - as the Protocol has it
        return False

    async def reserve(self, model: str, for_s: float) -> bool:  # noqa: ARG002 - as the Protocol has it
        return True
