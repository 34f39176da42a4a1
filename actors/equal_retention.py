"""Every pruner at the paper's average retentions, as settings for one large model."""

from collections.abc import Sequence

from actors.config import ModelConfig, PrunerName, PruningConfig
from actors.pruning import obstacle

RETENTIONS = {0.64: 0.4, 0.35: 0.19, 0.09: 0.04}
"""The paper's, and the prune layer of each, as a share of the layers."""
_FASTV_LAYERS = (2, 1)
"""K of its paper, and the next that leaves something to prune at a low retention."""


def equal_ways(
    model: ModelConfig, pruners: Sequence[PrunerName]
) -> tuple[dict[PruningConfig, float], list[str]]:
    """Ways to prune a model, and the average retention that each is to have.

    Only the checkpoint's configuration is read, and what lays out its prompts.

    Args:
        model: the large one.
        pruners: by name.

    Returns:
        The ways by pruner, and in words those that the model cannot be pruned in.

    Raises:
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be pruned.
    """
    from sgl.loading import load_encoder

    family = load_encoder(model.path, revision=model.revision).family
    layers = int(family.config.text_config.num_hidden_layers)
    ways: dict[PruningConfig, float] = {}
    impossible = []
    for pruner in pruners:
        for retention in RETENTIONS:
            way = way_at(pruner, retention, layers)
            reason = obstacle(way, family, layers) if way else _too_few(layers)
            if way is None or reason:
                impossible.append(f"{pruner} at {retention:.0%}: {reason}")
            else:
                ways[way] = retention
    return ways, impossible


def way_at(pruner: PrunerName, retention: float, layers: int) -> PruningConfig | None:
    """The way that has one of `RETENTIONS` with so many layers; None where there is none."""
    from sgl.ranking import keep_ratio_for

    prune_layer = RETENTIONS[retention]
    layer = int(layers * prune_layer)
    if pruner == "fastv":
        layer = next((one for one in _FASTV_LAYERS if one < retention * layers), 0)
        if layer == 0:
            return None
        # Half a layer more, so that it is this one whichever way the product is rounded.
        prune_layer = (layer + 0.5) / layers
    ratio = keep_ratio_for(retention, layer, layers)
    return PruningConfig(prune_layer=prune_layer, keep_ratio=ratio, pruner=pruner)


def _too_few(layers: int) -> str:
    return f"one of the model's {layers} layers alone, which it has to leave whole, is more"
