"""A model string gives settings, or an error of one line."""

import pytest

from llmactors import errors
from llmactors.backends.base import Batching
from llmactors.backends.mock.settings import MockSettings


def test_values_of_every_kind_are_read() -> None:
    text = " step_ms=2.5, slots=8,batching=static,,crash_prompt=kill me = now,crash_times=2 ,"
    assert MockSettings.parse(text) == MockSettings(
        step_ms=2.5, slots=8, batching=Batching.STATIC, crash_prompt="kill me = now", crash_times=2
    )


@pytest.mark.parametrize("text", ["", "  ", ","])
def test_empty_text_means_the_defaults(text: str) -> None:
    assert MockSettings.parse(text) == MockSettings()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stepms=20", "mock setting 'stepms=20': there is no 'stepms'"),
        ("slots=8,slots=9", "mock setting 'slots=9': slots is given twice"),
        ("slots", "mock setting 'slots': it has no value"),
        ("slots=0", "mock setting 'slots=0': Expected `int` >= 1"),
        ("slots=many", "mock setting 'slots=many': Expected `int`"),
        ("step_ms=-1", "mock setting 'step_ms=-1': Expected `float` >= 0"),
        ("step_ms=nan", "mock setting 'step_ms=nan': Expected `float`"),
        ("step_ms=inf", "mock setting 'step_ms=inf': Expected `float`"),
        ("batching=often", "mock setting 'batching=often': Invalid enum value 'often'"),
        ("crash_at=-1", "mock setting 'crash_at=-1': Expected `int` >= 0"),
    ],
)
def test_error_names_the_wrong_and_the_valid_settings(text: str, complaint: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        MockSettings.parse(text)
    assert caught.value.message.startswith(complaint)
    assert "valid are slots, context, batching" in caught.value.message
    assert "\n" not in caught.value.message
