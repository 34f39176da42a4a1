"""The names of models: the pair, each of it alone, the pair at a threshold or by a policy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from actors.config import PruningConfig
from pipeline.config import Mode
from pipeline.policy import Policy
from serving.api_errors import ApiError
from serving.config import ServeConfig
from serving.protocol import SglOptions

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,17})?")
_SHOWN = 80


class Part(StrEnum):
    """Who is asked."""

    PAIR = "pair"
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that a request asks for.

    Attributes:
        name: as the client wrote it.
        label: the same for metrics: one of those that can be listed.
        part: of the pair.
        threshold: exit score from which the small model's answer stands; means nothing to a part.
        pruning: of the large model in the pair.
        policy: that decided both.
    """

    name: str
    label: str
    part: Part
    threshold: float
    pruning: PruningConfig
    policy: str | None = None


class Catalogue:
    """All names of an endpoint.

    Args:
        config: of the endpoint.
        policies: by name, all that the config names.
    """

    def __init__(self, config: ServeConfig, policies: Mapping[str, Policy]) -> None:
        self._pair = config.name
        self._clients_choose = config.clients_choose
        default = Choice(
            config.name, config.name, Part.PAIR, config.threshold or 0.0, config.pruning
        )
        self._by_policy = {name: _by(default, name, policy) for name, policy in policies.items()}
        if config.policy is not None:
            default = replace(self._by_policy[config.policy], name=config.name, label=config.name)
        self._default = default

    def names(self) -> list[str]:
        """Those that can be listed; thresholds cannot."""
        by_policy = [f"{self._pair}@{name}" for name in self._by_policy]
        return [self._pair, f"{self._pair}:small", f"{self._pair}:large", *by_policy]

    def choose(self, name: str, options: SglOptions | None = None) -> Choice:
        """What a name and a request's own wishes mean.

        Raises:
            ApiError: there is no such model, or clients may not choose.
        """
        choice = self._named(name)
        return choice if options is None else self._overridden(choice, options)

    def _named(self, name: str) -> Choice:
        if name == self._pair:
            return self._default
        for part in (Part.SMALL, Part.LARGE):
            if name == f"{self._pair}:{part.value}":
                return replace(self._default, name=name, label=name, part=part, policy=None)
        pair, _, setting = name.partition("@")
        if pair == self._pair and setting in self._by_policy:
            return replace(self._by_policy[setting], name=name, label=name)
        if pair == self._pair and _NUMBER.fullmatch(setting):
            self._may_choose("model")
            return replace(self._default, name=name, threshold=float(setting), policy=None)
        raise ApiError(
            404,
            f"there is no model '{name[:_SHOWN]}'; GET /v1/models lists those that there are",
            code="model_not_found",
            param="model",
        )

    def _overridden(self, choice: Choice, options: SglOptions) -> Choice:
        data = options.model_dump(include={"threshold", "prune_layer", "keep_ratio"})
        wishes = {name: value for name, value in data.items() if value is not None}
        if not wishes:
            return choice
        self._may_choose(f"sgl.{next(iter(wishes))}")
        threshold = wishes.pop("threshold", choice.threshold)
        pruning = choice.pruning.model_copy(update=wishes)
        return replace(choice, threshold=threshold, pruning=pruning, policy=None)

    def _may_choose(self, param: str) -> None:
        if not self._clients_choose:
            raise ApiError(
                400,
                "this endpoint decides its threshold and pruning itself; ask without them",
                code="unsupported_parameter",
                param=param,
            )


def _by(default: Choice, name: str, policy: Policy) -> Choice:
    # Where every record may exit, calibration has no threshold to tell.
    threshold = 0.0 if policy.mode is Mode.SMALL else policy.threshold
    return replace(default, threshold=threshold, pruning=policy.pruning, policy=name)
