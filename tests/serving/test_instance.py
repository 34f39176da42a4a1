"""Beside what others run on the same Ray Serve."""

import pytest
from ray.serve.config import HTTPOptions

from serving.config import ListenConfig
from serving.instance import check_running
from sgl.errors import ConfigurationError

THEIRS = HTTPOptions(host="127.0.0.1", port=8000)


def test_one_more_application_where_it_listens() -> None:
    check_running(THEIRS, {"others": object()}, ListenConfig(), "sgl")


@pytest.mark.parametrize(
    ("running", "listen"),
    [
        (THEIRS, ListenConfig(port=9000)),
        (HTTPOptions(host="0.0.0.0"), ListenConfig()),
        (HTTPOptions(host="127.0.0.1", root_path="/here"), ListenConfig()),
    ],
)
def test_an_address_that_is_not_in_use_is_refused(
    running: HTTPOptions, listen: ListenConfig
) -> None:
    with pytest.raises(ConfigurationError, match=r"listen\.host and listen\.port"):
        check_running(running, {}, listen, "sgl")


def test_another_endpoint_is_left_alone() -> None:
    with pytest.raises(ConfigurationError, match="'sgl' runs"):
        check_running(THEIRS, {"sgl": object()}, ListenConfig(), "sgl")
