"""What a batch needs at its peak beside the weights, from a model's configuration.

All caches are counted, the layers below K with the whole prompt and those from K on with what is
left of it there, and what one layer holds while it works. It is an estimate from above, within a
factor of two or so of what torch's allocators report; a batch that does not fit all the same is
halved by the actors.

Widths are padded ones. Shapes: B records, T prompt tokens, W tokens after pruning, N vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sgl.attention import MAX_SCORES
from sgl.flops import DecoderShape, kv_cache_bytes
from sgl.kv_cache import ROOM
from sgl.layout import PromptLayout
from sgl.ranking import Stage, keep_count
from sgl.scoring import SCORED_AT_ONCE

_FLOAT = 4


@dataclass(frozen=True)
class BatchMemory:
    """Of one device.

    Attributes:
        shape: of the decoder, or of this device's share of it.
        patch_values: values that the vision tower holds at once for one of its tokens.
        bytes_per_value: of the dtype.
        deepstack: layers that visual features are added to.
        layers: L of the whole decoder; None where the shape is.
        caches: copies of the KV caches that are held at once.
    """

    shape: DecoderShape
    patch_values: int
    bytes_per_value: int
    deepstack: int = 0
    layers: int | None = None
    caches: int = 1

    @property
    def decoder_layers(self) -> int:
        """L of the whole decoder."""
        return self.layers or self.shape.layers

    def split(self, *, heads: int = 1, layers: int = 1) -> "BatchMemory":
        """Of a device that holds one part of so many of every layer, or of the layers.

        Of the layers those with the long caches: they are the first.
        """
        shape = self.shape
        kept = shape.feed_forward[: -(-shape.layers // layers)]
        share = replace(
            shape,
            heads=-(-shape.heads // heads),
            kv_heads=-(-shape.kv_heads // heads),
            feed_forward=tuple(-(-weights // heads) for weights in kept),
        )
        return replace(self, shape=share, layers=self.decoder_layers)

    def peak_bytes(
        self,
        layouts: Sequence[PromptLayout],
        *,
        stages: Sequence[Stage] = (),
        capture: bool = False,
        scored: bool = True,
        choosing: int = 0,
    ) -> int:
        """Of one batch of such prompts.

        Args:
            layouts: at least one.
            stages: what is left of the visual tokens from which layer on, by layer.
            capture: the importance is captured, and the uncertainty told.
            scored: given answers are read: drafts, or the consistency pass's.
            choosing: bytes that a pruner takes before the first layer.
        """
        records = len(layouts)
        width = max(layout.length for layout in layouts)
        new = max(layout.max_new_tokens for layout in layouts) + ROOM
        cache = records * self._cache_bytes(layouts, stages, new)
        at_work = max(
            self._vision_bytes(layouts) + choosing,
            # A draft of the answer may stand behind the prompt.
            self._layer_bytes(records, width if capture else width + new - ROOM)
            + (self._captured_bytes(layouts, width) if capture else 0),
            self._logits_bytes(records, uncertainty=capture, scored=scored),
        )
        # Once with the padding on the left, once on the right.
        copies = 2 * (1 + self.deepstack)
        embeddings = copies * records * width * self.shape.hidden * self.bytes_per_value
        return self.caches * cache + embeddings + at_work

    def _cache_bytes(
        self, layouts: Sequence[PromptLayout], stages: Sequence[Stage], new: int
    ) -> int:
        """Of one record, as wide as the widest is in each layer."""
        shape = self.shape
        starts = [min(stage.layer, shape.layers) for stage in stages]
        tokens = 0
        for start, stop, share in zip(
            [0, *starts],
            [*starts, shape.layers],
            [1.0, *(one.share for one in stages)],
            strict=True,
        ):
            width = max(
                layout.length - layout.visual_tokens + keep_count(layout.visual_tokens, share)
                for layout in layouts
            )
            tokens += (stop - start) * (width + new)
        return kv_cache_bytes(shape, tokens=tokens, bytes_per_value=self.bytes_per_value)

    def _layer_bytes(self, records: int, width: int) -> int:
        """Hidden states and what comes between them, the mask of a ragged batch included."""
        shape = self.shape
        attention = 5 * shape.heads * shape.head_dim + 3 * shape.kv_heads * shape.head_dim
        widest = max(shape.feed_forward) // (3 * shape.hidden)
        values = records * width * (3 * shape.hidden + max(4 * widest, attention))
        mask = records * width * width * (2 + self.bytes_per_value)
        return values * self.bytes_per_value + mask

    def _captured_bytes(self, layouts: Sequence[PromptLayout], width: int) -> int:
        """Rows that the capture holds at once in torch: scores, their softmax, a masked copy."""
        rows = max(layout.rows_after_image for layout in layouts) + 1
        scores = len(layouts) * self.shape.heads * rows * width
        return 3 * _FLOAT * min(scores, MAX_SCORES)

    def _vision_bytes(self, layouts: Sequence[PromptLayout]) -> int:
        return sum(layout.patches for layout in layouts) * self.patch_values * self.bytes_per_value

    def _logits_bytes(self, records: int, *, uncertainty: bool, scored: bool) -> int:
        """In the model's dtype, in float32, and their log-softmax.

        The entropy takes the probabilities and their product with that besides.
        """
        chosen = records * (self.bytes_per_value + (4 if uncertainty else 2) * _FLOAT)
        read = SCORED_AT_ONCE * (self.bytes_per_value + 2 * _FLOAT) if scored else 0
        return max(chosen, read) * self.shape.vocabulary
