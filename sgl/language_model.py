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

DECODERS = frozenset(
    {
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
        check_decoder(self.text_model.config)
        self.text_model.set_attn_implementation(ATTENTION_NAME)

    @property
    def layers(self) -> int:
        """L."""
        return len(self.text_model.layers)

    def rope(self, hidden_BQD: Tensor, position_ids_ABQ: Tensor) -> Any:
        """(cos, sin) for the given positions, computed afresh, never gathered."""
        if self.position_axes == 1:
            return self.text_model.rotary_emb(hidden_BQD, position_ids_ABQ[0])
        position_ids_ABQ = position_ids_ABQ.expand(self.position_axes, -1, -1)
        return self.text_model.rotary_emb(hidden_BQD, position_ids_ABQ)


def check_decoder(text_config: Any) -> None:
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
    if layer_types - {"full_attention"}:
        raise UnsupportedModelError(
            f"layers of type {sorted(layer_types - {'full_attention'})} cannot be pruned; "
            "only full attention is supported"
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
    """

    embeds_BTD: Tensor
    position_ids_ABT: Tensor
    valid_BT: Tensor
    visual_BT: Tensor
    next_position_B: Tensor
    deepstack: tuple[Tensor, ...] = ()
