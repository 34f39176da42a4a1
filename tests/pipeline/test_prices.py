from pathlib import Path
from typing import Any

import pytest

from pipeline.config import JobConfig
from pipeline.preflight import Placement, Resources
from pipeline.prices import Priced, priced
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import job_of

H100 = {"Alive": True, "Resources": {"GPU": 8, "accelerator_type:H100": 1}}
L4 = {"Alive": True, "Resources": {"GPU": 1, "accelerator_type:L4": 1}}
UNKNOWN = {"Alive": True, "Resources": {"GPU": 1}}
HEAD = {"Alive": True, "Resources": {"CPU": 8}}


def found(*nodes: dict[str, Any], gpus: float = 1.0, **settings: Any) -> Priced:
    job = job_of(Path("/in"), Path("/out"), **settings)
    placement = Placement(num_gpus=gpus, num_cpus=0.01)
    return priced(job, Resources({"small": placement, "large": placement}), nodes)


def usd(job: JobConfig) -> list[float | None]:
    return [job.pools.small.usd_per_hour, job.pools.large.usd_per_hour]


def test_gpus_are_known_by_the_name_that_ray_has_of_them() -> None:
    one = found(HEAD, H100, H100)
    assert usd(one.job) == [pytest.approx(55.04 / 8)] * 2
    assert "USD 6.88 per hour on demand (AWS p5.48xlarge us-east-1, 2026-10-10)" in one.line()


def test_cores_have_a_price_too() -> None:
    one = found(HEAD, gpus=0.0)
    assert usd(one.job) == [pytest.approx(0.0504)] * 2
    assert "2026-02-09" in one.told["small"]


def test_the_jobs_own_prices_win_over_flags_and_flags_over_the_table() -> None:
    pools = {role: {"usd_per_hour": 1.5} for role in ("small", "large")}
    assert usd(found(H100, pools=pools).job) == [1.5, 1.5]
    given = found(H100, pricing={"overrides": {"h100": 2.49}})
    assert usd(given.job) == [2.49, 2.49]
    assert "USD 2.49 per hour (as given)" in given.line()


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([H100, L4], r"several kinds of GPUs \(H100, L4\)"),
        ([H100, UNKNOWN], r"several kinds of GPUs \(H100, unknown\)"),
        ([UNKNOWN], "no price of GPUs that Ray has no name of"),
    ],
)
def test_without_one_price_for_all_there_is_none_and_the_run_says_why(
    nodes: list[dict[str, Any]], says: str
) -> None:
    one = found(*nodes)
    assert usd(one.job) == [None, None]
    assert says.replace("\\", "") in one.line()
    assert "write pools.*.usd_per_hour" in one.line()


def test_a_price_that_is_of_no_use_alone_says_so() -> None:
    job = job_of(Path("/in"), Path("/out"))
    small, large = (Placement(num_gpus=gpus, num_cpus=0.01) for gpus in (0.0, 1.0))
    one = priced(job, Resources({"small": small, "large": large}), [HEAD, UNKNOWN])
    assert usd(one.job) == [None, None]
    assert one.told["small"].endswith("not used: no price of the large pool")


def test_another_currency_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("currency: EUR\ndate: 2026-11-01\non_demand: {h100: 2.0}\n")
    with pytest.raises(ConfigurationError, match="prices are in EUR"):
        found(H100, pricing={"file": str(file)})


def test_a_price_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pricing\.file .*cannot be read"):
        found(H100, pricing={"file": str(tmp_path / "gone.yaml")})
