"""The switch: who says which visual tokens of the large model stay.

A pruner is asked once per batch, before the large model answers, for a `Plan`: all visual tokens go
through the layers below K, and so many of them through the layers from K on that the average
retention is what K and the keep ratio say. Text always stays, in its order and with its positions.

| name      | ranks by                                          | paper                          |
|-----------|---------------------------------------------------|--------------------------------|
| guided    | the small model's attention, all layers           | SGL, arXiv 2412.03324          |
| own       | its own, in a first pass of all layers            | SGL, section 3.2; an upper mark|
| fastv     | the last token's attention in layer K - 1         | FastV, arXiv 2403.06764        |
| pyramid   | the same in layer K, and again twice behind it    | PyramidDrop, arXiv 2410.17247  |
| vision    | attention in the vision tower                     | FasterVLM, arXiv 2412.01818    |
| diverse   | distance from the tokens that stay already        | DivPrune, arXiv 2503.02175     |
| uniform   | nothing: evenly over the image                    |                                |
| random    | nothing, the same at each run                     |                                |

Shapes: B records, T prompt tokens, V visual tokens of one record, K the prune layer, L layers.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sgl.attention import MAX_SCORES, RowCapture
from sgl.chance import Purpose, hash_of
from sgl.diversity import MAX_DISTANCES, most_diverse
from sgl.errors import ConfigurationError
from sgl.families import Family
from sgl.flops import glance_flops, row_flops
from sgl.generation import Generating
from sgl.layout import PromptLayout
from sgl.pruning import OneCut, Pruner, Ranked, Scene
from sgl.ranking import Cut, Stage, keep_count, spread
from sgl.resampling import resample
from sgl.selection import AttentionSelection, Plan
from sgl.spacing import even_cells

_FLOAT = 4


class Guided(Ranked):
    """By the small model's attention. What that cost is in the guidance's own usage.

    A ranking by a model that cuts the images into other tokens is resampled to this one's.
    """

    name = "guided"
    needs_guidance = True

    def rank(self, scene: Scene) -> tuple[Tensor, list[float]]:
        """See `Ranked`."""
        if scene.guidance is None:
            raise ConfigurationError("pruner 'guided' needs the small model's guidance")
        importance = [
            resample(one.importance, one.grids, layout.grids)
            for one, layout in zip(scene.guidance, scene.batch.layouts, strict=True)
        ]
        return spread(importance, scene.visual_BT), _nothing(scene)


class OwnGlobal(Ranked):
    """By the model's own attention, from a whole unpruned answer: what a guide could be at best."""

    name = "own"
    answers_first = True

    def rank(self, scene: Scene) -> tuple[Tensor, list[float]]:
        """See `Ranked`."""
        valid_BT = scene.batch.prompt.valid_BT
        capture = RowCapture(len(scene.ids), valid_BT.shape[1], valid_BT.device)
        first = Generating(scene.lm, scene.batch.prompt, scene.limits, capture=capture).finish()
        flops = [
            scene.meter.captured_flops(layout, rows=layout.rows_after_image, new_tokens=len(tokens))
            for layout, tokens in zip(scene.batch.layouts, first.token_ids, strict=True)
        ]
        return scene.complete(capture.importance_BT), flops


class VisionRanked(Ranked):
    """By the attention within the vision tower, which has not read the question."""

    name = "vision"
    watches_vision = True

    def choosing_bytes(self, family: Family, layouts: Sequence[PromptLayout]) -> int:
        """See `Pruner`: scores of all patches of a tile, their softmax, a masked copy."""
        scores = sum(one.patches**2 // max(1, len(one.grids)) for one in layouts)
        return 3 * _FLOAT * min(family.vision_heads * scores, MAX_SCORES)

    def rank(self, scene: Scene) -> tuple[Tensor, list[float]]:
        """See `Ranked`."""
        vision = scene.batch.vision
        assert vision is not None, "the prompts were built without watching"
        grids = [grid for layout in scene.batch.layouts for grid in layout.grids]
        flops = vision.flops([len(layout.grids) for layout in scene.batch.layouts])
        return vision.importance_BT(grids, scene.visual_BT), flops


class Random(Ranked):
    """At random, by the record's id: the same alone, in any batch, and again.

    Args:
        seed: another one draws others.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def rank(self, scene: Scene) -> tuple[Tensor, list[float]]:
        """See `Ranked`."""
        importance = [
            self._generator(id_).random(visual, dtype=np.float32)
            for id_, visual in zip(scene.ids, scene.visual_tokens, strict=True)
        ]
        return spread(importance, scene.visual_BT), _nothing(scene)

    def _generator(self, id_: str) -> np.random.Generator:
        return np.random.default_rng(hash_of(id_, Purpose.TOKENS, self._seed))


class Uniform(OneCut):
    """Evenly over the token grids, in two dimensions."""

    name = "uniform"

    def choose(self, scene: Scene, kept: Sequence[int]) -> tuple[Tensor, list[float]]:
        """See `OneCut`."""
        cells = [
            even_cells(layout.grids, count)
            for layout, count in zip(scene.batch.layouts, kept, strict=True)
        ]
        kept_BT = torch.zeros_like(scene.visual_BT)
        kept_BT[scene.visual_BT] = torch.from_numpy(np.concatenate(cells)).to(kept_BT.device)
        return kept_BT, _nothing(scene)


class Diverse(OneCut):
    """Visual embeddings that differ most from each other; the paper prunes at K = 0."""

    name = "diverse"

    def choosing_bytes(self, family: Family, layouts: Sequence[PromptLayout]) -> int:
        """See `Pruner`: distances, their masked copy, and what they are made of."""
        widest = max(one.visual_tokens for one in layouts) ** 2
        return 3 * _FLOAT * min(len(layouts) * widest, max(widest, MAX_DISTANCES))

    def choose(self, scene: Scene, kept: Sequence[int]) -> tuple[Tensor, list[float]]:
        """See `OneCut`."""
        embeds_BTD = scene.batch.prompt.embeds_BTD
        kept_BT = most_diverse(embeds_BTD, scene.visual_BT, scene.on_device(kept))
        flops = [2.0 * visual**2 * embeds_BTD.shape[2] for visual in scene.visual_tokens]
        return kept_BT, flops


class FastV(Pruner):
    """By the attention of the layer before K, in the same pass; the paper's K is 2."""

    name = "fastv"

    def obstacle(self, family: Family, layer: int) -> str | None:
        """See `Pruner`."""
        if layer > 0:
            return None
        return (
            "it ranks by the attention of the layer before, so that prune_layer times the model's "
            "layers must come to 1 or more; write a larger prune_layer and a smaller keep_ratio"
        )

    def plan(self, scene: Scene, layer: int, keep_ratio: float) -> Plan:
        """See `Pruner`."""
        assert layer > 0, "see obstacle"
        kept = [keep_count(visual, keep_ratio) for visual in scene.visual_tokens]
        selection = AttentionSelection(layer, scene.on_device(kept), True, scene.complete)
        shape = scene.meter.shape
        return Plan(
            [selection],
            [[Cut(layer, count)] for count in kept],
            [row_flops(shape, layout.length) for layout in scene.batch.layouts],
        )


class PyramidDrop(Pruner):
    """In stages of equal depth, each of which keeps the same share of what the one before kept.

    That share is chosen so that the layers from K on see `keep_ratio` of the visual tokens on
    average. The paper's setting, half of them at layers 8, 16 and 24 of 32, is K = 8 and 7 / 24.

    Args:
        stages: how many times it prunes.
    """

    name = "pyramid"

    def __init__(self, stages: int = 3) -> None:
        self._stages = stages

    def plan(self, scene: Scene, layer: int, keep_ratio: float) -> Plan:
        """See `Pruner`."""
        stages = self.stages(layer, scene.lm.layers, keep_ratio)
        cuts = [
            [Cut(stage.layer, keep_count(visual, stage.share)) for stage in stages]
            for visual in scene.visual_tokens
        ]
        selections = []
        for i, stage in enumerate(stages):
            kept_B = scene.on_device([of_record[i].kept for of_record in cuts])
            selections.append(AttentionSelection(stage.layer, kept_B, False, scene.complete))
        flops = [
            self._flops(scene, layout.length, layout.visual_tokens, of_record)
            for layout, of_record in zip(scene.batch.layouts, cuts, strict=True)
        ]
        return Plan(selections, cuts, flops)

    def stages(self, layer: int, layers: int, keep_ratio: float) -> list[Stage]:
        """See `Pruner`."""
        cut_layers = self.cut_layers(layer, layers)
        share = self.share(cut_layers, layers, keep_ratio)
        return [Stage(at, share**i) for i, at in enumerate(cut_layers, 1)]

    def cut_layers(self, layer: int, layers: int) -> list[int]:
        """Where it prunes, from K on: fewer times where there are fewer layers than stages."""
        depth = layers - layer
        stages = min(self._stages, depth)
        return [layer + stage * depth // stages for stage in range(stages)]

    def share(self, cut_layers: Sequence[int], layers: int, keep_ratio: float) -> float:
        """What each stage keeps of the one before: by bisection, as what is seen grows with it."""
        depths = np.diff([*cut_layers, layers])
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            seen = sum(depth * middle**i for i, depth in enumerate(depths, 1))
            low, high = (middle, high) if seen < keep_ratio * sum(depths) else (low, middle)
        return high

    def _flops(self, scene: Scene, length: int, visual: int, cuts: Sequence[Cut]) -> float:
        """Of a look at each stage's layer, before it runs."""
        entering = [visual, *(cut.kept for cut in cuts[:-1])]
        shape = scene.meter.shape
        return sum(glance_flops(shape, length - visual + count) for count in entering)


def _nothing(scene: Scene) -> list[float]:
    """No cost, to anyone."""
    return [0.0] * len(scene.ids)


PRUNERS: dict[str, Pruner] = {
    pruner.name: pruner
    for pruner in (
        Guided(),
        OwnGlobal(),
        FastV(),
        PyramidDrop(),
        VisionRanked(),
        Diverse(),
        Uniform(),
        Random(),
    )
}
"""By name, as their papers have them."""
