"""What dead drivers leave in Ray Data's books, which is not documented: so it is asked for."""

from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.output import Output
from pipeline.reservation import name_of, release
from tests.pipeline.outputs import output_at

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def known() -> list[str]:
    """Who has something reserved."""

    def names(books: Any) -> list[str]:
        return list(books._ongoing_reqs)

    coordinator = ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
    found: list[str] = ray.get(coordinator.__ray_call__.remote(names))
    return found


def underway(output: Output) -> Any:
    """An execution that has begun and is not at its end."""
    rows = ray.data.range(4, override_num_blocks=4).map_batches(lambda batch: batch)
    rows.set_name(name_of(output))
    blocks = iter(rows.iter_batches(batch_size=1))
    next(blocks)
    return blocks


def test_an_earlier_run_of_the_same_output_loses_its_share(tmp_path: Path) -> None:
    mine, other = output_at(tmp_path / "mine"), output_at(tmp_path / "other")
    dead, alive = underway(mine), underway(other)
    before = known()
    assert sum(name.startswith(f"data-{name_of(mine)}_") for name in before) == 1
    assert release(mine) == 1
    after = known()
    assert not any(name_of(mine) in name for name in after)
    assert any(name_of(other) in name for name in after)
    assert release(mine) == 0
    assert len(list(dead)) == len(list(alive)) == 3
