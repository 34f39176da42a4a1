import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.s3 import DEFAULT, StorageConfig, s3_client
from infra.swap import peek, swap
from tests.s3 import CUT, LOST_ANSWER, RESET, SLOW_DOWN, Faults, Server

Place = tuple[str, StorageConfig]


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The URI of a file that does not exist yet."""
    if request.param == "disk":
        return str(tmp_path / "new" / "file.json"), DEFAULT
    server: Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("bucket")
    return f"{bucket}/new/file.json", StorageConfig(endpoint_url=server.url, region="us-east-1")


def test_only_what_is_believed_is_replaced(place: Place) -> None:
    uri, storage = place
    assert peek(uri, storage) is None
    assert not swap(uri, b"a", b"b", storage)
    assert swap(uri, None, b"a", storage)
    assert not swap(uri, None, b"b", storage)
    assert not swap(uri, b"b", b"c", storage)
    assert peek(uri, storage) == b"a"
    assert swap(uri, b"a", b"b", storage)
    assert not swap(uri, b"a", None, storage)
    assert swap(uri, b"b", None, storage)
    assert peek(uri, storage) is None
    assert swap(uri, None, None, storage)


@pytest.mark.parametrize("old", [None, b"before"])
def test_of_many_at_the_same_time_one_wins(place: Place, old: bytes | None) -> None:
    uri, storage = place
    if old is not None:
        assert swap(uri, None, old, storage)
    gate = threading.Barrier(8)
    won: list[bytes] = []

    def contend(number: int) -> None:
        mine = b"owner %d" % number
        gate.wait()
        if swap(uri, old, mine, storage):
            won.append(mine)

    threads = [threading.Thread(target=contend, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [peek(uri, storage)] == won


@pytest.mark.parametrize("kind", [SLOW_DOWN, RESET, LOST_ANSWER])
@pytest.mark.parametrize(("old", "new"), [(None, b"a"), (b"a", b"b"), (b"a", None)])
def test_a_swap_that_is_repeated_knows_its_own_work(
    kind: str,
    old: bytes | None,
    new: bytes | None,
    bucket: str,
    faulty_s3: tuple[Server, Faults],
) -> None:
    server, faults = faulty_s3
    storage = StorageConfig(endpoint_url=server.url, region="us-east-1")
    uri = f"{bucket}/file.json"
    if old is not None:
        assert swap(uri, None, old, storage)
    faults.plan([kind], "DELETE" if new is None else "PUT")
    assert swap(uri, old, new, storage)
    assert peek(uri, storage) == new
    assert faults.met[kind] == 1


def test_an_answer_that_is_cut_off_is_asked_for_again(
    bucket: str, faulty_s3: tuple[Server, Faults]
) -> None:
    server, faults = faulty_s3
    storage = StorageConfig(endpoint_url=server.url, region="us-east-1")
    assert swap(f"{bucket}/file.json", None, b"a" * 100, storage)
    faults.plan([CUT], "GET")
    assert peek(f"{bucket}/file.json", storage) == b"a" * 100
    assert faults.met[CUT] == 1


def test_a_reader_sees_the_file_of_one_moment(bucket: str, s3_server: Server) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1")
    uri, written = f"{bucket}/file.json", {b"a", b"b" * 1000}
    assert swap(uri, None, b"a", storage)
    stop = threading.Event()

    def flip() -> None:
        here, there = sorted(written)
        while not stop.is_set():
            swap(uri, here, there, storage)
            here, there = there, here

    thread = threading.Thread(target=flip)
    thread.start()
    seen = {peek(uri, storage) for _ in range(50)}
    stop.set()
    thread.join()
    assert seen <= written


def test_a_server_without_conditions_still_compares(
    bucket: str, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(StorageConfig(endpoint_url=s3_server.url, region="us-east-1"))
    plain = client.put_object

    def old_server(**arguments: Any) -> Any:
        if {"IfMatch", "IfNoneMatch"} & set(arguments):
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return plain(**arguments)

    monkeypatch.setattr(client, "put_object", old_server)
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1")
    uri = f"{bucket}/file.json"
    assert swap(uri, None, b"a", storage)
    assert not swap(uri, None, b"b", storage)
    assert swap(uri, b"a", b"b", storage)
    assert peek(uri, storage) == b"b"


def test_a_server_that_refuses_is_no_lost_swap(bucket: str, s3_server: Server) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1", max_attempts=1)
    with pytest.raises(OSError, match="NoSuchBucket"):
        swap("s3://no-such-bucket-here/file.json", None, b"a", storage)
