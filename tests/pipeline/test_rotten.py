"""The corpus of rotten inputs through the real reader and the real fetch stage."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import InputConfig
from pipeline.handover import questions
from pipeline.references import Fetcher
from pipeline.source import open_source
from tests.pipeline import rotten
from tests.pipeline.inputs import checked_ids
from tests.pipeline.rotten import Rotten
from tests.pipeline.tables import fetch_stage

MODEL_STAGES = ("ControlTokenError", "PromptTooLongError")
"""Errors that only a model finds."""


def fetched(path: Path) -> pa.Table:
    source = open_source(InputConfig(path=str(path)))
    ids = checked_ids(source)
    stage = fetch_stage(
        max_image_pixels=rotten.MAX_PIXELS, fetcher=Fetcher(max_bytes=rotten.MAX_BYTES)
    )
    rows = pa.concat_tables(stage(t) for part in source.parts for t in source.tables(part))
    assert rows["id"].to_pylist() == ids
    return rows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Rotten], pa.Table]:
    folder = tmp_path_factory.mktemp("rotten")
    rows = rotten.records(folder)
    return rows, fetched(rotten.write_records(folder, rows))


def test_the_corpus_is_large_and_every_record_has_its_row(
    corpus: tuple[list[Rotten], pa.Table],
) -> None:
    rows, table = corpus
    assert len(rows) >= 60
    assert table["id"].to_pylist() == [row.name for row in rows]


def test_every_rotten_record_fails_as_expected_and_no_other_does(
    corpus: tuple[list[Rotten], pa.Table],
) -> None:
    rows, table = corpus
    expected = {r.name: None if r.error in MODEL_STAGES else r.error for r in rows}
    cells = table.select(["id", "error", "route"]).to_pylist()
    assert {c["id"]: c["error"] and c["error"]["type"] for c in cells} == expected
    assert {c["id"]: c["route"] for c in cells} == {
        name: error and "failed" for name, error in expected.items()
    }


def test_what_is_right_reaches_the_models_with_its_very_pixels(
    corpus: tuple[list[Rotten], pa.Table],
) -> None:
    rows, table = corpus
    right = [place for place, row in enumerate(rows) if row.pixels]
    for place, record in zip(right, questions(table, right), strict=True):
        row = rows[place]
        assert record.question == row.question
        assert len(record.images) == len(row.pixels)
        for seen, wanted in zip(record.images, row.pixels, strict=True):
            if isinstance(wanted, tuple):
                assert np.asarray(seen).shape == wanted, row.name
            else:
                close = 3 if "jpeg" in row.name or "lab" in row.name else 0
                assert np.asarray(seen).shape == wanted.shape, row.name
                distance = np.abs(np.asarray(seen, int) - np.asarray(wanted, int)).max()
                assert distance <= close, row.name


def test_every_line_of_a_rotten_manifest_has_its_row(tmp_path: Path) -> None:
    rows = rotten.lines()
    table = fetched(rotten.write_lines(tmp_path, rows))
    cells = table.select(["id", "error"]).to_pylist()
    expected = [(rotten.line_id(place, row), row.error) for place, row in enumerate(rows)]
    assert [(c["id"], c["error"] and c["error"]["type"]) for c in cells] == expected
    stages = {c["error"]["stage"] for c in cells if c["error"]}
    assert stages == {"read", "fetch"}


def test_messages_tell_no_folders_and_no_references(
    corpus: tuple[list[Rotten], pa.Table], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, table = corpus
    messages = [cell["message"] for cell in table["error"].to_pylist() if cell]
    root = str(tmp_path_factory.getbasetemp())
    for told in (root, "/no/such/secret", "169.254", "example.org", "://", "Traceback", "0x"):
        assert not [message for message in messages if told in message]
    assert max(map(len, messages)) < 250


SECRETS = ("hunter2", "AKIAEXAMPLE", "tok-123", "db.internal", "10.1.2.3", "/srv/private")


REFERENCES = (
    "https://user:hunter2@db.internal/a.png?token=tok-123",
    "http://10.1.2.3/a.png#tok-123",
    "https://db.internal/a.png;key=tok-123",
    "https://db.internal/?token=tok-123/..",
    "nosuch://AKIAEXAMPLE:hunter2@db.internal",
    "/srv/private/a.png",
    "../../../../../../srv/private/a.png",
    "file:///srv/private/a.png",
    "\\\\db.internal\\srv\\a.png",
    "data:text/plain;base64,hunter2@@tok-123",
    "data:hunter2",
)


@pytest.mark.parametrize("reference", [*REFERENCES, "s3://AKIAEXAMPLE:hunter2@db.internal/a.png"])
@pytest.mark.parametrize("allowed", [False, True])
def test_messages_tell_no_secrets(
    reference: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.http_config import HttpConfig
    from pipeline.web import Web
    from tests.pipeline.inputs import write_jsonl

    def nobody(*_: Any, **__: Any) -> Any:
        raise OSError("10.1.2.3 hunter2")

    if reference.startswith("s3:"):
        monkeypatch.setattr("pipeline.references.locate", nobody)
    monkeypatch.setattr("socket.getaddrinfo", nobody)
    monkeypatch.setattr("socket.socket.connect", nobody)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    path = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "image": reference, "question": "q"}])
    config = HttpConfig(allow_hosts=("db.internal",), allow_plain_http=True, retries=0)
    fetcher = Fetcher(max_bytes=1000, web=Web(config) if allowed else None)
    source = open_source(InputConfig(path=str(path)))
    (table,) = (fetch_stage(fetcher=fetcher)(t) for p in source.parts for t in source.tables(p))
    (error,) = table["error"].to_pylist()
    assert Counter(secret in error["message"] for secret in SECRETS)[True] == 0, error
    assert str(tmp_path) not in error["message"]
