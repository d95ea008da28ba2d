from llmactors.backends.llama.stall import StallWatch


def test_silence_counts_only_while_a_sequence_waits() -> None:
    watch = StallWatch(stall_s=10, slowest_prompt_tokens_per_s=10)
    assert not watch.stalled(1000)
    with watch.wait(lambda: 0.0):
        assert not watch.stalled(10)
        assert watch.stalled(11)
    assert not watch.stalled(1000)


def test_output_to_any_sequence_ends_the_silence() -> None:
    watch = StallWatch(stall_s=10, slowest_prompt_tokens_per_s=10)
    with watch.wait(lambda: 0.0):
        with watch.wait(lambda: 9.0):
            pass
        assert not watch.stalled(19)
        assert watch.stalled(20)


def test_unread_prompts_get_more_time() -> None:
    watch = StallWatch(stall_s=10, slowest_prompt_tokens_per_s=10)
    with watch.wait(lambda: 0.0, prompt_tokens=100):
        assert not watch.stalled(20)
        assert watch.stalled(21)
