"""A bare decoder, and a batch of prompts as its first layer sees them.

Shapes: B records, T prompt tokens, Q query tokens, D hidden, A position axes (1, or 3 for M-RoPE),
N vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sgl.attention import ATTENTION_NAME
from sgl.errors import UnsupportedModelError

FULL, SLIDING = "full_attention", "sliding_attention"
"""Names of layer types, as in `config.layer_types`."""

DECODERS = frozenset(
    {
        "gemma3_text",
        "llama",
        "qwen2",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl_text",
        "qwen3_vl_moe_text",
    }
)
"""`config.model_type` of the text models whose layers the decoder loop calls as they are called
natively. Others may have attention sinks, soft caps or layers that remember more than keys and
values, and would be run wrongly without a word."""


@dataclass(frozen=True)
class LanguageModel:
    """A native decoder and its output head.

    Attributes:
        text_model: a transformers decoder with embed_tokens, layers, norm and rotary_emb.
        lm_head: maps (..., D) to (..., N).
        position_axes: A, what its rotary embedding takes: 1, or 3 for M-RoPE.

    Raises:
        UnsupportedModelError: it is none of those that the decoder loop is right for.
    """

    text_model: Any
    lm_head: torch.nn.Module
    position_axes: int = 1

    def __post_init__(self) -> None:
        check_decoder(self.text_model.config, self.position_axes)
        self.text_model.set_attn_implementation(ATTENTION_NAME)

    @property
    def layers(self) -> int:
        """L."""
        return len(self.text_model.layers)

    @property
    def has_windows(self) -> bool:
        """Whether some layers see a sliding window only."""
        return any(self.window(self.layer_type(index)) for index in range(self.layers))

    def layer_type(self, layer: int) -> str:
        """`full_attention` or `sliding_attention`."""
        layer_types = getattr(self.text_model.config, "layer_types", None)
        return str(layer_types[layer]) if layer_types else FULL

    def window(self, layer_type: str) -> int | None:
        """How many tokens layers of a type see, the token itself included; None: all."""
        return None if layer_type == FULL else int(self.text_model.config.sliding_window)

    def rope(self, hidden_BQD: Tensor, position_ids_ABQ: Tensor, layer_type: str) -> Any:
        """(cos, sin) for the given positions, computed afresh, never gathered."""
        if self.position_axes == 1:
            # Families with a frequency per layer type keep their settings by it.
            parameters = self.text_model.config.rope_parameters
            of_type = (layer_type,) if layer_type in parameters else ()
            return self.text_model.rotary_emb(hidden_BQD, position_ids_ABQ[0], *of_type)
        position_ids_ABQ = position_ids_ABQ.expand(self.position_axes, -1, -1)
        return self.text_model.rotary_emb(hidden_BQD, position_ids_ABQ)


def check_decoder(text_config: Any, position_axes: int) -> None:
    """Refuse text models that the decoder loop would run wrongly.

    Raises:
        UnsupportedModelError: it is of an untested kind, or its layers are.
    """
    if text_config.model_type not in DECODERS:
        raise UnsupportedModelError(
            f"text model type {text_config.model_type!r} is not supported, its attention may be of "
            f"another kind; supported are {', '.join(sorted(DECODERS))}"
        )
    layer_types = set(getattr(text_config, "layer_types", None) or ())
    if layer_types - {FULL, SLIDING}:
        raise UnsupportedModelError(
            f"layers of type {sorted(layer_types - {FULL, SLIDING})} cannot be pruned; "
            "only full and sliding attention are supported"
        )
    if SLIDING in layer_types and position_axes > 1:
        raise UnsupportedModelError(
            "sliding windows are counted in tokens, which M-RoPE's positions are not; "
            "layers of type 'sliding_attention' cannot be pruned in this family"
        )
    if getattr(text_config, "use_bidirectional_attention", None):
        raise UnsupportedModelError(
            "use_bidirectional_attention: a text model that looks ahead cannot generate"
        )


@dataclass(frozen=True)
class Prompt:
    """A batch of prompts as the decoder's first layer sees them, left-padded.

    Attributes:
        embeds_BTD: (B, T, D), visual embeddings in place.
        position_ids_ABT: (A, B, T) int64.
        valid_BT: (B, T) bool, False on the padding.
        visual_BT: (B, T) bool, the image tokens.
        next_position_B: (B,) int64, the position of the first generated token.
        deepstack: each (B, T, D), added to what leaves the first, second, ... layer; zero but for
            image tokens. Empty in most families.
        block_BT: (B, T) int64, the image within which a token also attends to what stands behind
            it, -1 on text; None in families that attend causally everywhere.
    """

    embeds_BTD: Tensor
    position_ids_ABT: Tensor
    valid_BT: Tensor
    visual_BT: Tensor
    next_position_B: Tensor
    deepstack: tuple[Tensor, ...] = ()
    block_BT: Tensor | None = None
