import pytest

from jobs.shared_paths import is_shared


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("s3://bucket/folder", True),
        ("/shared", True),
        ("/shared/a/b.parquet", True),
        ("file:///shared/a", True),
        ("/sharedness/a", False),
        ("/shared/../home/a", False),
        ("file:///home/a", False),
        ("/home/a", False),
        ("a", False),
    ],
)
def test_what_every_node_can_read(path: str, shared: bool) -> None:
    assert is_shared(path, ["/shared", "/models"]) is shared


def test_without_a_shared_folder_only_uris_are() -> None:
    assert is_shared("s3://bucket/folder", [])
    assert not is_shared("/a", [])
