"""Tiny random models in native architectures, with tokenizer and image processor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
    SmolVLMForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from sgl.families import family_of
from sgl.types import ImageQuestion
from sgl.vlm import VLM

WORDS = [f"w{index}" for index in range(80)]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE "
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %} <|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
TEXT_SHAPE = {
    "vocab_size": 100,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def tokenizer(
    image: str, template: str = "IMAGE", marks: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    special = ["<pad>", "<end>", "<|im_start|>", "<|im_end|>", image, "<img>", "</img>"]
    special += ["<|vision_start|>", "<|vision_end|>"]
    names = [*special, "user", "assistant", "<unk>", *WORDS, *marks]
    core = Tokenizer(
        models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=[*special[2:], *marks],
    )
    fast.chat_template = TEMPLATE.replace("IMAGE", template.replace("IMAGE", image))
    return fast


def internvl(seed: int = 0, text: dict[str, Any] | None = None) -> VLM:
    """Tiles of 32 x 32 pixels, 16 visual tokens each."""
    words = tokenizer("<IMG_CONTEXT>")
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [32, 32],
            "patch_size": [4, 4],
            "initializer_range": 0.3,
        },
        text_config={"model_type": "qwen2", **TEXT_SHAPE, **(text or {})},
        image_seq_length=16,
        downsample_ratio=0.5,
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    processor = GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=4
    )
    model = seeded(InternVLForConditionalGeneration, config, seed)
    return VLM(model, words, family_of(config.model_type)(config, processor))


def internvl_llama(seed: int = 0) -> VLM:
    return internvl(seed, {"model_type": "llama"})


def internvl_qwen3(seed: int = 3) -> VLM:
    """With seed 0 it says its image token, which the native forward pass takes for an image."""
    return internvl(seed, {"model_type": "qwen3", "head_dim": 16})


def internvl_qwen3_moe(seed: int = 0) -> VLM:
    """Two of four experts per token, in every other layer."""
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return internvl(seed, {"model_type": "qwen3_moe", **experts, "decoder_sparse_step": 2})


def qwen_vl(
    model_class: Any, vision: dict[str, Any], text: dict[str, Any] | None = None, seed: int = 0
) -> VLM:
    """Patches of 4 x 4 pixels, merged 2 x 2."""
    words = tokenizer("<|image_pad|>", "<|vision_start|>IMAGE<|vision_end|>")
    config = model_class.config_class(
        vision_config={
            "depth": 2,
            "num_heads": 2,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "initializer_range": 0.3,
            **vision,
        },
        text_config={
            **TEXT_SHAPE,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 2, 2],
            },
            **(text or {}),
        },
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|vision_end|>"),
        video_token_id=99,
    )
    processor = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, min_pixels=8 * 8, max_pixels=64 * 64
    )
    model = seeded(model_class, config, seed)
    return VLM(model, words, family_of(config.model_type)(config, processor))


def qwen2_vl(seed: int = 0) -> VLM:
    vision = {"embed_dim": 32, "hidden_size": TEXT_SHAPE["hidden_size"], "mlp_ratio": 2}
    return qwen_vl(Qwen2VLForConditionalGeneration, vision, seed=seed)


def qwen2_5_vl(seed: int = 0, text: dict[str, Any] | None = None) -> VLM:
    """Vision attention in windows of 2 x 2 tokens."""
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "window_size": 16,
        "fullatt_block_indexes": [1],
        "out_hidden_size": TEXT_SHAPE["hidden_size"],
    }
    return qwen_vl(Qwen2_5_VLForConditionalGeneration, vision, text, seed)


DEEPSTACK_VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "out_hidden_size": TEXT_SHAPE["hidden_size"],
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}


def qwen3_vl(seed: int = 0) -> VLM:
    """Features of two vision layers enter the first two text layers."""
    text = {"head_dim": 12}
    return qwen_vl(Qwen3VLForConditionalGeneration, DEEPSTACK_VISION, text, seed)


def qwen3_vl_moe(seed: int = 0) -> VLM:
    """Two of four experts per token, but for a dense layer."""
    text = {
        "head_dim": 12,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [1],
    }
    return qwen_vl(Qwen3VLMoeForConditionalGeneration, DEEPSTACK_VISION, text, seed)


SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "vision_use_head": False,
}


def llava_onevision(seed: int = 0) -> VLM:
    """Tiles of 16 x 16 pixels, 16 visual tokens each; grids over four tiles are thinned out."""
    words = tokenizer("<image>")
    pinpoints = [[16 * rows, 16 * columns] for rows in range(1, 4) for columns in range(1, 4)]
    config = LlavaOnevisionConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "qwen2", **TEXT_SHAPE},
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_4",
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=99,
    )
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=pinpoints
    )
    model = seeded(LlavaOnevisionForConditionalGeneration, config, seed)
    return VLM(model, words, family_of(config.model_type)(config, processor))


def gemma3(seed: int = 0) -> VLM:
    """16 visual tokens per image, windows of 9 tokens but for every other layer."""
    marks = ["<start_of_image>", "<end_of_image>"]
    words = tokenizer("<image_soft_token>", "<start_of_image>", marks)
    config = Gemma3Config(
        vision_config={**SIGLIP, "image_size": 32},
        text_config={
            **TEXT_SHAPE,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
        },
        mm_tokens_per_image=16,
        # Tied random embeddings would make it say the same word for ever.
        tie_word_embeddings=False,
        initializer_range=0.3,
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
    )
    processor = Gemma3ImageProcessorPil(size={"height": 32, "width": 32}, do_pan_and_scan=False)
    model = seeded(Gemma3ForConditionalGeneration, config, seed)
    # Left at zero natively, every image would look the same.
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_(std=0.3)
    return VLM(model, words, family_of(config.model_type)(config, processor))


def idefics3(seed: int = 0, model_class: Any = Idefics3ForConditionalGeneration) -> VLM:
    """Tiles of 16 x 16 pixels, 4 visual tokens each, at most 3 x 3 of them and an overview."""
    marks = ["<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<row_1_col_2>"]
    words = tokenizer("<image>", marks=marks)
    unknown = {"model_type", "vision_use_head"}
    vision = {name: value for name, value in SIGLIP.items() if name not in unknown}
    config = model_class.config_class(
        vision_config=vision,
        text_config={"model_type": "llama", **TEXT_SHAPE},
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=TEXT_SHAPE["pad_token_id"],
    )
    family = family_of(config.model_type)
    processor = family.image_processor_class(
        size={"longest_edge": 48}, max_image_size={"longest_edge": 16}
    )
    return VLM(seeded(model_class, config, seed), words, family(config, processor))


def smolvlm(seed: int = 0) -> VLM:
    return idefics3(seed, SmolVLMForConditionalGeneration)


FAMILIES = {
    "gemma3": gemma3,
    "idefics3": idefics3,
    "internvl": internvl,
    "internvl_llama": internvl_llama,
    "internvl_qwen3": internvl_qwen3,
    "internvl_qwen3_moe": internvl_qwen3_moe,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_moe": qwen3_vl_moe,
    "smolvlm": smolvlm,
}


def seeded(model_class: Any, config: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    model = model_class._from_config(config, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = TEXT_SHAPE["eos_token_id"]
    model.generation_config.pad_token_id = TEXT_SHAPE["pad_token_id"]
    return model


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ragged_records(limit: int | None = None) -> list[ImageQuestion]:
    """Different image sizes, numbers of images and question lengths."""
    shapes: Sequence[tuple[tuple[int, int], ...]] = [
        ((32, 32),),
        ((64, 32),),
        ((32, 96),),
        ((48, 48), (32, 32)),
    ]
    return [
        ImageQuestion(
            id=f"record-{index}",
            question=" ".join(WORDS[index : 3 * index + 4]),
            images=tuple(picture(index * 10 + i, *size) for i, size in enumerate(sizes)),
            max_new_tokens=limit,
        )
        for index, sizes in enumerate(shapes)
    ]
