"""The mock follows the stepwise Protocol, continues answers exactly, and fails as its settings say."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from llmactors import errors
from llmactors.backends.base import Batching, Capabilities, Job, StepwiseBackend, Takeover
from llmactors.backends.mock.backend import FaultState, MockBackend, MockCrash, MockSettings
from llmactors.backends.mock.oracle import MockSequence, mock_text, mock_tokens
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta


def ask(prompt: str = "a prompt", **fields: object) -> GenerateRequest:
    return GenerateRequest(id="r", model="mock", prompt=prompt, **fields)  # type: ignore[arg-type]


def job(request: GenerateRequest, tokens: Sequence[TokenDelta] = (), key: tuple[str, int] = ("r", 1)) -> Job:
    return Job(key, request, tuple(tokens))


async def rest_of(backend: MockBackend, key: tuple[str, int] = ("r", 1)) -> tuple[list[TokenDelta], FinishReason, int]:
    """Steps until the sequence `key` has ended, and returns its tokens, finish reason and prompt tokens."""
    deltas: list[TokenDelta] = []
    while True:
        for output in await backend.step():
            if output.key == key:
                deltas += output.deltas
                if output.finish is not None:
                    return deltas, output.finish, output.prompt_tokens


async def test_mock_is_a_stepwise_backend() -> None:
    backend = MockBackend(MockSettings(slots=3, context=100, batching=Batching.STATIC))
    assert isinstance(backend, StepwiseBackend)
    await backend.start()
    assert backend.capabilities == Capabilities(
        3,
        100,
        Takeover.EXACT,
        Batching.STATIC,
        frozenset(
            {
                "prompt_ids",
                "ignore_eos",
                "constraint",
                "tools",
                "inputs",
                "dimensions",
                "query",
                "top_logprobs",
                "min_tokens",
            }
        ),
        tool_format="hermes",
    )
    await backend.check()
    await backend.close()
    assert repr(backend) == "<MockBackend 0/3 slots>"


@given(data=st.data(), seed=st.integers(0, 500), max_tokens=st.integers(1, 40), eos_one_in=st.sampled_from([0, 5, 30]))
def test_takeover_from_any_token_continues_exactly(
    data: st.DataObject, seed: int, max_tokens: int, eos_one_in: int
) -> None:
    """Also inside a possible stop string, and where the log lacks only the terminal event."""
    plain = mock_text(ask(seed=seed, max_tokens=max_tokens))
    start = data.draw(st.integers(0, len(plain) - 1), label="stop starts at")
    stops = data.draw(st.sampled_from([(), (plain[start : start + 7],), ("absent", plain[start : start + 20])]))
    request = ask(seed=seed, max_tokens=max_tokens, stop=stops)
    whole, finish = mock_tokens(request, eos_one_in=eos_one_in)
    taken = data.draw(st.integers(0, len(whole)), label="taken")

    async def main() -> None:
        backend = MockBackend(MockSettings(eos_one_in=eos_one_in))
        await backend.admit(job(request, whole[:taken]))
        assert await rest_of(backend) == (list(whole[taken:]), finish, 2)

    trio.run(main)


async def test_sequences_that_share_steps_get_their_own_answers() -> None:
    backend = MockBackend()
    requests = {(str(number), 1): ask(f"prompt {number}", max_tokens=number) for number in range(1, 60)}
    for key, request in requests.items():
        await backend.admit(job(request, key=key))
    texts = dict.fromkeys(requests, "")
    steps = 0
    while steps < 59:
        steps += 1
        for output in await backend.step():
            texts[output.key] += "".join(delta.text for delta in output.deltas)
            assert (output.finish == "length") == (steps == requests[output.key].max_tokens)
    assert texts == {key: mock_text(request) for key, request in requests.items()}


async def test_evicted_sequence_is_silent_and_frees_its_slot() -> None:
    backend = MockBackend(MockSettings(slots=1))
    await backend.admit(job(ask()))
    await backend.step()
    backend.evict(("r", 1))
    backend.evict(("r", 1))
    await backend.admit(job(ask(), key=("r", 2)))
    assert [output.key for output in await backend.step()] == [("r", 2)]


async def test_refusal_of_a_long_prompt_has_the_numbers() -> None:
    backend = MockBackend(MockSettings(context=10))
    await backend.admit(job(ask("two words", max_tokens=8)))
    with pytest.raises(errors.InvalidRequest, match=r"2 \+ 9 tokens.* 10 tokens"):
        await backend.admit(job(ask("two words", max_tokens=9), key=("s", 1)))


async def test_wrong_calls_are_refused() -> None:
    backend = MockBackend(MockSettings(slots=2))
    await backend.admit(job(ask()))
    with pytest.raises(RuntimeError, match="admitted already"):
        await backend.admit(job(ask()))
    await backend.admit(job(ask(), key=("s", 1)))
    with pytest.raises(RuntimeError, match="all 2 slots are taken"):
        await backend.admit(job(ask(), key=("t", 1)))


async def test_running_static_batch_takes_no_sequence() -> None:
    backend = MockBackend(MockSettings(batching=Batching.STATIC))
    await backend.admit(job(ask(max_tokens=2)))
    with pytest.raises(RuntimeError, match="the same max_tokens"):
        await backend.admit(job(ask(max_tokens=3), key=("s", 1)))
    await backend.admit(job(ask(max_tokens=2), key=("s", 1)))
    await backend.step()
    with pytest.raises(RuntimeError, match="a static batch runs"):
        await backend.admit(job(ask(max_tokens=2), key=("t", 1)))
    await backend.step()
    await backend.admit(job(ask(max_tokens=3), key=("t", 1)))


async def test_crash_comes_at_its_token_and_hides_that_step() -> None:
    backend = MockBackend(MockSettings(crash_at=3))
    await backend.admit(job(ask()))
    assert [len(await backend.step()) for _ in range(2)] == [1, 1]
    with pytest.raises(MockCrash, match="token 3"):
        await backend.step()
    with pytest.raises(MockCrash, match="token 3"):
        await backend.check()


async def test_held_sequence_goes_on_only_after_a_takeover(autojump_clock: MockClock) -> None:
    request = ask(max_tokens=7)
    whole, finish = mock_tokens(request)
    logged: list[TokenDelta] = []
    for held_at in (3, 6):
        backend = MockBackend(MockSettings(hold_every=3))
        await backend.admit(job(request, logged))
        for _ in range(5):
            for output in await backend.step():
                logged += output.deltas
                assert output.finish is None
        assert logged == list(whole[:held_at])
    backend = MockBackend(MockSettings(hold_every=3))
    await backend.admit(job(request, logged))
    assert await rest_of(backend) == ([whole[-1]], finish, 2)


async def test_crash_repeats_at_a_takeover_before_its_token() -> None:
    whole, _ = mock_tokens(ask())
    for taken, crashes in ((2, True), (3, False)):
        backend = MockBackend(MockSettings(crash_at=3))
        await backend.admit(job(ask(), whole[:taken]))
        if crashes:
            with pytest.raises(MockCrash):
                await backend.step()
        else:
            await rest_of(backend)


async def test_faults_concern_only_the_chosen_prompts() -> None:
    backend = MockBackend(MockSettings(crash_at=1, crash_prompt="poison"))
    await backend.admit(job(ask("good")))
    await backend.step()
    await backend.admit(job(ask("some poison here"), key=("s", 1)))
    with pytest.raises(MockCrash):
        await backend.step()


async def test_crashes_are_counted_across_incarnations() -> None:
    settings, faults = MockSettings(crash_at=1, crash_times=2), FaultState()
    outcomes = []
    for _ in range(3):
        backend = MockBackend(settings, faults)
        await backend.admit(job(ask(max_tokens=1)))
        try:
            await rest_of(backend)
            outcomes.append("whole")
        except MockCrash:
            outcomes.append("crash")
    assert outcomes == ["crash", "crash", "whole"]
    assert faults == FaultState(faults=2)


async def test_failed_starts_are_counted_across_incarnations() -> None:
    settings, faults = MockSettings(start_fail=2), FaultState()
    for number in (1, 2):
        with pytest.raises(MockCrash, match=f"start {number} of 2"):
            await MockBackend(settings, faults).start()
    await MockBackend(settings, faults).start()


async def test_refused_prompt_fails_alone() -> None:
    backend = MockBackend(MockSettings(refuse="forbidden"))
    with pytest.raises(errors.BackendFailed) as caught:
        await backend.admit(job(ask("a forbidden thing")))
    assert "thing" not in caught.value.message
    await backend.admit(job(ask("a fine thing")))
    await backend.check()


def test_answer_does_not_end_before_its_least_length() -> None:
    """Neither by chance nor at a stop string; a stop string that comes later still ends the answer."""
    short, _ = mock_tokens(ask(max_tokens=40), eos_one_in=3)
    longer, _ = mock_tokens(ask(max_tokens=40, min_tokens=len(short) + 5), eos_one_in=3)
    assert len(longer) >= len(short) + 5
    assert longer[: len(short)] == short
    whole = [delta.text for delta in mock_tokens(ask(max_tokens=12))[0]]
    stops = (whole[2], whole[9])
    assert mock_text(ask(max_tokens=12, stop=stops)) == "".join(whole[:2])
    assert mock_text(ask(max_tokens=12, stop=stops, min_tokens=5)) == "".join(whole[:9])


@given(at=st.integers(1, 11), min_tokens=st.integers(0, 12))
def test_takeover_keeps_the_least_length(at: int, min_tokens: int) -> None:
    stops = (mock_tokens(ask(max_tokens=12))[0][3].text,)
    request = ask(max_tokens=12, stop=stops, min_tokens=min_tokens)
    deltas, finish = mock_tokens(request)
    sequence = MockSequence(request, taken=min(at, len(deltas)))
    rest = []
    while sequence.finish is None:
        rest.append(sequence.advance())
    assert (*deltas[: sequence.seq - len(rest)], *rest) == deltas
    assert sequence.finish == finish
