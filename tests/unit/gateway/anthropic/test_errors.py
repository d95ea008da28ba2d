"""The form of errors that Anthropic's clients read."""

import pytest

from llmactors import errors
from llmactors.gateway.anthropic.errors import ANTHROPIC_ERRORS


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidRequest("no"), 400, "invalid_request_error"),
        (errors.Unauthenticated("no"), 401, "authentication_error"),
        (errors.Forbidden("no"), 403, "permission_error"),
        (errors.NotFound("no"), 404, "not_found_error"),
        (errors.MethodNotAllowed("no"), 405, "invalid_request_error"),
        (errors.Conflict("no"), 409, "conflict_error"),
        (errors.TooLarge("no"), 413, "request_too_large"),
        (errors.RateLimited("no"), 429, "rate_limit_error"),
        (errors.InternalError("no"), 500, "api_error"),
        (errors.BackendFailed("no"), 500, "api_error"),
        (errors.Interrupted("no"), 500, "api_error"),
        (errors.DeadlineExceeded("no"), 504, "timeout_error"),
        (errors.Overloaded("no", retry_after_s=1.0), 529, "overloaded_error"),
        (errors.Unavailable("no", retry_after_s=1.0), 529, "overloaded_error"),
    ],
)
def test_error_has_its_status_and_type(error: errors.LlmactorsError, status: int, kind: str) -> None:
    assert ANTHROPIC_ERRORS.status(error) == ANTHROPIC_ERRORS.status(type(error)) == status
    assert ANTHROPIC_ERRORS.body(error, "r") == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
        "request_id": "r",
    }
    assert (dict(ANTHROPIC_ERRORS.headers(error)).get("x-should-retry") == "true") == (status == 529)
