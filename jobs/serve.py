"""`sgl serve`: the endpoint on Ray Serve, until somebody ends it."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from jobs.price_option import add_price_option, price_flags
from jobs.set_option import add_set_option

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from serving.config import ServeConfig

logger = logging.getLogger(__name__)

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
    add_set_option(parser)
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
    from serving.config_file import load_config

    flags = {setting: getattr(options, name) for name, setting in _SETTINGS.items()}
    path = options.config or str(DEMO)
    return load_config(path, options.assignments, flags | price_flags(options), with_testbed)


def serve(config: "ServeConfig") -> None:
    """Deploy, tell where, wait for the end, drain.

    Args:
        config: with paths that replicas find.

    Raises:
        ConfigurationError: before a model loads.
        ReplicaError: the pools cannot start.
    """
    _prepare()
    from jobs.cluster import cluster
    from pipeline.logs import made_run_id, runtime_env
    from pipeline.preflight import check_models
    from serving.exposure import warnings_of
    from serving.instance import instance
    from serving.policies import job_of
    from serving.proxy import environment

    check_models(job_of(config))
    os.environ.update(environment(config))  # of a local Ray, whose nodes inherit it
    run_id, as_json = made_run_id(), config.logs.format == "json"
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(_json_lines(run_id))
        for warning in warnings_of(config):
            _say(f"WARNING: {warning}")
        # Ray has handlers of its own, which come with it.
        stack.enter_context(cluster(config.ray, runtime_env(run_id) if as_json else None))
        end = stack.enter_context(_told_to_end())
        stack.enter_context(instance(config.listen, _APPLICATION, _serve_logs(as_json=as_json)))
        _deploy(config, run_id)
        listen = config.listen
        _say(f"http://{listen.host}:{listen.port}  models: {config.name}, ...; Ctrl-C ends")
        while not end.wait(_POLL_S):
            pass
        _say("draining: what is under way is finished")
        _drain(config.drain_s)


def _prepare() -> None:
    """Have the processes of a local Ray send requests to each other by gRPC.

    As Ray actors' calls they take 6 ms more. Its default of 4 MiB is less than one large picture.
    Read when ray.serve is imported; on a cluster that is there, its nodes must have them set.
    """
    os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
    os.environ.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", str(2**31 - 1))


@contextmanager
def _json_lines(run_id: str) -> Iterator[None]:
    """All that this process logs or prints is JSON, what Ray prints in it included."""
    from pipeline.logs import JsonLines, log_as_json

    log_as_json(run_id)
    out, err = (cast("IO[str]", JsonLines(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield


def _serve_logs(*, as_json: bool) -> dict[str, Any]:
    return _QUIET | ({"encoding": "JSON"} if as_json else {})


def _deploy(config: "ServeConfig", run_id: str) -> None:
    from ray import serve as ray_serve

    from serving.app import application
    from sgl.errors import ReplicaError

    logs = _serve_logs(as_json=config.logs.format == "json")
    try:
        ray_serve.run(
            application(config, run_id), name=_APPLICATION, route_prefix="/", logging_config=logs
        )
    except RuntimeError as error:
        raise ReplicaError(f"the endpoint cannot start: {error}") from error


def _drain(drain_s: float) -> None:
    """Say that it takes nothing more, and wait for what is under way, but not for ever."""
    from ray import serve as ray_serve

    ingress = ray_serve.get_app_handle(_APPLICATION)
    deadline = time.monotonic() + drain_s
    while (left_s := deadline - time.monotonic()) > 0:
        # Again and again, as a process that died is replaced by one that knows nothing of it.
        if _under_way(ingress, left_s) == 0:
            return
        time.sleep(_POLL_S)
    _say("some requests are not finished, and end here")


def _under_way(ingress: "DeploymentHandle", timeout_s: float) -> int | None:
    """Tell all ingress processes to drain; how much they have, None where one did not say."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        return sum(ingress.broadcast("drain").results(timeout_s=timeout_s))
    except (RayError, RayServeException, TimeoutError) as error:
        logger.warning("a process of the ingress does not answer: %s", error)
        return None


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
