"""The job in which both models answer a sample of the records, the large one in every way."""

from collections.abc import Sequence

from actors.config import PruningConfig
from pipeline.config import JobConfig, Mode
from pipeline.probe import UNPRUNED, ProbeConfig
from sgl.calibration import NOBODY_EXITS


def sample_job(
    job: JobConfig, records: int, prunings: Sequence[PruningConfig], seed: int = 0
) -> JobConfig:
    """A cascade from which nothing exits, unpruned, and every record of which is probed.

    Args:
        job: its input, models and output; what it says of mode, threshold, pruning, probe and
            promise is not looked at.
        records: drawn at random from the input.
        prunings: of the probe.
        seed: of the draw.
    """
    data = job.model_dump(exclude_unset=True)
    data |= {
        "mode": Mode.CASCADE.value,
        "threshold": NOBODY_EXITS,
        "pruning": UNPRUNED.model_dump(),
        "probe": ProbeConfig(share=1.0, prunings=tuple(prunings)).model_dump(),
    }
    data.pop("promise", None)
    data["input"] |= {"sample": records, "sample_seed": seed}
    return JobConfig.model_validate(data)
