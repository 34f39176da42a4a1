"""Jobs to plan, made up."""

from typing import Any

from pipeline.plan.costs import Overheads, PoolCost
from pipeline.plan.measured import Measured, MeasuredPool
from pipeline.plan.model import Job

FREE = Overheads(fetch_s=0.0, write_s=0.0, driver_s=0.0)


def job(**more: Any) -> Job:
    """4,096 records, of which three in ten escalate."""
    data: dict[str, Any] = {
        "records": 4096,
        "escalation": 0.3,
        "small": PoolCost(fixed_s=0.1, row_s=0.02, batch_rows=32),
        "large": PoolCost(fixed_s=0.2, row_s=0.1, batch_rows=16, devices=2.0),
        "overheads": Overheads(),
        "cores": 32,
    }
    return Job(**(data | more))


def sample(**more: Any) -> Measured:
    """600 records on a GPU: blocks of 64 in two passes, batches of 16 and of 8."""
    small = MeasuredPool(
        rows=(64,) * 9 + (24,),
        passes=(2,) * 9 + (1,),
        seconds=(*(1.0 + 0.1 * i for i in range(9)), 0.5),
        batch_rows=32,
        startup_s=30.0,
        handling=0.05,
    )
    large = MeasuredPool(
        rows=(16, 8) * 7 + (12,),
        passes=(1,) * 15,
        seconds=(1.8, 1.0) * 7 + (1.4,),
        batch_rows=16,
        devices=2.0,
        startup_s=90.0,
    )
    data: dict[str, Any] = {"source": "made", "device": "gpu", "records": 600, "escalated": 180}
    return Measured(**(data | {"small": small, "large": large} | more))
