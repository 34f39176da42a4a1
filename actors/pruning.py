"""From settings to a pruner: which one, whether it can, and what a batch then takes of memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from actors.config import PruningConfig
from sgl.errors import ConfigurationError

if TYPE_CHECKING:
    from sgl.families import Family
    from sgl.layout import PromptLayout
    from sgl.memory import BatchMemory
    from sgl.pruning import Pruner


def pruner_of(pruning: PruningConfig, *, guided: bool) -> "Pruner | None":
    """The one that is set; None where it is the small model, and this has said nothing."""
    from sgl.pruners import PRUNERS

    pruner = PRUNERS[pruning.pruner]
    return None if pruner.needs_guidance and not guided else pruner


def obstacle(pruning: PruningConfig, family: "Family", layers: int) -> str | None:
    """Why a model of this family and so many layers cannot be pruned so; None where it can."""
    from sgl.pruners import PRUNERS

    return PRUNERS[pruning.pruner].obstacle(family, _layer(pruning, layers))


def check_prunings(prunings: Sequence[PruningConfig], family: "Family", layers: int) -> None:
    """Refuse what would fail with every record.

    Args:
        prunings: of a job, those of its probe among them.
        family: of the large model.
        layers: L.

    Raises:
        ConfigurationError: one of them is impossible; names the pruner and the remedy.
    """
    for pruning in prunings:
        if reason := obstacle(pruning, family, layers):
            raise ConfigurationError(
                f"pruning.pruner: {pruning.pruner!r} cannot prune at prune_layer "
                f"{pruning.prune_layer:g}, which is layer {_layer(pruning, layers)} of {layers}: "
                f"{reason}; or write another pruner"
            )


def peak_bytes(
    memory: "BatchMemory",
    family: "Family",
    layouts: "Sequence[PromptLayout]",
    pruning: PruningConfig,
    pruner: "Pruner | None",
) -> int:
    """What a batch needs at its peak, see `sgl.memory`; None of a pruner prunes nothing."""
    if pruner is None:
        return memory.peak_bytes(layouts)
    layers = memory.decoder_layers
    stages = pruner.stages(_layer(pruning, layers), layers, pruning.keep_ratio)
    choosing = pruner.choosing_bytes(family, layouts)
    pruned = memory.peak_bytes(layouts, stages=stages, choosing=choosing)
    return max(pruned, memory.peak_bytes(layouts, capture=True)) if pruner.answers_first else pruned


def _layer(pruning: PruningConfig, layers: int) -> int:
    """K."""
    return int(layers * pruning.prune_layer)
