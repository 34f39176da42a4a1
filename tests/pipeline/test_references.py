import base64
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.images import decode
from pipeline.references import Fetcher, shown, without_secrets
from sgl.errors import ImageError, ImageFetchError
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
