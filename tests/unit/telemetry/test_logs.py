"""Each event is one log line in one of two forms, without anything that a client wrote."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from llmactors import errors
from llmactors.messages import GenerateRequest
from llmactors.telemetry import configure_logging, get_logger

SECRET = "s3cr3t"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fails(prompt: str) -> None:
    raise ValueError("it broke")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("llmactors")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_line_is_one_json_object(stream: io.StringIO) -> None:
    get_logger("llmactors.batcher").info("claimed", slots=3, worker="wörker")
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "claimed", "level": "info", "logger": "llmactors.batcher", "slots": 3, "worker": "wörker"}


def test_logger_made_before_configuration_works() -> None:
    log = get_logger("llmactors.early")
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    log.warning("hello")
    assert lines(stream)[0]["event"] == "hello"


def test_second_configuration_replaces_the_first(stream: io.StringIO) -> None:
    second = io.StringIO()
    configure_logging(json=True, level="error", stream=second)
    log = get_logger("llmactors.x")
    log.warning("quiet now")
    log.error("loud")
    assert [line["event"] for line in lines(second)] == ["loud"]
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("INFO", 2), ("error", 1)])
def test_only_lines_from_the_level_on_are_logged(level: str, seen: int) -> None:
    stream = io.StringIO()
    configure_logging(json=True, level=level, stream=stream)
    log = get_logger("llmactors.x")
    log.debug("d")
    log.info("i")
    log.error("e")
    assert len(lines(stream)) == seen


@pytest.mark.parametrize("level", ["loud", "", "notset"])
def test_unknown_log_level_is_a_configuration_error(level: str) -> None:
    with pytest.raises(errors.ConfigError, match="must be debug, info"):
        configure_logging(json=True, level=level)


def test_libraries_are_logged_from_warning_on(stream: io.StringIO) -> None:
    library = logging.getLogger("some.library")
    library.setLevel(logging.DEBUG)
    library.info("chatter")
    library.warning("watch %s", "out")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("watch out", "warning", "some.library")


def test_exception_is_one_field_without_local_variables(stream: io.StringIO) -> None:
    for log in (get_logger("llmactors.x"), logging.getLogger("some.library")):
        try:
            fails(SECRET)
        except ValueError:
            log.exception("failed")
    ours, theirs = lines(stream)
    for line in (ours, theirs):
        (exception,) = line["exception"]
        assert (exception["exc_type"], exception["exc_value"]) == ("ValueError", "it broke")
        assert exception["frames"][-1]["name"] == "fails"
        assert "exc_info" not in line
    assert SECRET not in stream.getvalue()


def test_exception_group_is_logged_with_all_its_errors(stream: io.StringIO) -> None:
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("more", [KeyError("b")])])
    get_logger("llmactors.x").error("failed", exc_info=group)
    (exception,) = lines(stream)[0]["exception"]
    assert exception["is_group"]
    assert len(exception["exceptions"]) == 2


@pytest.mark.parametrize("json_", [True, False])
def test_no_prompt_is_logged_in_either_form(json_: bool) -> None:
    stream = Terminal()
    configure_logging(json=json_, stream=stream)
    log = get_logger("llmactors.x").bind(api_key=SECRET)
    log.info("got", prompt=SECRET, text=SECRET, request=GenerateRequest(id="r", model="m", prompt=SECRET))
    try:
        fails(SECRET)
    except ValueError:
        log.exception("failed", body=SECRET.encode(), headers={"Authorization": SECRET})
    assert "it broke" in stream.getvalue()
    assert "max_tokens" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_lines_are_coloured_on_a_terminal_only() -> None:
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        configure_logging(json=False, stream=stream)
        get_logger("llmactors.x").info("hello", slots=3)
        assert "hello" in stream.getvalue()
        assert "slots" in stream.getvalue()
        assert ("\x1b[" in stream.getvalue()) == coloured


def test_closed_stream_does_not_break_logging(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    stream.close()
    get_logger("llmactors.x").info("into the void", prompt=SECRET)
    assert SECRET not in capsys.readouterr().err


def test_logs_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True)
    get_logger("llmactors.x").info("hello")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "hello"


@pytest.mark.parametrize("json_", [True, False])
def test_key_is_cut_out_of_events_and_exceptions(json_: bool) -> None:
    key, stream = f"lla_{'i' * 12}_{'s' * 43}_checks", io.StringIO()
    configure_logging(json=json_, stream=stream)
    get_logger("llmactors.x").error(f"got {key}", where=f"/v1/ws?ticket={key}", exc_info=ValueError(key))
    logging.getLogger("somebody.else").warning("Authorization: Bearer %s", key)
    assert f"lla_{'i' * 12}_…" in stream.getvalue()
    assert "sssss" not in stream.getvalue()
