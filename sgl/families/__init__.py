"""Model families by `config.model_type`."""

from sgl.errors import UnsupportedModelError
from sgl.families.base import Family
from sgl.families.gemma3 import Gemma3
from sgl.families.idefics3 import Idefics3, SmolVLM
from sgl.families.internvl import InternVL
from sgl.families.llava_onevision import LlavaOnevision
from sgl.families.qwen2_5_vl import Qwen25VL
from sgl.families.qwen2_vl import Qwen2VL
from sgl.families.qwen3_vl import Qwen3VL

__all__ = ["FAMILIES", "Family", "family_of"]

FAMILIES: tuple[type[Family], ...] = (
    Gemma3,
    Idefics3,
    InternVL,
    LlavaOnevision,
    Qwen2VL,
    Qwen25VL,
    Qwen3VL,
    SmolVLM,
)


def family_of(model_type: str) -> type[Family]:
    """The family that serves a model type.

    Raises:
        UnsupportedModelError: none does.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = sorted(name for family in FAMILIES for name in family.model_types)
    raise UnsupportedModelError(
        f"model type {model_type!r} is not supported; supported are {', '.join(known)} "
        "(checkpoints in native transformers format)"
    )
