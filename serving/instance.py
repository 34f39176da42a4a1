"""The Ray Serve of a cluster: begun by us, or there before with what others have on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import serve
from ray.serve.config import HTTPOptions

# Nothing public tells the options of a Serve that runs, nor whether there is one.
from ray.serve.context import _get_global_client

from serving.browsers import is_loopback
from serving.config import ListenConfig
from sgl.errors import ConfigurationError

_OURS = ("host", "port", "root_path")
"""Of its options: where clients find it."""


@contextmanager
def instance(listen: ListenConfig, name: str, logging: Mapping[str, Any]) -> Iterator[None]:
    """A Ray Serve for the block, which listens where it shall; at the end our application goes.

    Args:
        listen: where.
        name: of our application.
        logging: of a Serve that is begun for it.

    Raises:
        ConfigurationError: there is one, and it listens elsewhere, or has an application of this
            name.
    """
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        serve.start(
            proxy_location="HeadOnly" if is_loopback(listen.host) else "EveryNode",
            http_options={"host": listen.host, "port": listen.port},
            logging_config=dict(logging),
        )
    else:
        check_running(client.http_config, serve.status().applications, listen, name)
    try:
        yield
    finally:
        _end(name, ours=client is None)


def check_running(
    running: HTTPOptions, applications: Mapping[str, Any], listen: ListenConfig, name: str
) -> None:
    """Whether an endpoint can be one more application of a Serve that runs.

    Args:
        running: its options, which nothing changes while it runs.
        applications: that it has.
        listen: where the endpoint shall listen.
        name: of its application.

    Raises:
        ConfigurationError: it cannot.
    """
    wanted = {"host": listen.host, "port": listen.port, "root_path": ""}
    told = {option: getattr(running, option) for option in _OURS}
    if told != wanted:
        raise ConfigurationError(
            f"listen: a Ray Serve runs on this cluster already, with {_words(told)}, and cannot be "
            f"told {_words(wanted)}; write listen.host and listen.port as it has them, or end it "
            "(serve shutdown), which ends all its applications"
        )
    if name in applications:
        raise ConfigurationError(
            f"ray.address: an application '{name}' runs on this cluster already; end it where it "
            f"was begun, or by serve.delete('{name}')"
        )


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in options.items())


def _end(name: str, *, ours: bool) -> None:
    """Take away what is ours, and Serve itself where we began it and nobody else uses it."""
    others = [one for one in serve.status().applications if one != name]
    if ours and not others:
        serve.shutdown()
    else:
        serve.delete(name)
