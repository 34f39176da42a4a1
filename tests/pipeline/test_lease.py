import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.swap import peek
from pipeline import lease as module
from pipeline.lease import LIMIT_S, Holder, Lease, holder_of
from pipeline.output import Output
from sgl.errors import OutputBusyError
from tests.pipeline.outputs import output_at
from tests.s3 import Server


@pytest.fixture(params=["disk", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    if request.param == "disk":
        return output_at(tmp_path / "out")
    server: Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("bucket")
    return output_at(f"{bucket}/out", endpoint_url=server.url, region="us-east-1")


def hold(output: Output, **changes: object) -> None:
    """Leave a lease as another process would."""
    with Lease(output, "other-run"):
        held = holder_of(output)
        assert held is not None
        data = held.model_copy(update=changes).bytes()
    assert module.swap(output.lease, None, data, output.storage)


def test_a_second_writer_is_refused_and_told_who_and_what_to_do(output: Output) -> None:
    with (
        Lease(output, "first-run"),
        pytest.raises(OutputBusyError, match=r"first-run is writing .* end it .* another dir") as e,
        Lease(output, "second-run"),
    ):
        pass
    assert f"process {os.getpid()}" in str(e.value)
    with Lease(output, "third-run"):
        pass
    assert holder_of(output) is None


def test_a_lease_whose_heart_stopped_is_taken_over(output: Output) -> None:
    hold(output, machine="elsewhere", beat_at=time.time() - LIMIT_S - 1)
    with Lease(output, "next-run"):
        held = holder_of(output)
        assert held is not None
        assert held.run_id == "next-run"


def test_a_silent_writer_elsewhere_is_waited_for(output: Output) -> None:
    hold(output, machine="elsewhere", pid=2**22 + 1, beat_at=time.time() - LIMIT_S / 2)
    with pytest.raises(OutputBusyError, match="other-run"), Lease(output, "next-run"):
        pass


def test_a_writer_that_was_killed_on_this_machine_is_no_obstacle(output: Output) -> None:
    code = (
        "import os, sys; from tests.pipeline.test_lease import *; "
        "lease = Lease(Output(sys.argv[1], '', StorageConfig(**json.loads(sys.argv[2]))), 'dead'); "
        "lease.__enter__(); print('held', flush=True); os.kill(os.getpid(), 9)"
    ).replace("from tests", "from infra.s3 import StorageConfig; from tests")
    command = [sys.executable, "-c", code, output.path, output.storage.model_dump_json()]
    died = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert died.stdout == "held\n", died.stderr
    held = holder_of(output)
    assert held is not None
    assert held.run_id == "dead"
    with Lease(output, "next-run"):
        pass


def test_a_process_id_that_is_used_again_is_another_process(output: Output) -> None:
    hold(output, pid=os.getpid(), pid_started="1")
    with Lease(output, "next-run"):
        pass


def test_of_many_that_take_over_one_wins(output: Output) -> None:
    hold(output, beat_at=0.0)
    gate, refused, won = threading.Barrier(6), [], []

    def contend(number: int) -> None:
        lease = Lease(output, f"run-{number}")
        gate.wait()
        try:
            lease.__enter__()
            won.append(lease)
        except OutputBusyError:
            refused.append(number)

    threads = [threading.Thread(target=contend, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(refused) == 5
    won[0].__exit__(None, None, None)
    assert holder_of(output) is None


def test_the_heart_beats(output: Output) -> None:
    with Lease(output, "run", beat_s=0.01):
        first = peek(output.lease, output.storage)
        while peek(output.lease, output.storage) == first:
            time.sleep(0.01)
        held = holder_of(output)
        assert held is not None
        assert held.run_id == "run"


def test_a_writer_that_was_taken_over_ends_and_leaves_the_other_alone(output: Output) -> None:
    def work() -> None:
        with Lease(output, "run", beat_s=0.01):
            takeover(output)
            # The main thread waits for its workers, and is interrupted.
            threading.Event().wait(60)
            pytest.fail("was not interrupted")

    with pytest.raises(OutputBusyError, match="was lost"):
        work()
    held = holder_of(output)
    assert held is not None
    assert held.token == "other"


def takeover(output: Output) -> None:
    """Another run takes the lease, whatever its holder writes at the same time."""
    done = False
    while not done:
        there = peek(output.lease, output.storage)
        other = Holder.model_validate_json(there or b"").model_copy(update={"token": "other"})
        done = module.swap(output.lease, there, other.bytes(), output.storage)


def test_a_renewal_whose_answer_was_lost_is_no_loss(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = module.swap
    renewed = threading.Event()
    calls = iter(range(1000))

    def forgetful(uri: str, old: bytes | None, new: bytes | None, storage: object) -> bool:
        answer = honest(uri, old, new, output.storage)
        number = next(calls)
        if number == 1:
            raise OSError("the answer was lost")
        if number == 4:
            renewed.set()
        return answer

    monkeypatch.setattr(module, "swap", forgetful)
    with Lease(output, "run", beat_s=0.01) as lease:
        assert renewed.wait(60)
        lease.check()
    assert holder_of(output) is None


def test_a_lease_that_cannot_be_read_any_more_is_lost(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not be the thread that ends and the run that goes on."""
    monkeypatch.setattr(module, "LIMIT_S", 0.2)

    def work() -> None:
        with Lease(output, "run", beat_s=0.05):
            while not module.swap(
                output.lease, peek(output.lease, output.storage), b"torn", output.storage
            ):
                pass
            threading.Event().wait(60)

    with pytest.raises(OutputBusyError, match="was lost"):
        work()


def test_a_lease_of_another_version_is_refused(output: Output) -> None:
    module.swap(output.lease, None, json.dumps({"version": 9}).encode(), output.storage)
    with pytest.raises(OutputBusyError, match="delete it if nobody"), Lease(output, "run"):
        pass
