"""`sgl serve`: the endpoint on Ray Serve, until somebody ends it."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.price_option import add_price_option, price_flags

if TYPE_CHECKING:
    from serving.config import ServeConfig

DEMO = Path(__file__).with_name("serve.yaml")
_SETTINGS = {
    "host": "listen.host",
    "port": "listen.port",
    "small": "models.small.path",
    "large": "models.large.path",
    "threshold": "threshold",
    "keys": "keys",
    "degrade": "degrade",
    "log_format": "logs.format",
}
"""Options, and the settings that they stand for."""
_POLL_S = 0.2
_APPLICATION = "sgl"
_QUIET: dict[str, Any] = {"log_level": "WARNING", "enable_access_log": False}
"""Of Ray Serve's own log, which has a line per request and process."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl serve` takes."""
    parser.set_defaults(command=run)
    parser.add_argument(
        "--config", metavar="FILE", help="settings, YAML; default: the testbed pair"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help="one setting, as in pools.large.replicas=2; may be repeated",
    )
    parser.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, metavar="N", help="default: 8000")
    parser.add_argument("--small", metavar="MODEL", help="folder, hub id, or 'testbed'")
    parser.add_argument("--large", metavar="MODEL", help="folder, hub id, or 'testbed'")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="exit score from which the small one answers"
    )
    parser.add_argument("--keys", metavar="FILE", help="API keys, of sgl key")
    parser.add_argument(
        "--degrade", choices=("small", "error"), help="while the large model cannot be had"
    )
    add_price_option(parser)
    parser.add_argument("--log-format", choices=("text", "json"))


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to end."""
    serve(config_of(options))
    return 0


def config_of(options: argparse.Namespace) -> "ServeConfig":
    """The endpoint that the options come to.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    from jobs.settings import with_testbed
    from serving.config_file import absolute, read_config

    flags = {setting: getattr(options, name) for name, setting in _SETTINGS.items()}
    path = options.config or str(DEMO)
    config = read_config(path, options.assignments, flags | price_flags(options))
    # Before paths are made absolute: where there is a folder "testbed", it is not what is meant.
    return absolute(config.model_copy(update={"models": with_testbed(config.models)}))


def serve(config: "ServeConfig") -> None:
    """Deploy, tell where, wait for the end, drain.

    Args:
        config: with paths that replicas find.

    Raises:
        ConfigurationError: before a model loads.
        ReplicaError: the pools cannot start.
    """
    _prepare()
    from ray import serve as ray_serve

    from jobs.cluster import cluster
    from pipeline.preflight import check_models
    from serving.exposure import warnings_of
    from serving.policies import job_of
    from serving.proxy import environment

    check_models(job_of(config))
    os.environ.update(environment(config))  # of a local Ray, whose nodes inherit it
    for warning in warnings_of(config):
        _say(f"WARNING: {warning}")
    # Ray has handlers of its own, which come with it.
    with cluster(config.ray), _told_to_end() as end:
        _start(config)
        try:
            _deploy(config)
            listen = config.listen
            _say(f"http://{listen.host}:{listen.port}  models: {config.name}, ...; Ctrl-C ends")
            while not end.wait(_POLL_S):
                pass
            _say("draining: what is under way is finished")
            _drain(config)
        finally:
            ray_serve.shutdown()


def _prepare() -> None:
    """Have the processes of a local Ray send requests to each other by gRPC.

    As Ray actors' calls they take 6 ms more. Its default of 4 MiB is less than one large picture.
    Read when ray.serve is imported; on a cluster that is there, its nodes must have them set.
    """
    os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
    os.environ.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", str(2**31 - 1))


def _start(config: "ServeConfig") -> None:
    from ray import serve as ray_serve

    from serving.browsers import is_loopback

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    near = is_loopback(config.listen.host)
    ray_serve.start(
        proxy_location="HeadOnly" if near else "EveryNode",
        http_options={"host": config.listen.host, "port": config.listen.port},
        logging_config=_QUIET,
    )


def _deploy(config: "ServeConfig") -> None:
    from ray import serve as ray_serve

    from serving.app import application
    from sgl.errors import ReplicaError

    try:
        ray_serve.run(
            application(config), name=_APPLICATION, route_prefix="/", logging_config=_QUIET
        )
    except RuntimeError as error:
        raise ReplicaError(f"the endpoint cannot start: {error}") from error


def _drain(config: "ServeConfig") -> None:
    """Say that it is not ready, and wait for what is under way, but not for ever."""
    from ray import serve as ray_serve

    ingress = ray_serve.get_app_handle(_APPLICATION)
    deadline = time.monotonic() + config.drain_s
    ingress.broadcast("drain").results(timeout_s=config.drain_s)
    while time.monotonic() < deadline:
        if sum(ingress.broadcast("under_way").results(timeout_s=config.drain_s)) == 0:
            return
        time.sleep(_POLL_S)
    _say("some requests are not finished, and end here")


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a plain kill set; the second time they end at once."""
    end = threading.Event()

    def told(_number: int, _frame: Any) -> None:
        if end.is_set():
            raise KeyboardInterrupt
        end.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"sgl: {text}", file=sys.stderr, flush=True)
