"""The installed code as one archive, small and the same for the same code."""

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from serving.status import software_version

_PACKAGES = ("actors", "infra", "jobs", "pipeline", "serving", "sgl", "testbed")
"""Benchmarks are run where they are."""
_WEIGHTS = "testbed/weights/"
_LEFT_OUT = (_WEIGHTS, "testbed/results/", "jobs/report_page/", "serving/playground/")
"""What is looked at in a browser, and what is large."""
_DATA = frozenset(
    {
        "infra/deploy/grafana.json",
        "infra/deploy/job.yaml",
        "infra/deploy/serve.yaml",
        "infra/prices.yaml",
        "jobs/demo.yaml",
        "jobs/plan_sample.json",
        "jobs/serve.yaml",
        "testbed/glyphs.npz",
    }
)
"""By name: what else lies in a folder of the code may be somebody's credentials."""
_OF_WEIGHTS = frozenset({".json", ".jinja", ".safetensors"})
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Times would make another archive of the same code."""
_READABLE = 0o644 << 16


def code_files() -> dict[str, bytes]:
    """Every file that a run needs, by its path in the archive; no weights."""
    return {
        name: path.read_bytes()
        for package in _PACKAGES
        for name, path in _files(package)
        if (path.suffix == ".py" or name in _DATA) and not name.startswith(_LEFT_OUT)
    }


def testbed_weights() -> dict[str, bytes]:
    """The trained pair that ships with the code, likewise."""
    return {
        name: path.read_bytes()
        for name, path in _files("testbed")
        if path.suffix in _OF_WEIGHTS and name.startswith(_WEIGHTS)
    }


def code_version() -> str:
    """The version that is installed, and eight hex digits over the code that is."""
    digest = hashlib.sha256()
    for name, data in sorted(code_files().items()):
        digest.update(f"{name}\n{len(data)}\n".encode())
        digest.update(data)
    return f"{software_version()}+{digest.hexdigest()[:8]}"


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip file; the same bytes for the same files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as into:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = _READABLE
            into.writestr(entry, content)
    return data.getvalue()


def main(arguments: list[str]) -> int:
    """Compare the version that an image should have with the one that it has.

    Returns:
        2 where the numbers differ; other code of the same number is only told.
    """
    (wanted,) = arguments
    found = code_version()
    if wanted.partition("+")[0] != found.partition("+")[0]:
        print(
            f"sgl: the image has {found}, and the job was made by {wanted}: leave --no-code out, "
            "or take an image of this version",
            file=sys.stderr,
        )
        return 2
    if wanted != found:
        print(f"sgl: the image's code, {found}, is not that of {wanted}", file=sys.stderr)
    return 0


def _files(package: str) -> list[tuple[str, Path]]:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    found = ((path.relative_to(folder.parent), path) for path in sorted(folder.rglob("*")))
    return [
        (name.as_posix(), path)
        for name, path in found
        if path.is_file() and not any(part.startswith((".", "__py")) for part in name.parts)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
