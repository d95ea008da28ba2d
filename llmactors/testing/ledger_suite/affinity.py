"""Promises about conversations: which worker a request prefers, for how long, and at what cost to others."""

# ruff: noqa: S101

from typing import Any

import trio

from llmactors.ledger import ReleaseHow
from llmactors.messages import GenerateRequest
from llmactors.testing.ledger_suite.rig import Rig, finished, request


def turn(request_id: str, conversation: str = "c", **fields: Any) -> GenerateRequest:
    """A later request of a conversation."""
    return request(request_id, conversation=conversation, follows_up=True, **fields)


class AffinitySuite:
    """A request that follows up prefers the worker that had its conversation, for at most `affinity_wait_s`."""

    async def test_next_turn_waits_for_the_worker_of_the_last(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(turn("next"))
        assert await rig.claim("other", slots=4) == []
        assert await self._claimed(rig, "home", 4) == ["next"]

    async def test_preference_ends_after_its_time(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(turn("next"))
        assert await rig.claim("other") == []
        await rig.pass_time(rig.settings.affinity_wait_s)
        assert await self._claimed(rig, "other") == ["next"]
        # The conversation is at the other worker from now on.
        await rig.ledger.cancel("next")
        await rig.claim("other")
        await rig.submit(turn("last"))
        assert await rig.claim("home") == []
        assert await self._claimed(rig, "other") == ["last"]

    async def test_waiting_worker_looks_again_when_it_ends(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(turn("next"))
        assert await rig.claim("other") == []
        await rig.pass_time(rig.settings.affinity_wait_s)
        with trio.fail_after(4 * rig.settings.lease_s):
            while not await rig.claim("other"):
                await rig.ledger.wait_work("other", "m")

    async def test_worker_without_room_is_not_waited_for(self, rig: Rig) -> None:
        await self._talk(rig, "home", room=0)
        await rig.submit(turn("next"))
        assert await self._claimed(rig, "other") == ["next"]

    async def test_as_many_are_passed_over_as_have_room(self, rig: Rig) -> None:
        for each in range(3):
            await self._talk(rig, "home", room=2, conversation=f"c{each}")
        await rig.submit(*(turn(f"next{each}", f"c{each}") for each in range(3)))
        assert await self._claimed(rig, "other", 4) == ["next2"]
        assert await self._claimed(rig, "home", 4) == ["next0", "next1"]

    async def test_much_busier_worker_is_not_waited_for(self, rig: Rig) -> None:
        lead = rig.settings.affinity_lead_max
        await rig.submit(*(request(f"r{each}", conversation="c") for each in range(lead + 1)))
        assert len(await rig.claim("home", slots=2 * lead)) == lead + 1
        await rig.submit(turn("next"))
        assert await self._claimed(rig, "other") == ["next"]

    async def test_worker_that_left_is_not_waited_for(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.ledger.leave("home")
        await rig.submit(turn("next"))
        assert await self._claimed(rig, "other") == ["next"]

    async def test_worker_that_handed_back_has_no_room(self, rig: Rig) -> None:
        await rig.submit(request("first", conversation="c"))
        [claim] = await rig.claim("home", slots=4)
        await rig.ledger.release("first", claim.epoch, ReleaseHow.SILENT)
        await rig.submit(turn("next"))
        assert await self._claimed(rig, "other", 4) == ["first", "next"]

    async def test_first_turn_prefers_nobody(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(request("same", conversation="c"))
        assert await self._claimed(rig, "other") == ["same"]

    async def test_conversation_is_of_one_model(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(turn("next", model="n"))
        assert await self._claimed(rig, "other", model="n") == ["next"]

    async def test_passed_over_request_keeps_its_place(self, rig: Rig) -> None:
        await self._talk(rig, "home")
        await rig.submit(
            turn("a0", tenant="a"), *(request(f"{name}1", tenant=name) for name in "ab"), request("a2", tenant="c")
        )
        assert await self._claimed(rig, "other", 2) == ["b1", "a2"]
        assert await self._claimed(rig, "home", 4) == ["a0", "a1"]

    async def test_passing_over_gives_no_tenant_an_advantage(self, rig: Rig) -> None:
        """Each tenant is served as often as if nobody had preferred a worker."""
        await self._talk(rig, "home")
        for each in range(3):
            await rig.submit(turn(f"a{each}", tenant="a"), request(f"b{each}", tenant="b"))
        assert await self._claimed(rig, "other", 2) == ["b0", "b1"]
        assert await self._claimed(rig, "home", 4) == ["a0", "a1", "a2", "b2"]

    async def test_passing_over_costs_a_class_no_turn(self, rig: Rig) -> None:
        """A class that may go first because it was passed over too often still goes first."""
        await self._talk(rig, "home", room=1)
        await rig.submit(turn("late", priority=2), request("soon", priority=0))
        served = []
        for number in range(17):
            served += await self._claimed(rig, "other")
            await rig.submit(request(f"soon{number}", priority=0))
        assert served == ["soon", *(f"soon{number}" for number in range(16))]
        assert await self._claimed(rig, "home") == ["late"]

    async def test_conversations_are_bounded(self, rig: Rig) -> None:
        most = rig.settings.conversations_max
        for each in range(2 * most):
            await self._talk(rig, "home", conversation=f"c{each}")
        passed_over = 0
        for each in reversed(range(2 * most)):
            await rig.submit(turn(f"next{each}", f"c{each}"))
            passed_over += not await rig.claim("other")
            await rig.ledger.cancel(f"next{each}")
        assert 0 < passed_over <= most

    async def _talk(self, rig: Rig, worker: str, *, room: int = 3, conversation: str = "c") -> None:
        """The first request of a conversation: the worker ends it, and has room for `room` more requests."""
        name = f"first of {conversation}"
        await rig.submit(request(name, conversation=conversation))
        [claim] = await rig.claim(worker, slots=1 + room)
        await rig.ledger.finish(name, claim.epoch, finished(0))

    async def _claimed(self, rig: Rig, worker: str, slots: int = 1, model: str = "m") -> list[str]:
        return [claim.request.id for claim in await rig.claim(worker, slots, model)]
