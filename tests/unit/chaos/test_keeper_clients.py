"""The check of `tests/chaos/keeper`: what it says of answers that are not right."""

import pytest

from llmactors.backends.mock.oracle import sequence_hash, token_of
from tests.chaos.keeper.records import Answer, Outcome, Strike, fault_of_error
from tests.chaos.keeper.report import pauses
from tests.chaos.keeper.shapes import Oracle, all_shapes, templated

SHAPE = all_shapes(3)["chat stream"]


def answer_to(prompt: str, request_id: str, seqs: tuple[int, ...] = (1, 2, 3)) -> str:
    base = sequence_hash(f"user: {prompt}", None)
    events = [
        f'data: {{"id":"chatcmpl-{request_id}","created":17,"delta":"{token_of(base, seq).text}"}}\n\n' for seq in seqs
    ]
    return "".join(events) + "data: [DONE]\n\n"


@pytest.fixture
def oracle() -> Oracle:
    reference = answer_to("the reference prompt", "0" * 32)
    template = templated(SHAPE, "the reference prompt", 3, reference.encode())
    return Oracle({SHAPE.name: SHAPE}, {SHAPE.name: template})


def test_right_answer_has_no_fault(oracle: Oracle) -> None:
    found = answer_to("another prompt here", "f" * 32)
    assert not oracle.fault_of_body(SHAPE, "another prompt here", found)
    assert not oracle.fault_of_body(SHAPE, "another prompt here", ": keep-alive\n\n" + found)


@pytest.mark.parametrize(
    ("seqs", "kind"), [((1, 2), "lost"), ((1, 3), "lost"), ((1, 2, 2, 3), "repeated"), ((2, 1, 3), "wrong")]
)
def test_other_tokens_are_a_fault(oracle: Oracle, seqs: tuple[int, ...], kind: str) -> None:
    found = answer_to("another prompt here", "f" * 32, seqs)
    assert oracle.fault_of_body(SHAPE, "another prompt here", found).startswith(f"{kind}: ")


def test_every_changed_byte_is_a_fault(oracle: Oracle) -> None:
    found = answer_to("another prompt here", "f" * 32)
    differs = ["f" * 32, '"created":17']  # what may be another one in another answer
    for at in range(len(found)):
        if not any(found.rfind(text, max(0, at - len(text) + 1), at + len(text)) >= 0 for text in differs):
            changed = f"{found[:at]}{chr(ord(found[at]) ^ 1)}{found[at + 1 :]}"
            assert oracle.fault_of_body(SHAPE, "another prompt here", changed), f"byte {at}"


def test_answer_of_two_requests_is_a_fault(oracle: Oracle) -> None:
    one, other = (answer_to("another prompt here", sign * 32).split("\n\n") for sign in "ab")
    assert oracle.fault_of_body(SHAPE, "another prompt here", "\n\n".join(one[:2] + other[2:]))


def test_reference_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="token 3"):
        templated(SHAPE, "the reference prompt", 3, answer_to("the reference prompt", "0" * 32, (1, 2)).encode())


def test_refused_connection_is_no_cut() -> None:
    assert fault_of_error(ConnectionRefusedError()).startswith("refused: ")
    assert fault_of_error(ConnectionResetError()).startswith("cut: ")


def test_pause_is_the_silence_around_a_kill() -> None:
    outcome = Outcome(strikes=[Strike("kill -9", 0.5), Strike("kill -9", 1.5)])
    outcome.add(Answer("socket", "chat stream", [1.0, 1.2, 2.0, 2.2]))
    outcome.add(Answer("socket", "chat stream", [1.9, 2.1]))
    assert pauses(outcome.strikes, 0.2) == [pytest.approx(0.6)]
