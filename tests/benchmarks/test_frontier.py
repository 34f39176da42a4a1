"""The benchmark of the frontier, on a sample made by hand."""

from pathlib import Path

import pytest

from benchmarks import frontier
from pipeline.answered import FLOPS, read_sampled
from sgl import statistics
from sgl.flops import DecoderShape, layers_flops, lm_head_flops
from tests.pipeline.test_answered import TYPES, record
from tests.pipeline.test_scoring import make_output

VISUAL, PROMPT, TOKENS = 400, 450, 5


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The confidence tells right from wrong, the mean tells it the wrong way round."""
    rows = [
        record(
            f"{place:03}",
            "yes",
            "yes" if place % 2 else "no",
            "yes",
            "no",
            exit_score=0.1 + 0.001 * place + 0.5 * (place % 2 == 0),
            confidence=0.3 + 0.001 * place + 0.5 * (place % 2),
            consistency=0.5,
            visual_tokens=VISUAL,
            small_prompt_tokens=PROMPT,
            small_completion_tokens=TOKENS,
            small_flops=1e9,
            large_flops=4e9,
            page=f"{place // 2}",
        )
        for place in range(40)
    ]
    return make_output(tmp_path / "out", rows, types=TYPES)


def test_the_consistency_pass_is_taken_off_where_it_is_not_needed(sample: Path) -> None:
    sampled = read_sampled(str(sample), frontier.METRIC, more=frontier.COLUMNS)
    found = frontier.by_score(sampled)
    config, _ = frontier.read_family(str(frontier.model_path("small")), None)
    shape = DecoderShape.of(config.text_config)
    tokens = PROMPT - VISUAL + VISUAL // 20 + TOKENS - 1
    layers = layers_flops(shape, range(shape.layers), tokens, tokens)
    saved = layers + lm_head_flops(shape, TOKENS)
    costs = {name: one.sample.small_cost for name, one in found.items()}
    assert costs["mean of both"].tolist() == costs["consistency"].tolist() == [1e9] * 40
    assert costs["confidence"].tolist() == pytest.approx([1e9 - saved] * 40)
    assert 0 < saved < 1e9
    assert found["mean of both"].sample is sampled.answered[FLOPS].sample


def test_the_better_score_is_cheaper(
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 30)
    frontier.main([str(sample), "--cluster", "page", "--output", str(tmp_path)])
    rows = frontier.measure(str(sample), None)
    recovered = {row["score"]: row["recovered"]["value"] for row in rows}
    assert recovered["confidence"] == pytest.approx(1)
    assert recovered["mean of both"] < 0
    lines = [line.split()[0] for line in frontier.report(rows).splitlines()]
    assert lines.count("confidence") == len(frontier.STRATEGIES)
