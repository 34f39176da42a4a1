"""The pair: native InternVL with a Qwen2 language model, a tokenizer and an image processor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from testbed import ModelName
from testbed.page import COLUMNS, TILE_ROWS
from testbed.render import CELL
from testbed.vocabulary import END, IMAGE, IMAGE_END, IMAGE_START, PAD, START, TOKEN_ID, UNKNOWN

TILE_TOKENS = COLUMNS * TILE_ROWS
TILE_PIXELS = COLUMNS * CELL
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a language model, and the seed of its weights and its training data."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    seed: int


SHAPES: dict[ModelName, Shape] = {
    "small": Shape(layers=3, hidden=64, heads=4, intermediate=192, seed=1),
    "large": Shape(layers=12, hidden=96, heads=4, intermediate=192, seed=2),
}
_HEAD_SIZE = 32
_ROPE_THETA = 1e7
"""With 10,000, three of eight frequencies turn slowly enough to compare what two tokens show when
they are hundreds of tokens apart; with this one ten of sixteen do."""
_VISION = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": [TILE_PIXELS, TILE_PIXELS],
    "patch_size": [CELL, CELL],
    "use_absolute_position_embeddings": True,
    "attention_bias": True,
    "layer_scale_init_value": 1.0,
}


def build_model(name: ModelName) -> Any:
    """A freshly initialised InternVLForConditionalGeneration, float32."""
    shape = SHAPES[name]
    config = InternVLConfig(
        vision_config=_VISION,
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(TOKEN_ID),
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "head_dim": _HEAD_SIZE,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "pad_token_id": TOKEN_ID[PAD],
            "eos_token_id": TOKEN_ID[END],
            "bos_token_id": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": _ROPE_THETA},
        },
        image_seq_length=TILE_TOKENS,
        downsample_ratio=1.0,
        image_token_id=TOKEN_ID[IMAGE],
        tie_word_embeddings=True,
    )
    torch.manual_seed(shape.seed)
    model = InternVLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
    _prepare_weights(model)
    return model


@torch.no_grad()
def _prepare_weights(model: Any) -> None:
    """Embeddings of about unit length; residual branches start small in deep stacks."""
    layers = model.model.language_model.layers
    hidden = model.config.text_config.hidden_size
    torch.nn.init.normal_(model.model.language_model.embed_tokens.weight, std=2 * hidden**-0.5)
    for layer in layers:
        for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
            branch.weight.mul_((2 * len(layers)) ** -0.5)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word and two per number; decodes to space-separated words."""
    core = Tokenizer(models.WordPiece(TOKEN_ID, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.WordPiece(cleanup=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens={
            "start_turn_token": START,
            "start_image_token": IMAGE_START,
            "end_image_token": IMAGE_END,
            "context_image_token": IMAGE,
        },
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_image_processor() -> GotOcr2ImageProcessorPil:
    """Pages of one tile stay one tile, tall ones become two and a thumbnail; no pixel is scaled."""
    return GotOcr2ImageProcessorPil(
        size={"height": TILE_PIXELS, "width": TILE_PIXELS},
        crop_to_patches=True,
        min_patches=1,
        max_patches=2,
    )


def export(model: Any, folder: Path) -> None:
    """Write a checkpoint that transformers and `sgl.load` read."""
    model.generation_config = GenerationConfig(
        eos_token_id=TOKEN_ID[END], pad_token_id=TOKEN_ID[PAD], do_sample=False
    )
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
