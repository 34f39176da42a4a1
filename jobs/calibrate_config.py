"""What `sgl calibrate` is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from actors.config import PruningConfig, Seed, StrictModel
from sgl.errors import ConfigurationError
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.metrics import METRICS

PRESETS = (
    PruningConfig(prune_layer=0.4, keep_ratio=0.4),
    PruningConfig(prune_layer=0.19, keep_ratio=0.2),
    PruningConfig(prune_layer=0.04, keep_ratio=0.05),
)
"""The paper's."""


class CalibrationConfig(StrictModel):
    """What to promise, and on what evidence.

    Attributes:
        records: drawn at random from the job's input.
        agreement: with the unpruned large model's own answers, at least.
        max_accuracy_drop: against it, by accepted answers, at most.
        escalation_rate: share of the records that the large model gets, at most.
        budget_usd_per_1k: mean cost of a thousand records, at most.
        delta: the chance that is accepted of any target not being met.
        metric: by which answers are compared; see docs/EVALUATION.md.
        prunings: ways to prune the large model that are tried, besides none.
        seed: of the draw, and of the split into records that order and records that test.
    """

    records: int = Field(default=1000, ge=10)
    agreement: float | None = Field(default=None, gt=0, lt=1)
    max_accuracy_drop: float | None = Field(default=None, gt=0, lt=1)
    escalation_rate: float | None = Field(default=None, gt=0, lt=1)
    budget_usd_per_1k: float | None = Field(default=None, gt=0)
    delta: float = Field(default=0.05, gt=0, lt=1)
    metric: str = DEFAULT_METRIC
    prunings: tuple[PruningConfig, ...] = PRESETS
    seed: Seed = 0

    @field_validator("metric")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(f"there is no metric '{name}'; there are {', '.join(METRICS)}")
        return name

    @model_validator(mode="after")
    def _promises_something(self) -> "CalibrationConfig":
        if not self.targets():
            raise ValueError(
                "no target; write --agreement 0.98, --max-accuracy-drop 0.01, --escalation-rate "
                "0.3 or --budget-usd-per-1k 0.5"
            )
        return self

    @property
    def promises_quality(self) -> bool:
        """Whether any target is one of quality, and cost is what is to be small."""
        return self.agreement is not None or self.max_accuracy_drop is not None

    def targets(self) -> dict[str, float]:
        """Those that are written, by name."""
        names = ("agreement", "max_accuracy_drop", "escalation_rate", "budget_usd_per_1k")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def pruning_of(text: str) -> PruningConfig:
    """One way to prune, as the command line has it: LAYER:KEEP, as in 0.4:0.46.

    Raises:
        ConfigurationError: names the text and what to write.
    """
    layer, _, ratio = text.partition(":")
    try:
        return PruningConfig.model_validate({"prune_layer": layer, "keep_ratio": ratio})
    except ValidationError as error:
        told = error.errors()[0]
        raise ConfigurationError(
            f"--pruning {text}: {told['loc'][0]}: {told['msg']}; write LAYER:KEEP, the share of "
            "the layers below the pruning and of the visual tokens kept above it, as in 0.4:0.46"
        ) from error


def prunings_of(texts: Sequence[str]) -> tuple[PruningConfig, ...] | None:
    """Of the options `--pruning`; None where there are none.

    Raises:
        ConfigurationError: names the text and what to write.
    """
    return tuple(dict.fromkeys(map(pruning_of, texts))) or None


def in_users_unit(name: str, loss: float) -> float:
    """A mean loss, as the target of that name is written."""
    scaled = {"agreement": 1 - loss, "budget_usd_per_1k": 1000 * loss}
    return scaled.get(name, loss)


def calibration_of(values: Mapping[str, Any]) -> CalibrationConfig:
    """From the command line; None values are passed over.

    Raises:
        ConfigurationError: names the option and the remedy.
    """
    try:
        written = {name: value for name, value in values.items() if value is not None}
        return CalibrationConfig.model_validate(written)
    except ValidationError as error:
        told = []
        for one in error.errors():
            option = "".join(f"--{str(part).replace('_', '-')}: " for part in one["loc"][:1])
            told.append(option + one["msg"].removeprefix("Value error, "))
        raise ConfigurationError("; ".join(told)) from error
