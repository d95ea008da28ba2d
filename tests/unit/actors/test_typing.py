"""What a type checker knows of addresses and answers.

mypy runs over this file as over all others, and reports a `type: ignore` that ignores nothing. So each of them below is
a test that the line is an error. The functions with such lines are never called.
"""

from typing import assert_type

import attrs

from llmactors.actors import Actor, ActorRef, ActorSpec, Question


@attrs.frozen
class HowMany(Question[int]):
    """Is answered with a number."""


@attrs.frozen
class Add:
    """Has no answer."""

    amount: int


class Counter(Actor[HowMany | Add]):
    """Takes two kinds of messages."""

    async def on_message(self, message: HowMany | Add) -> object:
        return message.amount if isinstance(message, Add) else 0


async def _answers_have_types() -> None:
    counter = ActorSpec("counter", Counter)
    assert_type(counter.ref, ActorRef[HowMany | Add])
    assert_type(await counter.ref.ask(HowMany()), int)
    assert_type(await counter.ref.ask(Add(1)), object)


async def _wrong_messages_are_errors(ref: ActorRef[HowMany | Add], fewer: ActorRef[Add]) -> None:
    await ref.tell(Add(1))
    await ref.tell("add 1")  # type: ignore[arg-type]
    ref.tell_nowait(3)  # type: ignore[arg-type]
    await ref.ask("how many")  # type: ignore[call-overload]
    fewer.tell_nowait(HowMany())  # type: ignore[arg-type]


def _address_of_more_messages_serves_for_fewer(ref: ActorRef[HowMany | Add], fewer: ActorRef[Add]) -> None:
    takes_add: ActorRef[Add] = ref
    takes_both: ActorRef[HowMany | Add] = fewer  # type: ignore[assignment]
    del takes_add, takes_both


def test_question_adds_nothing_to_a_message() -> None:
    assert not hasattr(HowMany(), "__dict__")
    assert HowMany() == HowMany()
