"""The long chaos suite: `python -m tests.chaos --seed 0 --kills 60 --output DIR`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.record import write_result
from tests.chaos.outcome import Death, Round, outcome_of, table_of
from tests.chaos.place import Place, on_s3, running_s3
from tests.chaos.plan import draw
from tests.chaos.suite import prepared

RECORDS = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 where an output is not as the undisturbed one."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--output", type=Path, metavar="DIR", help="write a dated JSON file there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep outputs and logs there")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sgl-chaos-") as folder:
        kept = options.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        rounds, calm_s = run(options.seed, options.kills, options.records, kept)
    outcome = outcome_of(rounds) | {"undisturbed_run_s": round(calm_s, 1)}
    print(table_of(rounds, outcome))
    if options.output:
        settings = {name: vars(options)[name] for name in ("seed", "kills", "records")}
        deaths = [asdict(death) for one in rounds for death in one.deaths]
        print(write_result("chaos", settings | {"outcome": outcome}, deaths, options.output))
    return int(bool(outcome["problems"]))


def run(seed: int, kills: int, records: int, folder: Path) -> tuple[list[Round], float]:
    """All rounds of the seed's plan, and how long the undisturbed run took."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    plan, rounds = draw(seed, kills), list[Round]()
    with running_s3() as (server, proxy, faults), prepared(records, folder, seed, tell) as suite:
        bucket = server.bucket("chaos")

        def place_of(number: int) -> Place:
            return on_s3(bucket, f"round-{number}", server, proxy, faults)

        for played in suite.play(plan, place_of, folder):
            rounds.append(played)
            said = "; ".join(played.problems) or "as the undisturbed run"
            print(f"{played.drivers} drivers, {played.seconds:.0f} s: {said}", flush=True)
        return rounds, suite.calm_s


def tell(death: Death) -> None:
    """One line."""
    print(
        f"round {death.round} ({death.storage}) {death.seconds:6.1f} s  {death.kind}: "
        f"{death.moment}; {death.committed} rows committed",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
