import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.cache_utils import DynamicLayer

from actors.layer_placement import balanced, spread
from sgl.attention import RowCapture
from sgl.decoder import DecodeState, Segment, decode_step, run_layers
from sgl.kv_cache import kv_cache
from sgl.masks import Attended
from tests.tiny_models import internvl, ragged_records


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(0, 500), st.integers(1, 8)
)
def test_layers_are_placed_in_order_and_evenly(layers: list[int], rest: int, devices: int) -> None:
    placed = balanced(layers, rest, devices)
    assert placed == sorted(placed)
    assert set(placed) <= set(range(devices))
    held = [rest, *[0] * (devices - 1)]
    for size, device in zip(layers, placed, strict=True):
        held[device] += size
    fair = (rest + sum(layers)) / devices
    assert max(held) <= max(fair + max(layers), rest)


def test_many_equal_layers_use_every_device() -> None:
    placed = balanced([10] * 28, 40, 4)
    assert [placed.count(device) for device in range(4)] == [4, 8, 8, 8]


def test_a_spread_model_answers_as_before() -> None:
    vlm, records = internvl(), ragged_records(4)
    guidance = vlm.guide(records)
    expected = vlm.answer(records, guidance, prune_layer=0.4, keep_ratio=0.3)
    spread(vlm.model, [torch.device("cpu")] * 3)
    again = vlm.answer(records, guidance, prune_layer=0.4, keep_ratio=0.3)
    assert [one.token_ids for one in again] == [one.token_ids for one in expected]


def test_no_tensor_is_used_on_another_device_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes and devices without values, where an operation across devices is an error."""
    first, second = torch.device("cpu"), torch.device("cpu", 1)

    def begin(self: DynamicLayer, keys: torch.Tensor, values: torch.Tensor) -> None:
        # The native one makes an empty tensor, which on a second CPU would be on the first.
        self.dtype, self.device = keys.dtype, keys.device
        self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        self.is_initialized = True

    monkeypatch.setattr(DynamicLayer, "lazy_initialization", begin)
    vlm = internvl()
    lm, layers, width = vlm.language_model, vlm.layers, vlm.language_model.text_model.config
    with FakeTensorMode(allow_non_fake_inputs=True):
        spread(vlm.model, [first, second])
        homes = [layer.mlp.up_proj.weight.device for layer in lm.text_model.layers]
        assert set(homes) == {first, second}
        capture, cache = RowCapture(2, 7, first), kv_cache()
        capture.watch(torch.ones(2, 7))
        hidden = torch.randn(2, 7, width.hidden_size)
        mask = torch.ones(2, 1, 7, 7, dtype=torch.bool)
        positions = torch.arange(7).expand(1, 2, 7)
        out = run_layers(lm, range(layers), hidden, positions, lambda _: mask, cache, capture)
        assert out.device == capture.importance_BT.device == first
        assert [layer.keys.device for layer in cache.layers] == homes
        segments = [
            Segment(part, Attended(None, None, None)) for part in (range(3), range(3, layers))
        ]
        state = DecodeState(cache, segments, torch.tensor([7, 7]))
        state.keep_rows(torch.tensor([1]))
        assert decode_step(lm, state, torch.tensor([3])).device == first
