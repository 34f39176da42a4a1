"""What a probed output says about the cascades that might have been."""

from pathlib import Path

import pytest

from pipeline.observations import observe
from sgl.bounds import BINARY
from sgl.calibration import UNPRUNED, Candidate, Pruned
from tests.pipeline.test_study import GUIDED, RANDOM, output_of, row


def test_ways_that_differ_only_in_their_pruner_are_told_apart(tmp_path: Path) -> None:
    """Guided is always right, random never; both cost what their cells say."""
    rows = [row(i, "yes", "no", exit_score=0.5) for i in range(20)]
    seen = observe(output_of(tmp_path, rows), [GUIDED, RANDOM], None)
    guided, random = (Pruned(0.4, 0.5, name) for name in ("guided", "random"))
    assert tuple(seen.large) == (UNPRUNED, guided, random)
    losses, sample = seen.disagreement("exact_match"), seen.sample()
    assert losses.kind == BINARY
    for way, loss, cost in ((UNPRUNED, 0.0, 11.0), (guided, 0.0, 6.0), (random, 1.0, 7.0)):
        candidate = Candidate(0.9, way)
        assert losses.of(candidate, sample).mean() == loss
        assert sample.cost(candidate).mean() == pytest.approx(cost)
