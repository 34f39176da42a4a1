"""Qwen2-VL: the whole image in one attention."""

from sgl.families.qwen_vl import QwenVL
from sgl.flops import linear_flops


class Qwen2VL(QwenVL):
    """In its vision config `hidden_size` is the text's width, `embed_dim` its own."""

    model_types = frozenset({"qwen2_vl"})

    @property
    def vision_width(self) -> int:
        """Of the vision tower's hidden states."""
        return int(self.config.vision_config.embed_dim)

    def mlp_flops(self, patches: int) -> float:
        """A plain MLP."""
        width = self.vision_width
        inner = int(width * self.config.vision_config.mlp_ratio)
        return 2 * linear_flops(patches, width, inner)
