from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.record_pictures import input_records, kept_of, was_guided
from pipeline.conversation import PLAIN, Conversation
from sgl.ranking import keep_count, top_visual_tokens
from sgl.types import Role, TokenGrid, Turn
from tests.pipeline.inputs import data_uri, job_of, write_jsonl
from tests.pipeline.test_openai_batch import image, request, text, user

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("keep_ratio", [0.05, 0.2, 0.4, 1.0])
def test_the_kept_tokens_are_those_that_the_engine_keeps(keep_ratio: float) -> None:
    grids = (TokenGrid(0, 6, 8, WHOLE), TokenGrid(1, 4, 4, WHOLE))
    # Few values, so that there are ties.
    importance = np.random.default_rng(0).integers(0, 6, 64).astype(np.float32)
    kept = kept_of(importance, grids, grids, keep_count(64, keep_ratio))
    engine = top_visual_tokens(
        torch.from_numpy(importance)[None], torch.ones(1, 64, dtype=torch.bool), keep_ratio
    )
    assert kept.tolist() == engine[0].tolist()


def test_a_large_model_with_other_tokens_keeps_its_own() -> None:
    ranked, pruned = (TokenGrid(0, 2, 2, WHOLE),), (TokenGrid(0, 4, 4, WHOLE),)
    kept = kept_of(np.array([0, 0, 0, 1], np.float32), ranked, pruned, 4)
    assert np.argwhere(kept.reshape(4, 4)).tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]


@pytest.mark.parametrize(
    ("pruner", "route", "kept", "guided"),
    [
        ("guided", "large", 5, True),
        (None, "large", 5, True),
        ("fastv", "large", 5, False),
        ("guided", "small", None, False),
        (None, "large", None, False),
    ],
)
def test_only_pruned_rows_of_the_guided_pruner_were_guided(
    pruner: str | None, route: str, kept: int | None, guided: bool
) -> None:
    assert was_guided({"pruner": pruner, "route": route, "kept_tokens": kept}) is guided


def test_a_request_is_found_again_as_it_was_asked(tmp_path: Path) -> None:
    lines = [
        request("a", user([text("this"), image(data_uri(3)), text("?")]), stop="!"),
        request("b", user([image(data_uri(4)), text("q")])),
    ]
    path = write_jsonl(tmp_path / "in.jsonl", lines)
    found = input_records(job_of(path, tmp_path / "out"), {"a", "b"})
    turn = Turn(Role.USER, ("this", None, "?"))
    assert found["a"].conversation == Conversation((turn,), ("!",))
    assert found["b"].conversation == PLAIN
    assert [found[name].pictures[0][0, 0, 0] for name in ("a", "b")] == [3, 4]
