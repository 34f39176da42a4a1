"""Row capture against dense attention."""

import pytest
import torch

from sgl import attention
from sgl.attention import RowCapture, attention_rows


def dense(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    repeated = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ repeated.transpose(2, 3) * 0.25
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


@pytest.fixture
def qkv() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 6, 7, 8), torch.randn(3, 2, 10, 8)


def masks() -> list[torch.Tensor | None]:
    causal = torch.ones(7, 10, dtype=torch.bool).tril(3)
    left = torch.arange(10) >= torch.tensor([0, 2, 3])[:, None]
    boolean = causal & left[:, None, None, :]
    additive = torch.zeros(boolean.shape).masked_fill(~boolean, float("-inf"))
    return [None, boolean, additive]


@pytest.mark.parametrize("index", range(3))
def test_rows_equal_dense_attention(index: int, qkv: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask = masks()[index]
    boolean = torch.ones(7, 10, dtype=torch.bool).tril(3) if mask is None else masks()[1]
    assert boolean is not None
    rows = attention_rows(*qkv, mask, 0.25, slice(2, 6))
    torch.testing.assert_close(rows, dense(*qkv, boolean)[:, :, 2:6])


def test_chunks_add_up(
    qkv: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.rand(3, 7)
    weight[:, :2] = 0
    whole, chunked = (RowCapture(3, 9, torch.device("cpu")) for _ in range(2))
    whole.watch(weight, first_row=2)
    whole.add(*qkv, None, 0.25)
    monkeypatch.setattr(attention, "MAX_SCORES", 1)
    chunked.watch(weight, first_row=2)
    chunked.add(*qkv, None, 0.25)
    torch.testing.assert_close(whole.importance_BT, chunked.importance_BT)
    expected = torch.einsum(
        "bhqt,bq->bt", dense(*qkv, torch.ones(7, 10, dtype=torch.bool).tril(3)), weight
    )
    torch.testing.assert_close(whole.importance_BT, expected[:, :9])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_keep_their_digits_in_half_precision(dtype: torch.dtype) -> None:
    """Keys with a large common offset: scores of thousands that differ by little."""
    torch.manual_seed(1)
    query = (torch.randn(1, 2, 5, 64) + 12).to(dtype)
    key = (torch.randn(1, 2, 40, 64) + 12 * (8 if dtype is torch.float16 else 1)).to(dtype)
    rows = attention_rows(query, key, None, 0.125, slice(0, 5))
    scores = (query.double() @ key.double().transpose(2, 3)) * 0.125
    seen = torch.ones(5, 40, dtype=torch.bool).tril(35)
    exact = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
    assert torch.isfinite(rows).all()
    torch.testing.assert_close(rows, exact.float(), rtol=1e-2, atol=1e-5)
