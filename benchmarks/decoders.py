"""Random decoders in the shapes of published checkpoints, and prompts around one image."""

from dataclasses import dataclass

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from sgl.decoder import DecodeState, prefill
from sgl.flops import DecoderShape
from sgl.language_model import LanguageModel, Prompt
from sgl.selection import Selection

BEFORE, AFTER = 16, 48
"""Text tokens of a prompt before and after the image."""


@dataclass(frozen=True)
class Decoder:
    """Sizes of a decoder; speed does not depend on the weights' values.

    Attributes:
        hidden, heads, kv_heads, intermediate, layers: as in a transformers configuration.
        vocabulary: rows of the output head.
    """

    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    layers: int
    vocabulary: int = 151_674

    def build(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LanguageModel:
        """With random weights."""
        config = Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            max_position_embeddings=32_768,
            tie_word_embeddings=True,
        )
        with torch.device(device):
            model = Qwen2ForCausalLM._from_config(config, dtype=dtype)
        return LanguageModel(model.eval().model, model.lm_head)

    @property
    def shape(self) -> DecoderShape:
        """For counting FLOPs."""
        return DecoderShape(
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.hidden // self.heads,
            vocabulary=self.vocabulary,
            feed_forward=(3 * self.hidden * self.intermediate,) * self.layers,
        )


INTERNVL3_1B = Decoder(hidden=896, heads=14, kv_heads=2, intermediate=4864, layers=24)
"""The language model of InternVL3-1B (Qwen2.5-0.5B): 0.36 B parameters without embeddings."""

INTERNVL3_8B = Decoder(hidden=3584, heads=28, kv_heads=4, intermediate=18_944, layers=28)
"""The language model of InternVL3-8B (Qwen2.5-7B): 6.5 B parameters without embeddings."""


def image_prompt(lm: LanguageModel, visual: int, batch: int = 1) -> Prompt:
    """Prompts of one length around an image of `visual` random tokens."""
    embedding = lm.text_model.embed_tokens.weight
    length = BEFORE + visual + AFTER
    seed = torch.Generator(device=embedding.device).manual_seed(0)
    embeds_BTD = torch.randn(
        (batch, length, embedding.shape[1]),
        generator=seed,
        device=embedding.device,
        dtype=embedding.dtype,
    )
    valid_BT = torch.ones((batch, length), dtype=torch.bool, device=embedding.device)
    visual_BT = torch.zeros_like(valid_BT)
    visual_BT[:, BEFORE : BEFORE + visual] = True
    return Prompt(
        embeds_BTD=embeds_BTD,
        position_ids_ABT=torch.arange(length, device=embedding.device).expand(1, batch, -1),
        valid_BT=valid_BT,
        visual_BT=visual_BT,
        next_position_B=torch.full((batch,), length, device=embedding.device),
    )


@torch.inference_mode()
def run_prefill(
    lm: LanguageModel, prompt: Prompt, selection: Selection | None = None
) -> tuple[torch.Tensor, DecodeState]:
    """Nothing captured."""
    return prefill(lm, prompt, [selection] if selection else [])
