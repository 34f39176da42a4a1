import io
import json
import logging

import pytest

from pipeline.logs import JsonFormatter, JsonLines


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("pipeline.x").makeRecord(
        "pipeline.x", logging.WARNING, "x.py", 1, message, arguments, None, extra=extra
    )
    assert isinstance(made, logging.LogRecord)
    return made


def test_a_record_is_one_line_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGL_RUN_ID", "run-7")
    line = JsonFormatter().format(record("died with %d\nrecords", 3, stage="small"))
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"] == "died with 3\nrecords"
    assert (told["level"], told["logger"], told["stage"]) == ("WARNING", "pipeline.x", "small")
    assert told["run_id"] == "run-7"
    assert told["time"].endswith("+00:00")


def test_an_exception_is_in_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: broken" in json.loads(JsonFormatter().format(made))["exception"]


def test_printed_lines_become_json_however_they_are_written() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    for part in ("run 7", ": 3 of 5\n\n  rows", ": here \nrest"):
        lines.write(part)
    told = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert told == ["run 7: 3 of 5", "rows: here"]
