"""From a YAML file and `--set` to plain settings, and from mistakes in them to one clear line."""

import difflib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from sgl.errors import ConfigurationError


def read_settings(path: str) -> dict[str, Any]:
    """The settings of a YAML file.

    Raises:
        ConfigurationError: it cannot be read, or holds none.
    """
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise ConfigurationError(f"--config {path}: cannot be read") from error
    data = parsed(text, f"--config {path}")
    if not isinstance(data, dict):
        raise ConfigurationError(f"--config {path}: holds no settings")
    return data


def assign_all(data: dict[str, Any], assignments: Sequence[str]) -> None:
    """Put "a.b=value" into settings, the value in YAML.

    Raises:
        ConfigurationError: one is none.
    """
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {assignment}: write name=value, as in threshold=0.8")
        assign(data, name, parsed(value, f"--set {assignment}"))


def parsed(text: str, what: str) -> Any:
    """A value of YAML.

    Raises:
        ConfigurationError: it is none; `what` it is of is told.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{what}: not YAML: {' '.join(str(error).split())}") from error


def assign(data: dict[str, Any], name: str, value: Any) -> None:
    """Put a value under its dotted name.

    Raises:
        ConfigurationError: a part of the name is a value.
    """
    *parents, last = name.split(".")
    for parent in parents:
        below = data.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigurationError(f"{name}: {parent} is a value and has no settings below it")
        data = below
    data[last] = value


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong in settings of a model, each mistake with its name and the remedy."""
    return "; ".join(_explained(cast("Mapping[str, Any]", one), model) for one in error.errors())


def _explained(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _fields(location[:-1], model)
        near = difflib.get_close_matches(location[-1], known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
        return f"{name}: there is no such setting; {hint}"
    if error["type"] == "missing":
        return f"{name}: must be written"
    message = error["msg"].removeprefix("Value error, ")
    # A URL may hold a password where none belongs.
    given = repr(error["input"])
    shown = "" if "://" in given or "@" in given else f", not {given}"
    return f"{name}: {message}{shown}" if name else message


def _fields(location: Sequence[str], model: type[BaseModel]) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation
        if get_origin(annotation) in (Union, types.UnionType):
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        model = cast("type[BaseModel]", annotation)
    return list(model.model_fields)
