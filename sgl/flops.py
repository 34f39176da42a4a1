"""Floating point operations and memory traffic of every phase, from a model's configuration.

A multiply-add counts two. Attention counts the whole query x key rectangle, as the matrix products
of a dense kernel do. Normalisation, rotary embedding and softmax are left out (below 1 %).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderShape:
    """The sizes of a decoder that its cost depends on.

    Attributes:
        feed_forward: per layer, the weights that one token is multiplied with between attentions:
            of a gated MLP, or of a router and the experts that it chooses.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    feed_forward: tuple[int, ...]

    @property
    def layers(self) -> int:
        """L."""
        return len(self.feed_forward)

    @classmethod
    def of(cls, text_config: Any) -> "DecoderShape":
        """Read a transformers text configuration."""
        heads = text_config.num_attention_heads
        head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
        layers = range(text_config.num_hidden_layers)
        return cls(
            hidden=text_config.hidden_size,
            heads=heads,
            kv_heads=text_config.num_key_value_heads,
            head_dim=head_dim,
            vocabulary=text_config.vocab_size,
            feed_forward=tuple(_feed_forward(text_config, layer) for layer in layers),
        )


def _feed_forward(config: Any, layer: int) -> int:
    experts = getattr(config, "num_experts", 0)
    sparse = (
        experts
        and (layer + 1) % config.decoder_sparse_step == 0
        and layer not in config.mlp_only_layers
    )
    if not sparse:
        return int(3 * config.hidden_size * config.intermediate_size)
    chosen = config.num_experts_per_tok * 3 * config.moe_intermediate_size
    return int(config.hidden_size * (experts + chosen))


def linear_flops(tokens: int, inputs: int, outputs: int) -> float:
    """A dense layer on some tokens."""
    return 2.0 * tokens * inputs * outputs


def attention_flops(queries: int, keys: int, width: int) -> float:
    """Scores and weighted values; width = heads x head dimension."""
    return 4.0 * queries * keys * width


def layers_flops(shape: DecoderShape, layers: range, queries: int, keys: int) -> float:
    """Some decoder layers; a sliding window or a mask saves a dense kernel nothing."""
    width = shape.heads * shape.head_dim
    kv_width = shape.kv_heads * shape.head_dim
    attention = (
        2 * linear_flops(queries, shape.hidden, width)
        + 2 * linear_flops(queries, shape.hidden, kv_width)
        + attention_flops(queries, keys, width)
    )
    met = sum(shape.feed_forward[layers.start : layers.stop])
    return len(layers) * attention + linear_flops(queries, 1, met)


def vision_tower_flops(vision_config: Any, patches: int, class_tokens: int = 0) -> float:
    """A vision transformer with full attention and a plain MLP, on one image or tile."""
    dim, tokens = vision_config.hidden_size, patches + class_tokens
    patch_h, patch_w = pair(vision_config.patch_size)
    layer = (
        4 * linear_flops(tokens, dim, dim)
        + attention_flops(tokens, tokens, dim)
        + 2 * linear_flops(tokens, dim, vision_config.intermediate_size)
    )
    embed = linear_flops(patches, vision_config.num_channels * patch_h * patch_w, dim)
    return embed + vision_config.num_hidden_layers * layer


def pair(size: Any) -> tuple[int, int]:
    """(height, width) of a size that may be given as one number."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def lm_head_flops(shape: DecoderShape, tokens: int) -> float:
    """The output head on some tokens."""
    return linear_flops(tokens, shape.hidden, shape.vocabulary)


def generation_flops(
    shape: DecoderShape,
    *,
    prompt: int,
    pruned_prompt: int,
    prune_layer: int,
    new_tokens: int,
    drafted: int = 0,
    accepted: int = 0,
) -> float:
    """Prefill and decode of one record.

    Args:
        shape: of the decoder.
        prompt: T, tokens in the layers below K.
        pruned_prompt: W, tokens in the layers from K on; T where nothing is pruned.
        prune_layer: K.
        new_tokens: n; the last one is never fed back.
        drafted: draft tokens that the prefill reads behind the prompt.
        accepted: how many of them are in the answer.
    """
    stages = [(0, prompt), (prune_layer, pruned_prompt)]
    return staged_generation_flops(
        shape, stages, new_tokens=new_tokens, drafted=drafted, accepted=accepted
    )


def staged_generation_flops(
    shape: DecoderShape,
    stages: Sequence[tuple[int, int]],
    *,
    new_tokens: int,
    drafted: int = 0,
    accepted: int = 0,
) -> float:
    """As `generation_flops`, pruned at any number of layers.

    Args:
        shape: of the decoder.
        stages: the first layer of each stage, 0 for the first, and the prompt tokens in its layers.
        new_tokens: n; the last one is never fed back.
        drafted: draft tokens that the prefill reads behind the prompt.
        accepted: how many of them are in the answer.
    """
    starts = [*(layer for layer, _ in stages), shape.layers]
    steps = max(0, new_tokens - accepted - 1)
    total = lm_head_flops(shape, drafted + 1 + steps)
    for (start, prompt), stop in zip(stages, starts[1:], strict=True):
        layers, tokens = range(start, stop), prompt + drafted
        total += layers_flops(shape, layers, tokens, tokens)
        for step in range(1, steps + 1):
            total += layers_flops(shape, layers, 1, tokens + step)
    return total


def scoring_flops(shape: DecoderShape, *, prompt: int, new_tokens: int) -> float:
    """The teacher-forced consistency pass over a pruned prompt and its answer."""
    tokens = prompt + new_tokens - 1
    all_layers = range(shape.layers)
    return layers_flops(shape, all_layers, tokens, tokens) + lm_head_flops(shape, new_tokens)


def capture_flops(shape: DecoderShape, *, prompt: int, rows: int, new_tokens: int) -> float:
    """The attention rows computed a second time for the importance, and their sum."""
    keys = rows * prompt + sum(prompt + step for step in range(1, new_tokens))
    return shape.layers * row_flops(shape, keys)


def row_flops(shape: DecoderShape, keys: int) -> float:
    """One more attention row of one layer, and its sum over heads."""
    return 2.0 * shape.heads * (shape.head_dim + 1) * keys


def glance_flops(shape: DecoderShape, tokens: int) -> float:
    """Queries, keys and values of some tokens in one layer, and one attention row over them."""
    width = shape.head_dim * (shape.heads + 2 * shape.kv_heads)
    return linear_flops(tokens, shape.hidden, width) + row_flops(shape, tokens)


def decoder_weights(shape: DecoderShape) -> int:
    """Values in the matrices of all layers, as far as one token meets them, and of the head."""
    width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.hidden * (2 * width + 2 * kv_width)
    return shape.layers * attention + sum(shape.feed_forward) + shape.hidden * shape.vocabulary


def kv_cache_bytes(
    shape: DecoderShape,
    *,
    tokens: int,
    bytes_per_value: int,
) -> int:
    """All caches of one record.

    Args:
        shape: of the decoder.
        tokens: cached, of all layers together.
        bytes_per_value: of the dtype.
    """
    return 2 * shape.kv_heads * shape.head_dim * tokens * bytes_per_value


def decode_bytes(
    shape: DecoderShape,
    *,
    prompts: Sequence[int],
    pruned_prompts: Sequence[int],
    prune_layer: int,
    bytes_per_value: int,
) -> int:
    """What one decode step of a batch must read: all weights once, and every record's caches.

    Of a mixture of experts those that one token chooses: a lower bound, as records choose others.

    Args:
        shape: of the decoder.
        prompts: per record, cached tokens of the layers below K.
        pruned_prompts: per record, those of the layers from K on.
        prune_layer: K.
        bytes_per_value: of the dtype.
    """
    tokens = sum(
        prune_layer * prompt + (shape.layers - prune_layer) * pruned
        for prompt, pruned in zip(prompts, pruned_prompts, strict=True)
    )
    caches = kv_cache_bytes(shape, tokens=tokens, bytes_per_value=bytes_per_value)
    return decoder_weights(shape) * bytes_per_value + caches
