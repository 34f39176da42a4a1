import threading
from pathlib import Path

import pytest

from infra.s3 import StorageConfig
from infra.storage import locate, names_in, read_bytes, remove, replacing, rooted_files
from tests.s3 import Server


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(root: Path, files: list[str]) -> list[str]:
    return [str(Path(file).relative_to(root)) for file in files]


def test_a_file_stands_for_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    assert rooted_files(str(tmp_path / "a.csv"))[1] == [str(tmp_path / "a.csv")]


def test_a_directory_stands_for_its_visible_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.csv", "a/c.csv", ".hidden", "_checkpoint/d.csv", "a/.e/f.csv")
    assert names(tmp_path, rooted_files(str(tmp_path))[1]) == ["a/c.csv", "b.csv"]


def test_a_glob_matches_within_folders_only(tmp_path: Path) -> None:
    touch(tmp_path, "a1.csv", "a2.csv", "b.csv", "a/a3.csv")
    assert names(tmp_path, rooted_files(str(tmp_path / "a*.csv"))[1]) == ["a1.csv", "a2.csv"]
    assert names(tmp_path, rooted_files(str(tmp_path / "*" / "*.csv"))[1]) == ["a/a3.csv"]


@pytest.mark.parametrize("name", ["a[1].csv", "a*.csv", "what?.csv"])
def test_a_name_that_exists_is_no_glob(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name, "a1.csv", f"{name}.d/b.csv")
    assert rooted_files(str(tmp_path / name)) == (str(tmp_path), [str(tmp_path / name)])
    folder = str(tmp_path / f"{name}.d")
    assert rooted_files(f"{folder}/") == (folder, [f"{folder}/b.csv"])


def test_files_of_a_glob_are_below_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path, "in/a/1.csv", "in/b/2.csv")
    root, files = rooted_files(str(tmp_path / "in" / "*" / "*.csv"))
    assert (root, len(files)) == (str(tmp_path / "in"), 2)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rooted_files(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        read_bytes(str(tmp_path / "none"))


def test_a_file_uri_is_its_path(tmp_path: Path) -> None:
    touch(tmp_path, "a")
    assert read_bytes((tmp_path / "a").as_uri()) == b"x"
    assert locate((tmp_path / "a").as_uri())[1] == str(tmp_path / "a")


@pytest.mark.parametrize(
    "uri",
    [
        "gs://bucket/a?endpoint_override=127.0.0.1:1",
        "gs://anonymous@bucket/a",
        "abfs://account/container/a?blob_storage_authority=127.0.0.1:1",
        "abfs://account:key@container/a",
        "file:///a?b=c",
        "file:///a#b",
        "hdfs://host:1/a",
        "S3://bucket/a",
        "s3://",
        "s3://evil.example.org?/a",
        "s3://evil.example.org#/a",
        "s3://key:word@bucket/a",
    ],
)
def test_a_uri_is_a_place_and_nothing_else(uri: str) -> None:
    with pytest.raises(ValueError, match="URI"):
        locate(uri)


def test_a_key_of_s3_may_hold_any_character() -> None:
    storage = StorageConfig(endpoint_url="http://127.0.0.1:1")
    assert locate("s3://bucket/a?b=c#d@e", storage)[1] == "bucket/a?b=c#d@e"


def test_a_folder_that_comes_and_goes_is_no_error(tmp_path: Path) -> None:
    folder, seen = tmp_path / "runs", threading.Event()

    def come_and_go() -> None:
        while not seen.is_set():
            folder.mkdir()
            folder.rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert all(names_in(str(folder)) == {} for _ in range(20_000))
    finally:
        seen.set()
        other.join()


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageConfig]:
    if request.param == "disk":
        return str(tmp_path / "new"), StorageConfig()
    server: Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("bucket")
    return f"{bucket}/new", StorageConfig(endpoint_url=server.url, region="us-east-1")


def test_a_file_has_its_name_when_it_is_whole(folder: tuple[str, StorageConfig]) -> None:
    uri, storage = f"{folder[0]}/a", folder[1]
    pieces = [bytes([number]) * (5 << 20) for number in range(3)]
    with replacing(uri, storage) as file:
        for piece in pieces:
            file.write(piece)
        assert "a" not in names_in(*folder)
    assert read_bytes(uri, storage) == b"".join(pieces)
    with replacing(uri, storage) as file:
        file.write(b"new")
    assert read_bytes(uri, storage) == b"new"
    for _ in range(2):
        remove(uri, storage)
    assert names_in(*folder) == {}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_breaks_off_changes_nothing(
    error: type[BaseException], folder: tuple[str, StorageConfig]
) -> None:
    uri, storage = f"{folder[0]}/a", folder[1]
    with replacing(uri, storage) as file:
        file.write(b"old")

    def breaks_off() -> None:
        with replacing(uri, storage) as file:
            file.write(b"torn")
            raise error

    with pytest.raises(error):
        breaks_off()
    assert read_bytes(uri, storage) == b"old"
    assert list(names_in(*folder)) == ["a"]


def test_a_bucket_that_is_not_there_is_an_error_of_the_system(s3_server: Server) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1", max_attempts=1)
    with (
        pytest.raises(OSError, match="s3://no-such-bucket/a"),
        replacing("s3://no-such-bucket/a", storage) as file,
    ):
        file.write(b"x")
