"""Qwen3-VL, dense and mixture of experts: features of lower vision layers enter the text layers."""

from sgl.families.qwen_vl import QwenVL
from sgl.flops import linear_flops


class Qwen3VL(QwenVL):
    """Deepstack: one more merger for every vision layer whose features the text model gets."""

    model_types = frozenset({"qwen3_vl", "qwen3_vl_moe"})

    @property
    def deepstack_layers(self) -> int:
        """Text layers that visual features are added to."""
        return len(self.config.vision_config.deepstack_visual_indexes)

    @property
    def mergers(self) -> int:
        """How many times patches are merged into tokens."""
        return 1 + self.deepstack_layers

    def mlp_flops(self, patches: int) -> float:
        """A plain MLP."""
        inner = self.config.vision_config.intermediate_size
        return 2 * linear_flops(patches, self.vision_width, inner)
