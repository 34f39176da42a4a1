"""Attention to visual tokens layer by layer: FastV's ranking, and where a model looks.

Shapes: B records, T prompt tokens, L layers, V visual tokens of one record, Q query tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import sgl
from sgl.attention import RowCapture, attention_rows
from sgl.decoder import prefill
from sgl.types import ImageQuestion

FASTV_LAYER = 1
"""FastV (arXiv 2403.06764) with its K = 2 ranks by the attention of the second layer."""


@dataclass(frozen=True)
class LayerMaps:
    """Attention that each visual token of one record gets from the prompt, by layer.

    Attributes:
        after_image_LV: float32, summed over the rows after the image and over heads.
        last_row_LV: float32, of the last prompt token alone, summed over heads.
    """

    after_image_LV: npt.NDArray[np.float32]
    last_row_LV: npt.NDArray[np.float32]

    @property
    def fastv(self) -> npt.NDArray[np.float32]:
        """(V,) FastV's importance: the last token's attention in the second layer."""
        ranking: npt.NDArray[np.float32] = self.last_row_LV[FASTV_LAYER]
        return ranking


class _LayerCapture(RowCapture):
    """Keeps every layer's rows apart."""

    def __init__(self, visual_BT: Tensor) -> None:
        super().__init__(visual_BT.shape[0], visual_BT.shape[1], visual_BT.device)
        steps_T = torch.arange(visual_BT.shape[1], device=visual_BT.device)
        last_B = (steps_T * visual_BT).amax(dim=1)
        self._rows_BT = (steps_T > last_B[:, None]).float()
        self._first = int(last_B.min()) + 1
        self.after_image: list[Tensor] = []
        self.last_row: list[Tensor] = []

    def add(
        self, query_BHQD: Tensor, key_BGTD: Tensor, mask: Tensor | None, scaling: float
    ) -> None:
        """Keep one layer's rows."""
        rows = slice(self._first, query_BHQD.shape[2])
        probs_BHWT = attention_rows(query_BHQD, key_BGTD, mask, scaling, rows)
        weight_BW = self._rows_BT[:, rows]
        self.after_image.append(torch.einsum("bhwt,bw->bt", probs_BHWT, weight_BW))
        self.last_row.append(probs_BHWT[:, :, -1].sum(dim=1))


@torch.inference_mode()
def layer_maps(model: sgl.VLM, records: Sequence[ImageQuestion]) -> list[LayerMaps]:
    """Of one batch of records with images, from one pass over their prompts."""
    prompt = model.prompts(records).prompt
    capture = _LayerCapture(prompt.visual_BT)
    prefill(model.language_model, prompt, capture=capture)
    after_BLT, last_BLT = (
        torch.stack(layers, dim=1).cpu() for layers in (capture.after_image, capture.last_row)
    )
    visual_BT = prompt.visual_BT.cpu()
    return [
        LayerMaps(after_LT[:, visual_T].numpy(), last_LT[:, visual_T].numpy())
        for after_LT, last_LT, visual_T in zip(after_BLT, last_BLT, visual_BT, strict=True)
    ]
