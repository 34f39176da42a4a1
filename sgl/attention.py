"""The global attention map, captured row by row beside fused attention (paper, section 3.2).

    a_v = sum_l sum_h sum_i w_i A[l,h][i,v]

Only the rows i that count (the prompt tokens after the image, and every generated token that was
fed back) are ever computed: a layer runs fused attention as always, and beside it
softmax(Q_rows K^T) for those rows. The T x T map is never materialised.

| paper            | here                |
|------------------|---------------------|
| a_v              | importance_BT[:, v] |
| rows i that count| row_weight_BQ       |

Shapes: B records, H heads, G kv heads, R = H / G heads per kv head, Q query tokens, W rows that
count, T key tokens, D head dimension.

Departures from the paper's code: it materialises every map with eager attention and copies all of
them to the host; its rows start at the last visual token itself (`include_last_visual_row`).
"""

from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION_NAME = "sgl_fused_with_row_capture"

MAX_SCORES = 1 << 26
"""Attention scores held at once, 256 MiB in float32: more rows are captured in chunks."""

_HAS_TRITON = find_spec("triton") is not None


class RowCapture:
    """Sums weighted attention rows over layers, heads and steps.

    Attributes:
        importance_BT: (B, T) float32, one value per prompt column.
    """

    def __init__(
        self,
        batch_size: int,
        columns: int,
        device: torch.device,
        column_sums: "ColumnSums | None" = None,
    ) -> None:
        """Start from zero.

        Args:
            batch_size: B.
            columns: T.
            device: of the sums.
            column_sums: default: for every layer the fastest that runs on its device.
        """
        self.importance_BT = torch.zeros(batch_size, columns, device=device)
        self._column_sums = column_sums
        self._row_weight_BQ: Tensor | None = None
        self._first_row = 0
        self._record_B: Tensor | None = None

    def watch(
        self, row_weight_BQ: Tensor, first_row: int = 0, record_B: Tensor | None = None
    ) -> None:
        """Set which rows of the next forward pass count.

        Args:
            row_weight_BQ: (B, Q) float32, the weight of each query row.
            first_row: all rows before it have weight 0 in every record.
            record_B: (B,) int64, the records that this pass is about, where some have left the
                batch; None means all of them.
        """
        self._row_weight_BQ = row_weight_BQ
        self._first_row = first_row
        self._record_B = record_B

    def add(
        self, query_BHQD: Tensor, key_BGTD: Tensor, mask: Tensor | None, scaling: float
    ) -> None:
        """Add one layer's rows; `mask` as fused attention gets it, None meaning causal."""
        assert self._row_weight_BQ is not None, "watch() comes before the forward pass"
        if self._first_row == query_BHQD.shape[2]:
            return
        column_sums = self._column_sums or fastest_column_sums(query_BHQD)
        weight_BQ = self._row_weight_BQ.to(query_BHQD.device)
        sum_BT = column_sums(query_BHQD, key_BGTD, mask, scaling, weight_BQ, self._first_row)
        added_BT = sum_BT[:, : self.importance_BT.shape[1]].to(self.importance_BT.device)
        if self._record_B is None:
            self.importance_BT += added_BT
        else:
            self.importance_BT.index_add_(0, self._record_B, added_BT)


class GlancedError(Exception):
    """Ends the layer that a `Glance` came to; caught by those who sent it."""


class Glance(RowCapture):
    """Gives another capture the rows of the first layer that it comes to, and ends that layer.

    What a layer would attend to is known before it attends: nothing behind its scores is computed.
    """

    def __init__(self, capture: RowCapture) -> None:
        self._capture = capture

    def add(
        self, query_BHQD: Tensor, key_BGTD: Tensor, mask: Tensor | None, scaling: float
    ) -> None:
        """Hand on and raise `GlancedError`."""
        self._capture.add(query_BHQD, key_BGTD, mask, scaling)
        raise GlancedError


class ColumnSums(Protocol):
    """Weighted attention rows, summed over heads and rows."""

    def __call__(
        self,
        query_BHQD: Tensor,
        key_BGTD: Tensor,
        mask: Tensor | None,
        scaling: float,
        weight_BQ: Tensor,
        first_row: int,
    ) -> Tensor:
        """(B, T) float32.

        Args:
            query_BHQD: (B, H, Q, D), after rotary embedding.
            key_BGTD: (B, G, T, D), cached keys included; the queries are its last Q tokens.
            mask: (B or 1, 1, Q, T), boolean (True = may attend) or additive; None means causal.
            scaling: factor on the scores.
            weight_BQ: (B, Q) float32, 0 before `first_row`.
            first_row: below Q; no row before it is computed.
        """


def fastest_column_sums(query_BHQD: Tensor) -> ColumnSums:
    """The fused kernel where it runs: on a GPU with triton, in half or single precision."""
    if _kernels_run_on(query_BHQD):
        from sgl.kernels import row_capture

        return row_capture.column_sums
    return column_sums


def _kernels_run_on(states: Tensor) -> bool:
    return _HAS_TRITON and states.is_cuda and states.dtype != torch.float64


def column_sums(
    query_BHQD: Tensor,
    key_BGTD: Tensor,
    mask: Tensor | None,
    scaling: float,
    weight_BQ: Tensor,
    first_row: int,
) -> Tensor:
    """`ColumnSums` in torch, in chunks of rows."""
    batch, heads, queries, _ = query_BHQD.shape
    keys = key_BGTD.shape[2]
    sum_BT = torch.zeros(batch, keys, device=query_BHQD.device)
    rows_per_chunk = max(1, MAX_SCORES // (batch * heads * keys))
    for start in range(first_row, queries, rows_per_chunk):
        rows = slice(start, start + rows_per_chunk)
        probs_BHWT = attention_rows(query_BHQD, key_BGTD, mask, scaling, rows)
        sum_BT += torch.einsum("bhwt,bw->bt", probs_BHWT, weight_BQ[:, rows])
    return sum_BT


def attention_rows(
    query_BHQD: Tensor, key_BGTD: Tensor, mask: Tensor | None, scaling: float, rows: slice
) -> Tensor:
    """Attention probabilities of some query rows, (B, H, W, T) float32.

    Args:
        query_BHQD: (B, H, Q, D), after rotary embedding.
        key_BGTD: (B, G, T, D), cached keys included; the queries are its last Q tokens.
        mask: (B or 1, 1, Q, T), boolean (True = may attend) or additive; None means causal.
        scaling: factor on the scores.
        rows: which of the Q rows.
    """
    batch, heads, queries, dim = query_BHQD.shape
    groups, keys = key_BGTD.shape[1], key_BGTD.shape[2]
    query_BGXD = query_BHQD[:, :, rows].reshape(batch, groups, -1, dim)
    # In half precision large scores would lose their digits, or overflow, before they are scaled.
    scores_BGXT = (query_BGXD.float() * scaling) @ key_BGTD.float().transpose(2, 3)
    scores_BHWT = scores_BGXT.view(batch, heads, -1, keys)
    if mask is None:
        row_index = torch.arange(queries, device=query_BHQD.device)[rows] + keys - queries
        mask = torch.arange(keys, device=query_BHQD.device) <= row_index[:, None]
    else:
        mask = mask[:, :, rows]
    if mask.dtype == torch.bool:
        scores_BHWT = scores_BHWT.masked_fill(~mask, float("-inf"))
    else:
        scores_BHWT = scores_BHWT + mask
    return scores_BHWT.softmax(dim=-1)


def _fused_attention_with_row_capture(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    sgl_capture: RowCapture | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Fused attention; a RowCapture that travelled as a layer keyword gets this layer's rows."""
    if sgl_capture is not None:
        sgl_capture.add(query, key, attention_mask, scaling)
    if attention_mask is not None and _is_decode(query, key, value, attention_mask):
        from sgl.kernels.decode_attention import decode_attention

        mask_B11T = attention_mask.expand(query.shape[0], -1, -1, -1)
        return decode_attention(query, key, value, mask_B11T, scaling).transpose(1, 2), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )


def _is_decode(query_BHQD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, mask: Tensor) -> bool:
    """One query per record over what a mask shows, where the kernel for it runs.

    Fused attention would walk all keys, hidden ones too, with few programs.
    """
    shapes_fit = query_BHQD.shape[2] == 1 and key_BGTD.shape[3] == value_BGTD.shape[3]
    return shapes_fit and mask.dtype == torch.bool and _kernels_run_on(query_BHQD)


AttentionInterface.register(ATTENTION_NAME, _fused_attention_with_row_capture)
# Without a mask function under the same name transformers passes no mask at all and padding
# would silently be attended to.
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
