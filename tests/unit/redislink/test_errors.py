"""The error for each error reply, and what its message may show."""

import pytest

from llmactors.errors import Unavailable
from llmactors.redislink import errors
from llmactors.redislink.errors import LinkDown, OutcomeUnknown, ReplyError, reply_error


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", errors.Loading),
        ("READONLY You can't write against a read only replica.", errors.ReadOnly),
        ("OOM command not allowed when used memory > 'maxmemory'.", errors.OutOfMemory),
        ("MISCONF Redis is configured to save RDB snapshots", errors.Misconfigured),
        ("BUSY Redis is busy running a script.", errors.Busy),
        ("MASTERDOWN Link with MASTER is down", errors.MasterDown),
        ("NOREPLICAS Not enough good replicas to write.", errors.NoReplicas),
        ("NOAUTH Authentication required.", errors.AccessDenied),
        ("WRONGPASS invalid username-password pair", errors.AccessDenied),
        ("NOPERM this user has no permissions", errors.AccessDenied),
        ("ERR Function not found", errors.NoSuchFunction),
        ("MOVED 3999 127.0.0.1:6381", errors.WrongNode),
        ("CLUSTERDOWN Hash slot not served", errors.WrongNode),
        ("WRONGTYPE Operation against a key", ReplyError),
        ("", ReplyError),
    ],
)
def test_each_error_reply_has_its_type(text: str, kind: type[ReplyError]) -> None:
    error = reply_error(text)
    assert type(error) is kind
    if text:
        assert error.word == text.split(maxsplit=1)[0]
        assert error.text == text
        assert text not in error.message
    assert (error.code, error.status) == ("UNAVAILABLE", 503)
    assert error.retry_after_s is not None


def test_error_inside_a_script_is_not_a_refusal() -> None:
    """What the script did before the error has happened."""
    error = reply_error("OOM command not allowed script: f, on @user_function:3.")
    assert type(error) is ReplyError
    assert error.word == "OOM"


def test_error_does_not_repeat_the_arguments() -> None:
    error = reply_error("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 's3cret'")
    assert error.text == "ERR unknown command 'HELLO'"


@pytest.mark.parametrize("error", [LinkDown(), OutcomeUnknown()])
def test_error_of_a_link_says_when_to_retry(error: Unavailable) -> None:
    assert error.code == "UNAVAILABLE"
    assert error.retry_after_s
