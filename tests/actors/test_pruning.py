"""From settings to pruners: on a checkpoint from disk, and what is refused before any record."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from actors.config import DecodingConfig, ModelConfig, PrunerName, PruningConfig
from actors.large_vlm import GuidedQuestion, LargeVLM
from actors.pruning import obstacle, peak_bytes, pruner_of
from sgl.errors import ConfigurationError
from sgl.layout import PromptLayout
from sgl.pruners import PRUNERS
from sgl.types import Answer, Guidance
from sgl.vlm import VLM
from tests.tiny_models import internvl, llava_onevision, qwen2_5_vl, ragged_records

DECODING = DecodingConfig(max_new_tokens=3)
LAYERS = 5
PLACE: dict[str, Any] = {"prune_layer": 0.4, "keep_ratio": 0.2}
UNGUIDED = sorted(set(PRUNERS) - {"guided"})


def saved(vlm: VLM, folder: Path) -> ModelConfig:
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(folder)
    return ModelConfig(path=str(folder), batch_size=3, device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return saved(internvl(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def guidance() -> Sequence[Guidance]:
    return internvl().guide(ragged_records(), max_new_tokens=3)


def test_the_names_in_settings_are_those_there_are() -> None:
    assert set(get_args(PrunerName)) == set(PRUNERS)
    with pytest.raises(ValidationError, match="pruner"):
        PruningConfig.model_validate({"pruner": "fast"})


def test_the_default_is_no_part_of_the_data() -> None:
    """Outputs and policies from before there was a choice must not seem to be of another."""
    assert PruningConfig(**PLACE, pruner="guided").model_dump() == PLACE
    other = PruningConfig(**PLACE, pruner="own")
    assert PruningConfig.model_validate(other.model_dump()) == other != PruningConfig(**PLACE)


@pytest.mark.parametrize("name", UNGUIDED)
def test_without_guidance_all_others_prune_as_the_engine_does(
    name: PrunerName, model: ModelConfig, guidance: Sequence[Guidance]
) -> None:
    records = ragged_records()
    large = LargeVLM(model, PruningConfig(**PLACE, pruner=name), DECODING)
    alone = large.run([GuidedQuestion(record) for record in records])
    beside = large.run(
        [GuidedQuestion(record, one) for record, one in zip(records, guidance, strict=True)]
    )
    expected = internvl().answer(records, pruner=PRUNERS[name], **PLACE, max_new_tokens=3)
    asked = (2 + (LAYERS - 2) * PLACE["keep_ratio"]) / LAYERS
    for one, other, right in zip(alone, beside, expected, strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.token_ids == other.token_ids == right.token_ids
        assert one.pruning == other.pruning == right.pruning
        assert one.pruning is not None
        assert one.pruning.pruner == name
        rounding = 1 / one.usage.visual_tokens
        assert asked - rounding <= one.pruning.average_retention <= asked + rounding


def test_guided_without_guidance_prunes_nothing(model: ModelConfig) -> None:
    assert pruner_of(PruningConfig(), guided=False) is None
    assert pruner_of(PruningConfig(), guided=True) is PRUNERS["guided"]
    answers = LargeVLM(model, PruningConfig(), DECODING).run([GuidedQuestion(ragged_records()[0])])
    assert isinstance(answers[0], Answer)
    assert answers[0].pruning is None


def test_fastv_below_the_first_layer_is_refused_at_the_start(model: ModelConfig) -> None:
    impossible = PruningConfig(prune_layer=0.19, keep_ratio=0.2, pruner="fastv")
    with pytest.raises(ConfigurationError, match=r"layer 0 of 5: .*write a larger prune_layer"):
        LargeVLM(model, impossible, DECODING)
    with pytest.raises(ConfigurationError, match="'fastv' cannot prune"):
        LargeVLM(model, PruningConfig(), DECODING, probed=[PruningConfig(), impossible])


def test_a_tower_that_cannot_be_watched_is_refused_at_the_start(tmp_path: Path) -> None:
    config = saved(llava_onevision(), tmp_path)
    with pytest.raises(ConfigurationError, match=r"LlavaOnevision.*or write another pruner"):
        LargeVLM(config, PruningConfig(pruner="vision"), DECODING)
    LargeVLM(config, PruningConfig(), DECODING)


def test_settings_of_a_tower_decide_whether_it_can_be_watched() -> None:
    vision = PruningConfig(pruner="vision")
    tiled, windowed = internvl().family, qwen2_5_vl().family
    assert obstacle(vision, tiled, LAYERS) is None
    assert obstacle(vision, windowed, LAYERS) is None
    tiled.config.vision_feature_layer = -2
    windowed.config.vision_config.fullatt_block_indexes = [0]
    assert "last layer only" in (obstacle(vision, tiled, LAYERS) or "")
    assert "windows" in (obstacle(vision, windowed, LAYERS) or "")


def test_memory_is_that_of_the_pruner() -> None:
    vlm = internvl()
    grid = vlm.encoder.lay_out(ragged_records()[0], 8).grids[0]
    wide = replace(grid, rows=1, columns=3000)
    layout = PromptLayout([0] * 3100, (wide,), 64, 4000, 0.0, 8)

    def needed(name: PrunerName, keep_ratio: float = 0.01) -> int:
        pruning = PruningConfig(prune_layer=0.4, keep_ratio=keep_ratio, pruner=name)
        return peak_bytes(vlm.memory, vlm.family, [layout], pruning, PRUNERS[name])

    unpruned = peak_bytes(vlm.memory, vlm.family, [layout], PruningConfig(), None)
    assert needed("guided") == needed("random") == needed("fastv") < unpruned
    # Its first stage keeps more than the average, its later ones less.
    assert needed("pyramid", 0.5) == pytest.approx(needed("guided", 0.5), rel=0.02)
    assert needed("own") == vlm.memory.peak_bytes([layout], capture=True) > unpruned
    assert needed("diverse") > 3000**2 * 4
    assert needed("vision") > 4000**2 * 4
