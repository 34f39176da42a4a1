"""The actors' models on a checkpoint from disk: the same as the engine called directly."""

from pathlib import Path

import numpy as np
import pytest

import sgl
from actors.config import DecodingConfig, GuidanceConfig, ModelConfig, PruningConfig
from actors.large_vlm import GuidedQuestion, LargeVLM
from actors.small_vlm import SmallVLM
from sgl.errors import ConfigurationError
from sgl.types import Answer, Failure, Guidance, ImageQuestion
from tests.tiny_models import internvl, ragged_records

DECODING = DecodingConfig(max_new_tokens=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    folder: Path = tmp_path_factory.mktemp("model")
    vlm = internvl()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(folder)
    return ModelConfig(path=str(folder), batch_size=3, device="cpu")


def test_small_and_large_answer_as_the_engine_does(model: ModelConfig) -> None:
    records = ragged_records()
    vlm = sgl.load(model.path, device="cpu")
    small = SmallVLM(model, GuidanceConfig(), DECODING)
    guidance = [one for one in small.run(records) if isinstance(one, Guidance)]
    assert len(guidance) == len(records)
    for one, other in zip(guidance, vlm.guide(records, max_new_tokens=3), strict=True):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.importance, other.importance, rtol=1e-4)
    pruning = PruningConfig(prune_layer=0.4, keep_ratio=0.2)
    large = LargeVLM(model, pruning, DECODING)
    requests = [GuidedQuestion(record, one) for record, one in zip(records, guidance, strict=True)]
    expected = vlm.answer(records, guidance, prune_layer=0.4, keep_ratio=0.2, max_new_tokens=3)
    assert [_tokens(answer) for answer in large.run(requests)] == [_tokens(a) for a in expected]
    unguided = large.run([GuidedQuestion(record) for record in records])
    expected = vlm.answer(records, max_new_tokens=3)
    assert [_tokens(answer) for answer in unguided] == [_tokens(a) for a in expected]


def test_bad_records_come_back_typed(model: ModelConfig) -> None:
    good = ragged_records()[0]
    small = SmallVLM(model, GuidanceConfig(), DECODING)
    empty, answered = small.run([ImageQuestion("empty", "", good.images), good])
    assert isinstance(empty, Failure)
    assert (empty.id, empty.stage, empty.type) == ("empty", "small", "EmptyQuestionError")
    assert isinstance(answered, Guidance)


@pytest.mark.parametrize("role", ["small", "large"])
def test_a_record_whose_numbers_overflow_fails_alone(role: str, tmp_path: Path) -> None:
    """In half precision some pictures do; here all, and the others have none."""
    vlm = internvl()
    for weight in vlm.model.model.multi_modal_projector.parameters():
        weight.data.fill_(np.nan)
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    config = ModelConfig(path=str(tmp_path), device="cpu")
    picture = ragged_records()[0].images
    records = [ImageQuestion(f"{i}", "w1 w2", picture if i == 1 else ()) for i in range(3)]
    results: list[Guidance | Answer | Failure]
    if role == "small":
        results = [*SmallVLM(config, GuidanceConfig(), DECODING).run(records)]
    else:
        large = LargeVLM(config, PruningConfig(), DECODING)
        results = [*large.run([GuidedQuestion(record) for record in records])]
    assert [isinstance(one, Failure) for one in results] == [False, True, False]
    failure = results[1]
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.type) == (role, "NumericalError")
    assert "bfloat16" in failure.message


def test_cuda_without_a_device_is_refused_with_the_remedy(model: ModelConfig) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    with pytest.raises(ConfigurationError, match="num_gpus"):
        SmallVLM(model.model_copy(update={"device": "cuda"}), GuidanceConfig(), DECODING)


def _tokens(answer: Answer | Failure) -> tuple[int, ...]:
    assert isinstance(answer, Answer)
    return answer.token_ids
