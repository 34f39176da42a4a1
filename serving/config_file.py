"""From a YAML file, `--set` and flags to a checked ServeConfig."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config import absolute_path
from pipeline.settings_file import assign, assign_all, explained, read_settings
from serving.config import ServeConfig
from sgl.errors import ConfigurationError


def load_config(
    path: str | None, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ServeConfig:
    """As `read_config`, with absolute paths."""
    return absolute(read_config(path, assignments, flags))


def read_config(
    path: str | None, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> ServeConfig:
    """The settings of an endpoint; flags win over `--set`, which wins over the file.

    Args:
        path: of a YAML file; None starts from nothing.
        assignments: "a.b=value", the value in YAML.
        flags: dotted name -> value; None values are passed over.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = {} if path is None else read_settings(path)
    assign_all(data, assignments)
    for name, value in (flags or {}).items():
        if value is not None:
            assign(data, name, value)
    try:
        return ServeConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(explained(error, ServeConfig)) from error


def absolute(config: ServeConfig) -> ServeConfig:
    """With paths as replicas need them, whose current directory is another one."""
    update: dict[str, Any] = {
        "policies": {name: absolute_path(path) for name, path in config.policies.items()},
        "keys": config.keys and absolute_path(config.keys),
    }
    if config.pricing and config.pricing.file:
        file = absolute_path(config.pricing.file)
        update["pricing"] = config.pricing.model_copy(update={"file": file})
    models = {
        role: model.model_copy(update={"path": absolute_path(model.path)})
        for role, model in (("small", config.models.small), ("large", config.models.large))
        if Path(model.path).expanduser().exists()
    }
    update["models"] = config.models.model_copy(update=models)
    return config.model_copy(update=update)
