"""Which models can be split; that split ones answer alike is in test_sharding.py."""

from typing import Any

import pytest
import torch

from actors.sharding import indivisible
from actors.tensor_parallel import obstacle, parameters
from tests.tiny_models import FAMILIES, internvl


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_families_can_be_split_and_experts_are_left_whole(family: str) -> None:
    """A model with experts is spread layer by layer instead, see `actors.sharding`."""
    reason = obstacle(FAMILIES[family]().model)
    assert reason is None if "moe" not in family else "no plain linear mlp." in str(reason)


def layer_of(model: Any) -> Any:
    return model.get_decoder().layers[-1]


def fuse_attention(model: Any) -> None:
    attention = layer_of(model).self_attn
    attention.qkv_proj = torch.nn.Linear(48, 96)
    del attention.q_proj, attention.k_proj, attention.v_proj


def quantize(model: Any) -> None:
    class QuantLinear(torch.nn.Linear):
        pass

    layer_of(model).mlp.down_proj = QuantLinear(64, 48)


def add_sinks(model: Any) -> None:
    layer_of(model).self_attn.sinks = torch.nn.Parameter(torch.zeros(4))


def norm_over_all_heads(model: Any) -> None:
    layer_of(model).self_attn.q_norm = torch.nn.LayerNorm(48, bias=False)


def norm_per_head(model: Any) -> None:
    layer_of(model).self_attn.q_norm = torch.nn.LayerNorm(12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (fuse_attention, "no plain linear self_attn.q_proj"),
        (quantize, "no plain linear mlp.down_proj"),
        (add_sinks, "parameter self_attn.sinks"),
        (norm_over_all_heads, "parameter self_attn.q_norm.weight"),
    ],
)
def test_layers_of_unknown_make_are_not_split(change: Any, says: str) -> None:
    model = internvl().model
    change(model)
    assert says in str(obstacle(model))


def test_a_norm_of_each_head_alone_is_no_obstacle() -> None:
    model = internvl().model
    norm_per_head(model)
    assert obstacle(model) is None


@pytest.mark.parametrize(
    ("sizes", "ranks", "says"),
    [
        ((28, 4, 18944), 4, None),
        ((28, 4, 18944), 8, "28 attention heads do not divide by 8"),
        ((40, 8, 1000), 5, "8 key-value heads do not divide by 5"),
        ((16, None, 1001), 2, "1001 MLP units do not divide by 2"),
        ((14, 2, 4864), 1, None),
    ],
)
def test_heads_and_units_divide(sizes: Any, ranks: int, says: str | None) -> None:
    names = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    reason = indivisible(dict(zip(names, sizes, strict=True)), ranks)
    assert reason is None if says is None else says in str(reason)


def test_what_is_split_is_nearly_all_of_the_layers() -> None:
    model = internvl().model
    counted = parameters(model)
    assert counted.total == sum(one.numel() for one in model.parameters())
    layers = sum(one.numel() for one in model.get_decoder().layers.parameters())
    assert 0.95 * layers < counted.split < layers
