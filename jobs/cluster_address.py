"""Where a cluster is, and what its requests carry, from options and the environment."""

import json
import os
from collections.abc import Sequence

from pydantic import ValidationError

from pipeline.settings_file import explained
from pipeline.submit_config import SubmitConfig
from sgl.errors import ConfigurationError

_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_HEADERS = "RAY_JOB_HEADERS"


def address_of(config: SubmitConfig) -> str:
    """Of the dashboard.

    Raises:
        ConfigurationError: there is none, or it is not a dashboard's.
    """
    if config.address is not None:
        return config.address
    for name in _ADDRESSES:
        if found := os.environ.get(name):
            try:
                SubmitConfig(address=found)
            except ValidationError as error:
                raise ConfigurationError(f"{name}: {explained(error, SubmitConfig)}") from error
            return found
    raise ConfigurationError(
        "--address: which cluster? write the address of its dashboard, as in http://head:8265, or "
        "set RAY_ADDRESS"
    )


def headers_of(given: Sequence[str]) -> dict[str, str]:
    """Of every request: those of RAY_JOB_HEADERS, and the given ones, which win.

    Args:
        given: each as NAME=VALUE.

    Raises:
        ConfigurationError: one of them is none.
    """
    headers = _of_the_environment()
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            # What is written there may be a secret.
            raise ConfigurationError("--header: write NAME=VALUE")
        headers[name] = value
    return headers


def _of_the_environment() -> dict[str, str]:
    text = os.environ.get(_HEADERS)
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise ConfigurationError(f'{_HEADERS}: write JSON, as in {{"NAME": "VALUE"}}')
    return found
