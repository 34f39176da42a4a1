"""Where a pruner cuts, and how much, for an average retention that the others have too."""

RETENTIONS = {0.64: 0.4, 0.35: 0.19, 0.09: 0.04}
"""The paper's, and the prune layer of each, as a share of the layers."""
_FASTV_LAYERS = (2, 1)
"""K of its paper, and the next that leaves something to prune at a low retention."""


def place_at(pruner: str, retention: float, layers: int) -> tuple[int, float] | None:
    """Prune layer K and keep ratio that have an average retention.

    Args:
        pruner: by its name; FastV needs a layer to rank by, the others cut where the paper does.
        retention: one of RETENTIONS.
        layers: of the model.

    Returns:
        None where a layer that has to stay whole is more than that already.
    """
    from sgl.ranking import keep_ratio_for  # which needs torch; the command line does not

    layer: int | None = int(layers * RETENTIONS[retention])
    if pruner == "fastv":
        layer = next((one for one in _FASTV_LAYERS if one < retention * layers), None)
    return None if layer is None else (layer, keep_ratio_for(retention, layer, layers))
