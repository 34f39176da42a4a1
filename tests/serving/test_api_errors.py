"""What clients are told to do about an error."""

from serving.api_errors import ApiError


def test_a_request_that_ends_replicas_is_not_to_be_sent_again() -> None:
    crash = ApiError(500, "died", kind="server_error", code="CrashError")
    assert crash.response().headers["x-should-retry"] == "false"
    other = ApiError(500, "failed", kind="server_error", code="internal_error")
    assert "x-should-retry" not in other.response().headers
