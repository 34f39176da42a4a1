import base64
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from infra.s3 import StorageConfig
from pipeline.images import decode
from pipeline.references import Fetcher, shown, without_secrets
from sgl.errors import ImageError, ImageFetchError, ImageTooLargeError, StorageError
from tests.pipeline.inputs import picture, png

LIMIT = 10_000
FETCHER = Fetcher(max_bytes=LIMIT)


def test_references_of_every_kind_find_the_same_picture(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(png(7))
    inline = "data:image/png;base64," + base64.b64encode(png(7)).decode()
    for reference in (
        {"bytes": png(7), "uri": "elsewhere.png", "base": None},
        {"bytes": None, "uri": "a b.png", "base": str(tmp_path)},
        {"bytes": None, "uri": str(tmp_path / "a b.png"), "base": "/elsewhere"},
        {"bytes": None, "uri": (tmp_path / "a b.png").as_uri(), "base": None},
        {"bytes": None, "uri": inline, "base": None},
    ):
        assert np.array_equal(decode(FETCHER.fetch(reference), LIMIT), picture(7))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        (None, "no image"),
        ("", "no image"),
        ("gone.png", "^gone.png: no such file$"),
        (".", "not a regular file"),
        ("https://example.org/a.png", "not fetched"),
        ("/secret/gone.png", "^gone.png: no such file$"),
        ("nosuchscheme://a.png", "cannot be read"),
        ("data:image/png;base64,@@", "base64 is broken"),
        ("data:image/png", "without data"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_the_users_words(
    uri: str | None, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=says) as refused:
        FETCHER.fetch({"bytes": None, "uri": uri, "base": str(tmp_path)})
    assert str(tmp_path) not in str(refused.value)


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """The port of a server on loopback, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            asked.append(self.rfile.readline().decode(errors="replace"))
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()


SERVERS_OF_STRANGERS = (
    "gs://anonymous@b/x.png?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=2",
    "abfs://account@c/x.png?enable_tls=false&blob_storage_authority=127.0.0.1:{port}"
    "&dfs_storage_authority=127.0.0.1:{port}",
    "S3://b/x.png?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1",
    "GS://anonymous@b/x.png?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=2",
    "hdfs://127.0.0.1:{port}/x.png",
)


@pytest.mark.parametrize("uri", SERVERS_OF_STRANGERS)
def test_no_reference_names_a_server(uri: str, tmp_path: Path) -> None:
    with listening() as (port, asked):
        with pytest.raises(ImageFetchError, match="cannot be read"):
            FETCHER.fetch({"bytes": None, "uri": uri.format(port=port), "base": str(tmp_path)})
        assert asked == []


@pytest.mark.parametrize("base", ["gs://bucket/folder", "abfs://account/folder"])
def test_a_relative_reference_has_no_parameters_either(base: str) -> None:
    with listening() as (port, asked):
        uri = f"x.png?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=2"
        uri += f"&enable_tls=false&blob_storage_authority=127.0.0.1:{port}"
        with pytest.raises(ImageFetchError, match="cannot be read"):
            FETCHER.fetch({"bytes": None, "uri": uri, "base": base})
        assert asked == []


def test_a_null_reference_is_refused() -> None:
    with pytest.raises(ImageError, match="no image"):
        FETCHER.fetch(None)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("a.png", "a.png"),
        ("folder/a b.png", "a b.png"),
        ("https://user:word@host:1/x/a.png?key=1#2", "a.png"),
        ("https://host", "the image"),
        ("s3://bucket/a.png", "a.png"),
        ("a\n\x1b[31m.png", "a??[31m.png"),
        ("x" * 200, "x" * 80 + "..."),
    ],
)
def test_a_message_shows_the_file_name_alone(uri: str, name: str) -> None:
    assert shown(uri) == name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageFetchError, match="permission denied"):
        FETCHER.fetch({"bytes": None, "uri": "a.png", "base": str(tmp_path)})


def test_a_refusal_of_the_storage_is_told_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, f"Permission denied: {tmp_path}")

    (tmp_path / "a.png").write_bytes(png(1))
    monkeypatch.setattr("pipeline.references.read_bytes", deny)
    with pytest.raises(ImageFetchError, match=r"^a\.png: permission denied$"):
        FETCHER.fetch({"bytes": None, "uri": "a.png", "base": str(tmp_path)})


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_storage_that_fails_says_nothing_about_the_picture(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, f"at {tmp_path}")

    (tmp_path / "a.png").write_bytes(png(1))
    monkeypatch.setattr("pipeline.references.read_bytes", fail)
    with pytest.raises(StorageError, match=r"^a\.png: its storage"):
        FETCHER.fetch({"bytes": None, "uri": "a.png", "base": str(tmp_path)})


def test_a_server_that_is_gone_is_a_storage_that_fails() -> None:
    storage = StorageConfig(endpoint_url="http://127.0.0.1:1", region="x", max_attempts=1)
    with pytest.raises(StorageError):
        Fetcher(LIMIT, storage=storage).fetch({"bytes": None, "uri": "s3://bkt/a", "base": None})


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("/data/in.parquet", "/data/in.parquet"),
        ("s3://bucket/a/*.parquet", "s3://bucket/a/*.parquet"),
        ("s3://key:word@bucket/a?endpoint_override=host", "s3://bucket/a"),
        ("s3://key:wo@rd@bucket", "s3://bucket"),
    ],
)
def test_a_path_of_the_settings_is_told_without_its_secrets(written: str, told: str) -> None:
    assert without_secrets(written) == told


def test_the_limit_of_bytes_is_one_of_the_picture_however_it_is_written() -> None:
    picture_bytes = bytes(LIMIT)
    for data, fits in ((picture_bytes, True), (picture_bytes + b"x", False)):
        coded = "data:image/png;base64," + base64.b64encode(data).decode()
        escaped = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
        for uri in (coded, escaped):
            reference = {"bytes": None, "uri": uri, "base": None}
            if fits:
                assert FETCHER.fetch(reference) == data
            else:
                with pytest.raises(ImageTooLargeError, match="max_image_bytes"):
                    FETCHER.fetch(reference)
