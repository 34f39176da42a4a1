"""The kernel's attention of one query over a masked cache against torch's."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

pytest.importorskip("triton", reason="triton, of the dev extra, is published for Linux only")

from sgl.kernels import decode_attention as kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # -inf in the interpreter


@pytest.mark.parametrize(
    ("batch", "heads", "groups", "keys", "dim", "dtype", "tolerance"),
    [
        pytest.param(2, 6, 2, 150, 80, torch.float32, 1e-6, id="grouped-heads"),
        pytest.param(1, 2, 2, 64, 96, torch.bfloat16, 1e-2, id="bfloat16"),
        pytest.param(2, 3, 1, 70, 64, torch.float16, 1e-3, id="float16"),
        pytest.param(3, 1, 1, 20, 256, torch.float32, 1e-6, id="wide-heads"),
    ],
)
def test_it_equals_torch(
    batch: int,
    heads: int,
    groups: int,
    keys: int,
    dim: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    """Padding before, room behind, and rooms full of NaN that nobody may read."""
    generator = torch.Generator().manual_seed(keys)
    query = torch.randn(batch, 1, heads, dim, generator=generator).to(DEVICE, dtype).transpose(1, 2)
    key, value = (
        torch.randn(batch, groups, keys + 3, dim, generator=generator).to(DEVICE, dtype)[
            :, :, :keys
        ]
        for _ in range(2)
    )
    places = torch.arange(keys)
    first = torch.arange(batch)[:, None] * 7
    mask = ((places >= first) & (places < keys - 4)).to(DEVICE)[:, None, None]
    expected = scaled_dot_product_attention(
        query.float(), key.float(), value.float(), attn_mask=mask, scale=0.2, enable_gqa=True
    )
    hidden = ~mask[:, 0, 0, None, :, None]
    key, value = key.masked_fill(hidden, torch.nan), value.masked_fill(hidden, torch.nan)
    output = kernel.decode_attention(query, key, value, mask, 0.2)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=tolerance, atol=tolerance)


def test_spans_that_nobody_sees_weigh_nothing() -> None:
    query, key = torch.randn(1, 1, 1, 16, device=DEVICE), torch.randn(1, 1, 300, 16, device=DEVICE)
    mask = torch.zeros(1, 1, 1, 300, dtype=torch.bool, device=DEVICE)
    mask[..., 130] = True
    output = kernel.decode_attention(query, key, key, mask, 0.25)
    torch.testing.assert_close(output, key[:, :, 130:131])
