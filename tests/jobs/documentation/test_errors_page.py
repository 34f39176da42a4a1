import pytest

from jobs.documentation.errors_page import REMEDIES, classes, rendered
from jobs.documentation.settings_page import group_of, is_setting
from pipeline.config import JobConfig
from serving.config import ServeConfig


def line_of(name: str) -> list[str]:
    lines = [line for line in rendered("").splitlines() if line.startswith(f"| `{name}`")]
    assert len(lines) == 1
    return [cell.strip() for cell in lines[0].strip("|").split(" | ")]


def test_every_class_has_a_line_and_a_remedy() -> None:
    assert {one.__name__ for one in classes()} == set(REMEDIES)
    for one in classes():
        assert line_of(one.__name__)[1] == (one.__doc__ or "").split("\n\n")[0]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("ConfigurationError", "2"),
        ("IncompleteError", "4"),
        ("StorageError", "1"),
        ("DeviceError", "a line in the log"),
        ("OverloadedError", "status 503"),
        ("ImageNotFoundError", "status 400"),
        ("CrashError", "status 500"),
    ],
)
def test_what_is_seen_of_it_is_told(name, seen) -> None:
    assert line_of(name)[2] == seen


def test_remedies_name_settings_that_exist() -> None:
    groups = group_of(JobConfig), group_of(ServeConfig)
    marked = {part for text in REMEDIES.values() for part in text.split("`")[1::2]}
    names = {one for one in marked if "." in one and " " not in one and not one.endswith(".json")}
    assert names
    assert not [one for one in names if not any(is_setting(one, group) for group in groups)]
