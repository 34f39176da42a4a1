import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from infra.s3 import StorageConfig, s3_client, s3_filesystem
from infra.storage import locate, names_in, read_bytes, rooted_files, write_bytes
from tests.s3 import CUT, LOST_ANSWER, RESET, SLOW_DOWN, STALL, Faults, Server


def through(server: Server, **settings: Any) -> StorageConfig:
    return StorageConfig(endpoint_url=server.url, region="us-east-1", **settings)


@pytest.fixture
def proxy(faulty_s3: tuple[Server, Faults]) -> tuple[StorageConfig, Faults]:
    server, faults = faulty_s3
    return through(server, connect_timeout_s=2, request_timeout_s=1), faults


def test_files_are_written_listed_and_read(bucket: str, s3_server: Server) -> None:
    storage = through(s3_server)
    for name in ("in/a b%20#.csv", "in/b.csv", "in/deep/c.csv", "in/_hidden.csv"):
        write_bytes(f"{bucket}/{name}", name.encode(), storage)
    root = bucket.removeprefix("s3://")
    listed = [f"{root}/in/a b%20#.csv", f"{root}/in/b.csv", f"{root}/in/deep/c.csv"]
    assert rooted_files(f"{bucket}/in", storage)[1] == listed
    assert rooted_files(f"{bucket}/in/*.csv", storage)[1][:2] == listed[:2]
    assert read_bytes(f"{bucket}/in/a b%20#.csv", storage) == b"in/a b%20#.csv"
    assert list(names_in(f"{bucket}/in", storage)) == ["_hidden.csv", "a b%20#.csv", "b.csv"]
    assert names_in(f"{bucket}/none", storage) == {}
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{bucket}/in/none.csv", storage)
    with pytest.raises(FileNotFoundError):
        rooted_files(f"{bucket}/none", storage)


def test_the_environments_endpoint_is_honoured(
    bucket: str, s3_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    write_bytes(f"{bucket}/a", b"x")
    assert read_bytes(f"{bucket}/a") == b"x"
    assert s3_client(StorageConfig()).get_object(Bucket=bucket[5:], Key="a")["Body"].read() == b"x"


def test_credentials_in_a_uri_are_refused() -> None:
    with pytest.raises(ValueError, match="holds no credentials"):
        locate("s3://key:secret@bucket/file")


def test_a_filesystem_keeps_its_settings_and_its_patience_in_another_process(
    bucket: str, proxy: tuple[StorageConfig, Faults]
) -> None:
    storage, faults = proxy
    data_there = b"x" * 1000
    write_bytes(f"{bucket}/a", data_there, storage)
    here = s3_filesystem(storage, bucket)
    data = pickle.dumps(here)
    assert b"testing" not in data  # the credentials
    there = pickle.loads(data)
    assert isinstance(there, fs.S3FileSystem)
    assert there == here
    # pyarrow's own default gives up after three attempts.
    faults.plan([SLOW_DOWN] * 3, "GET", "/a")
    with there.open_input_stream(f"{bucket[5:]}/a") as stream:
        assert stream.read() == data_there
    assert faults.met[SLOW_DOWN] == 3


@pytest.mark.parametrize("kind", [SLOW_DOWN, RESET, CUT, LOST_ANSWER])
@pytest.mark.parametrize("size", [1, 2_000_000])
def test_a_file_of_any_size_is_read_through_faults(
    kind: str, size: int, bucket: str, proxy: tuple[StorageConfig, Faults]
) -> None:
    # pyarrow alone does not see a SlowDown whose text is longer than the file.
    storage, faults = proxy
    data = bytes(i % 251 for i in range(size))
    write_bytes(f"{bucket}/a", data, storage)
    faults.plan([kind], "GET", "/a")
    assert read_bytes(f"{bucket}/a", storage) == data
    assert faults.met[kind] == 1


@pytest.mark.parametrize("kind", [SLOW_DOWN, RESET])
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_a_request_that_fails_is_made_again(
    kind: str, method: str, bucket: str, proxy: tuple[StorageConfig, Faults]
) -> None:
    storage, faults = proxy
    write_bytes(f"{bucket}/x/a", b"before", storage)
    faults.plan([kind], method)
    write_bytes(f"{bucket}/x/a", b"after", storage)
    assert read_bytes(f"{bucket}/x/a", storage) == b"after"
    filesystem, path = locate(f"{bucket}/x/a", storage)
    assert filesystem.get_file_info(path).size == 5
    filesystem.delete_file(path)
    assert names_in(f"{bucket}/x", storage) == {}
    assert faults.met[kind] == 1


def test_a_read_that_stalls_is_made_again(bucket: str, proxy: tuple[StorageConfig, Faults]) -> None:
    storage, faults = proxy
    table = pa.table({"id": [f"r{i}" for i in range(1000)]})
    filesystem, path = locate(f"{bucket}/a.parquet", storage)
    pq.write_table(table, path, filesystem=filesystem)
    faults.plan([STALL], "GET", "a.parquet")
    assert pq.read_table(path, filesystem=filesystem) == table
    assert faults.met[STALL] == 1


def test_a_write_whose_answer_is_lost_is_done_once_more(
    bucket: str, proxy: tuple[StorageConfig, Faults]
) -> None:
    storage, faults = proxy
    faults.plan([LOST_ANSWER], "PUT")
    write_bytes(f"{bucket}/a", b"x", storage)
    assert read_bytes(f"{bucket}/a", storage) == b"x"
    assert faults.requests["PUT"] == 2


def test_a_server_that_stays_away_is_an_error(
    bucket: str, proxy: tuple[StorageConfig, Faults]
) -> None:
    storage, faults = proxy
    impatient = storage.model_copy(update={"max_attempts": 2})
    faults.every = 1
    with pytest.raises(OSError, match="AWS Error"):
        read_bytes(f"{bucket}/a", impatient)
    assert 2 <= faults.met.total() <= 4
