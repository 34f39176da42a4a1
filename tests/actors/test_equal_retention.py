"""Equal average retention, whatever the pruner and the number of layers."""

from pathlib import Path

import pytest

from actors.config import ModelConfig, PrunerName
from actors.equal_retention import equal_ways, way_at
from sgl.equal_retention import RETENTIONS
from sgl.pruners import PRUNERS
from sgl.ranking import Stage
from testbed import model_path
from tests.tiny_models import llava_onevision


def retention_of(stages: list[Stage], layers: int) -> float:
    starts = [*(stage.layer for stage in stages), layers]
    parts = zip(stages, starts, starts[1:], strict=False)
    return (starts[0] + sum((stop - start) * stage.share for stage, start, stop in parts)) / layers


@pytest.mark.parametrize("name", sorted(PRUNERS))
@pytest.mark.parametrize("retention", RETENTIONS)
def test_every_pruner_has_the_retention_with_any_number_of_layers(
    name: PrunerName, retention: float
) -> None:
    for layers in range(2, 101):
        way = way_at(name, retention, layers)
        if way is None:
            assert name == "fastv"
            assert retention * layers <= 1
            continue
        layer = int(layers * way.prune_layer)
        assert layer > 0 or name != "fastv"
        stages = PRUNERS[name].stages(layer, layers, way.keep_ratio)
        assert retention_of(stages, layers) == pytest.approx(retention, abs=1e-6)


def test_the_testbeds_model_can_be_pruned_in_every_way() -> None:
    ways, impossible = equal_ways(ModelConfig(path=str(model_path("large"))), ("guided", "fastv"))
    assert impossible == []
    assert [way.pruner for way in ways] == ["guided"] * 3 + ["fastv"] * 3
    assert list(ways.values()) == [*RETENTIONS] * 2


def test_what_a_model_cannot_do_is_said(tmp_path: Path) -> None:
    vlm = llava_onevision()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    ways, impossible = equal_ways(ModelConfig(path=str(tmp_path)), ("vision", "fastv", "random"))
    assert [way.pruner for way in ways] == ["fastv"] * 2 + ["random"] * 3
    assert [one.split(":")[0] for one in impossible] == [
        *(f"vision at {share:.0%}" for share in RETENTIONS),
        "fastv at 9%",
    ]
