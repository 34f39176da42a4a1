"""Several devices per replica: the same tokens as one, and no half-dead replica."""

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

import actors.sharded_vlm
from actors.config import DecodingConfig, GuidanceConfig, ModelConfig, PruningConfig
from actors.large_vlm import GuidedQuestion, LargeVLM
from actors.loading import load_model
from actors.sharded_vlm import Introduction, ShardedVLM
from actors.sharding import load_replica
from actors.small_vlm import SmallVLM
from actors.tensor_parallel import Parameters
from pipeline.stage import end_process
from sgl.cohort import Done
from sgl.errors import ConfigurationError, DeviceError, ModelLoadError
from sgl.types import Answer, Failure, Guidance, ImageQuestion
from sgl.vlm import VLM
from testbed.records import draw_records
from tests.actors.rank_workers import gone
from tests.tiny_models import internvl, ragged_records

DECODING = DecodingConfig(max_new_tokens=6)
PRUNING = PruningConfig(prune_layer=0.4, keep_ratio=0.3)
TESTBED = Path(__file__).parents[2] / "testbed" / "weights"


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """Biases everywhere and a vocabulary that does not divide by 2."""
    folder: Path = tmp_path_factory.mktemp("model")
    text = {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "vocab_size": 101}
    vlm = internvl(text=text)
    for name, parameter in vlm.model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(folder)
    return ModelConfig(path=str(folder), batch_size=3, device="cpu")


@pytest.fixture(scope="module")
def two_ranks(one_process: ModelConfig) -> ModelConfig:
    return one_process.model_copy(update={"tensor_parallel": 2})


def guided(model: ModelConfig, records: list[ImageQuestion]) -> list[Guidance]:
    results = SmallVLM(model, GuidanceConfig(), DECODING).run(records)
    return [one for one in results if isinstance(one, Guidance)]


def tokens(results: Sequence[Answer | Failure]) -> list[Any]:
    return [one.token_ids if isinstance(one, Answer) else one.type for one in results]


class Replica:
    """A large model as the pipeline's stage holds it."""

    def __init__(self, model: ModelConfig) -> None:
        self._large = LargeVLM(model, PRUNING, DECODING)

    def run(self, requests: list[GuidedQuestion]) -> list[Any]:
        try:
            return tokens(self._large.run(requests))
        except Exception as error:
            end_process(error)

    def ranks(self) -> list[int]:
        """The processes that it started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = stat.with_name("cmdline").read_bytes()
            except OSError:
                continue
            if parent == os.getpid() and b"actors.rank_process" in command:
                found.append(int(stat.parent.name))
        return found


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.usefixtures("ray_cluster")
def test_a_replica_of_two_ranks_in_a_ray_actor(
    one_process: ModelConfig, two_ranks: ModelConfig
) -> None:
    records = ragged_records()
    requests = [
        GuidedQuestion(record, one)
        for record, one in zip(records, guided(one_process, records), strict=True)
    ]
    unguided = [GuidedQuestion(record) for record in records]
    bad = [requests[0], GuidedQuestion(ImageQuestion("bad", " "), requests[0].guidance)]
    alone = LargeVLM(one_process, PRUNING, DECODING)
    expected = tokens(alone.run(requests))
    assert expected != tokens(alone.run(unguided)), "this model would not notice its pruning"

    actor = ray.remote(num_cpus=0.01, max_restarts=2, max_task_retries=-1)(Replica)
    replica = actor.remote(two_ranks)
    assert ray.get(replica.run.remote(requests)) == expected
    assert ray.get(replica.run.remote(unguided)) == tokens(alone.run(unguided))
    assert ray.get(replica.run.remote(bad)) == [expected[0], "EmptyQuestionError"]

    ranks = ray.get(replica.ranks.remote())
    assert len(ranks) == 2
    work = replica.run.remote(requests * 10)
    os.kill(ranks[1], signal.SIGKILL)
    assert ray.get(work) == expected * 10
    assert gone(ranks)
    others = ray.get(replica.ranks.remote())
    assert len(others) == 2
    assert not set(ranks) & set(others)

    ray.kill(replica)
    assert gone(others)


def test_the_shipped_model_guides_and_answers_as_in_one_process() -> None:
    records = [
        ImageQuestion(one.id, one.question.text, (one.image,)) for one in draw_records("heldout", 4)
    ]
    model = ModelConfig(path=str(TESTBED / "large"), device="cpu")
    alone = load_model(model)
    replica = load_replica(model.model_copy(update={"tensor_parallel": 2}))
    split = replica.engine
    assert isinstance(split, ShardedVLM)
    assert replica.room_bytes > 0
    layouts = [replica.encoder.lay_out(record) for record in records]
    assert layouts == [alone.encoder.lay_out(record) for record in records]
    whole, half = alone.memory, replica.memory
    assert half.shape.kv_heads * 2 == whole.shape.kv_heads
    assert half.peak_bytes(layouts) < whole.peak_bytes(layouts)
    guidance = alone.guide(records)
    for one, other in zip(guidance, split.guide(records), strict=True):
        assert one.token_ids == other.token_ids
        # Each rank has seen the rows of its own heads only.
        np.testing.assert_allclose(one.importance, other.importance, rtol=1e-3, atol=1e-5)
        assert one.exit_score == pytest.approx(other.exit_score, rel=1e-3)
    pruned = split.answer(records, guidance, prune_layer=0.19, keep_ratio=0.2)
    expected = alone.answer(records, guidance, prune_layer=0.19, keep_ratio=0.2)
    assert tokens(pruned) == tokens(expected)


def test_cohorts_of_two_ranks_answer_as_a_batch_of_one_process(
    one_process: ModelConfig, two_ranks: ModelConfig
) -> None:
    records = ragged_records()
    split = SmallVLM(two_ranks, GuidanceConfig(), DECODING)
    expected = {one.id: one for one in guided(one_process, records)}
    cohort, other = split.cohort(records, [0]), split.cohort(records[1:], ())
    cohort.cancel(3)
    found: dict[str, Guidance] = {}
    said = ""
    while cohort.unfinished or other.unfinished:
        for running in (cohort, other):
            for event in running.step() if running.unfinished else ():
                if isinstance(event, Done):
                    found[event.result.id] = event.result
                else:
                    said += event.text
    for name, guidance in expected.items():
        assert found[name].token_ids == guidance.token_ids
        np.testing.assert_allclose(found[name].importance, guidance.importance, rtol=1e-3)
    assert said == expected[records[0].id].answer
    abandoned = split.cohort(records)
    abandoned.step()
    for place in range(len(records)):
        abandoned.cancel(place)
    again = [one.token_ids for one in split.run(records) if isinstance(one, Guidance)]
    assert again == [one.token_ids for one in expected.values()]


def test_a_model_that_does_not_divide_is_spread_and_that_is_said(
    one_process: ModelConfig, caplog: pytest.LogCaptureFixture
) -> None:
    records = ragged_records(3)
    with caplog.at_level(logging.WARNING):
        spread = load_replica(one_process, gpus=3).engine
    assert isinstance(spread, VLM)
    assert "cannot be split over 3 GPUs (its 4 attention heads do not divide by 3)" in caplog.text
    assert tokens(spread.answer(records)) == tokens(load_model(one_process).answer(records))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("ranks", [None, 1])
def test_two_gpus_answer_as_one(one_process: ModelConfig, ranks: int | None) -> None:
    on_gpu = {"device": "cuda", "dtype": "float32", "tensor_parallel": ranks}
    model = one_process.model_copy(update=on_gpu)
    records = ragged_records()
    alone, both = load_model(model), load_replica(model, gpus=2).engine
    assert isinstance(both, VLM if ranks else ShardedVLM)
    guidance = alone.guide(records)
    settings = {"prune_layer": 0.4, "keep_ratio": 0.3, "max_new_tokens": 6, "min_new_tokens": 1}
    expected = alone.answer(records, guidance, **settings)
    assert tokens(both.answer(records, guidance, **settings)) == tokens(expected)


def test_layers_are_spread_where_that_is_asked_for(one_process: ModelConfig) -> None:
    asked = one_process.model_copy(update={"tensor_parallel": 1})
    assert isinstance(load_replica(asked, gpus=2).engine, VLM)


def test_a_split_that_is_asked_for_and_impossible_is_refused(one_process: ModelConfig) -> None:
    asked = one_process.model_copy(update={"tensor_parallel": 4})
    with pytest.raises(ConfigurationError, match=r"tensor_parallel: .* 2 key-value heads"):
        load_replica(asked)
    with pytest.raises(ConfigurationError, match="4 processes would not use the replica's 2 GPUs"):
        load_replica(asked, gpus=2)
    with pytest.raises(ConfigurationError, match=r"cuda_graphs: .* one GPU"):
        load_replica(one_process.model_copy(update={"cuda_graphs": True, "tensor_parallel": 2}))
    with pytest.raises(ModelLoadError, match="cannot read the checkpoint"):
        load_replica(asked.model_copy(update={"path": "/no/where"}))


def test_ranks_that_hold_the_whole_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, one_process: ModelConfig
) -> None:
    whole = Introduction(Parameters(115200, 200000), internvl().memory, 0)

    class Unsplit:
        introductions = (whole,) * 2
        closed = False

        def __init__(self, build: Any, ranks: int) -> None:
            pass

        def close(self) -> None:
            Unsplit.closed = True

    monkeypatch.setattr(actors.sharded_vlm, "RankGroup", Unsplit)
    with pytest.raises(DeviceError, match="they are not split"):
        ShardedVLM(one_process, 2, internvl().model)
    assert Unsplit.closed
