"""Every pruner at the paper's average retentions, as settings for one large model."""

from collections.abc import Sequence

from actors.config import ModelConfig, PrunerName, PruningConfig
from actors.pruning import obstacle
from sgl.equal_retention import RETENTIONS, place_at


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
    place = place_at(pruner, retention, layers)
    if place is None:
        return None
    layer, ratio = place
    prune_layer = RETENTIONS[retention]
    if pruner == "fastv":
        # Half a layer more, so that it is this one whichever way the product is rounded.
        prune_layer = (layer + 0.5) / layers
    return PruningConfig(prune_layer=prune_layer, keep_ratio=ratio, pruner=pruner)


def _too_few(layers: int) -> str:
    return f"one of the model's {layers} layers alone, which it has to leave whole, is more"
