"""From a YAML file, `--set` and flags to a checked JobConfig; every mistake in one clear line."""

import difflib
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from actors.config import ModelConfig
from infra.s3 import StorageConfig
from pipeline.config import JobConfig, Mode
from pipeline.policy import check_policy, decided_by, read_policy, settings_of
from sgl.calibration import NOBODY_EXITS
from sgl.errors import ConfigurationError
from testbed import model_path

TESTBED = "testbed"
"""As a model's path: the trained pair that ships with this repository."""
_CALIBRATED = (
    *("mode", "threshold", "pruning", "probe", "promise"),
    *("input.sample", "input.sample_seed"),
)
_NOTHING = object()


def load_job(
    path: str | None,
    assignments: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    policy: str | None = None,
    *,
    undecided: bool = False,
) -> JobConfig:
    """One job; flags win over `--set`, which wins over the file.

    Args:
        path: of a YAML file; None starts from nothing.
        assignments: "a.b=value", the value in YAML.
        flags: dotted name -> value; None values are passed over.
        policy: file of a calibrated policy, which decides mode, threshold and pruning. What the
            YAML file says of them is passed over and told; flags and `--set` must not.
        undecided: these are still to be chosen, by a calibration, and so is what watches them;
            what is written of them is passed over and told.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = {} if path is None else _read(path)
    chosen = None if policy is None else read_policy(Path(policy))
    if chosen:
        _pass_over(data, sorted(decided_by(chosen)), "--policy decides it")
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {assignment}: write name=value, as in threshold=0.8")
        _assign(data, name, _parse(value, f"--set {assignment}"))
    for name, value in (flags or {}).items():
        if value is not None:
            _assign(data, name, value)
    if undecided:
        _pass_over(data, _CALIBRATED, "a calibration chooses it, and draws its own sample")
        data |= {"mode": Mode.CASCADE.value, "threshold": NOBODY_EXITS}
    if chosen is None:
        return checked(data)
    job = checked(settings_of(chosen, data))
    check_policy(chosen, job)
    return job


def checked(data: Mapping[str, Any]) -> JobConfig:
    """A JobConfig of plain data, the testbed's name resolved, paths absolute.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    try:
        job = JobConfig.model_validate(data)
    except ValidationError as error:
        lines = [_explained(cast("Mapping[str, Any]", one)) for one in error.errors()]
        raise ConfigurationError("; ".join(lines)) from error
    return _with_testbed(job).absolute()


def storage_at(endpoint_url: str | None) -> StorageConfig:
    """The storage behind `--endpoint-url`.

    Raises:
        ConfigurationError: it is no URL.
    """
    try:
        return StorageConfig(endpoint_url=endpoint_url)
    except ValidationError as error:
        raise ConfigurationError(f"--endpoint-url: {error.errors()[0]['msg']}") from error


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ConfigurationError(f"--config {path}: cannot be read") from error
    data = _parse(text, f"--config {path}")
    if not isinstance(data, dict):
        raise ConfigurationError(f"--config {path}: holds no settings")
    return data


def _pass_over(data: dict[str, Any], names: Sequence[str], reason: str) -> None:
    """Take settings out, and say which."""
    written = [name for name in names if _take(data, name)]
    if written:
        print(f"sgl: not looked at, as {reason}: {', '.join(written)}", file=sys.stderr)


def _take(data: dict[str, Any], name: str) -> bool:
    *parents, last = name.split(".")
    for parent in parents:
        below = data.get(parent)
        if not isinstance(below, dict):
            return False
        data = below
    return data.pop(last, _NOTHING) is not _NOTHING


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{what}: not YAML: {' '.join(str(error).split())}") from error


def _assign(data: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        below = data.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigurationError(f"{name}: {parent} is a value and has no settings below it")
        data = below
    data[last] = value


def _explained(error: Mapping[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _fields(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        return f"{name}: there is no such setting; {hint}"
    if error["type"] == "missing":
        return f"{name}: must be written"
    message = error["msg"].removeprefix("Value error, ")
    # A URL may hold a password where none belongs.
    given = repr(error["input"])
    shown = "" if "://" in given else f", not {given}"
    return f"{name}: {message}{shown}" if name else message


def _fields(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = JobConfig
    for part in location:
        annotation = model.model_fields[part].annotation
        if get_origin(annotation) in (Union, types.UnionType):
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        model = cast("type[BaseModel]", annotation)
    return list(model.model_fields)


def _with_testbed(job: JobConfig) -> JobConfig:
    models = job.models
    for role in ("small", "large"):
        model: ModelConfig | None = getattr(models, role)
        if model is not None and model.path == TESTBED:
            path = str(model_path(role))
            models = models.model_copy(update={role: model.model_copy(update={"path": path})})
    return job.model_copy(update={"models": models})
