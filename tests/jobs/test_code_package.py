import io
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from jobs import code_package
from jobs.code_package import archive, code_files, code_version, main

ROOT = Path(__file__).parents[2]


def test_the_same_files_are_the_same_bytes() -> None:
    files = code_files()
    assert archive(files) == archive(dict(reversed(files.items())))


def test_it_is_small_and_weights_come_only_when_asked_for() -> None:
    assert len(archive(code_files())) < 1_500_000
    assert not [name for name in code_files() if "safetensors" in name]
    roles = {
        name.split("/")[2]
        for name in code_package.testbed_weights()
        if name.endswith(".safetensors")
    }
    assert roles == {"small", "large"}


def test_every_module_is_in_it() -> None:
    packages = ("actors", "infra", "jobs", "pipeline", "serving", "sgl", "testbed")
    there = {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in code_files() if name.endswith(".py")} == there


def test_the_command_runs_from_nothing_but_the_archive(tmp_path: Path) -> None:
    """In particular no file that it reads at start was left out."""
    files = {**code_files(), **code_package.testbed_weights()}
    zipfile.ZipFile(io.BytesIO(archive(files))).extractall(tmp_path)
    settings = ("--small", "testbed", "--large", "testbed", "--threshold", "0.9")
    missing = ("--input", str(tmp_path / "none.parquet"), "--output", str(tmp_path / "out"))
    done = subprocess.run(
        [sys.executable, "-I", "-c", _FROM_HERE, "run", *settings, *missing],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "none.parquet" in done.stderr


_FROM_HERE = """
import os, sys
sys.path.insert(0, os.getcwd())
import jobs.cli
assert jobs.cli.__file__.startswith(os.getcwd())
sys.exit(jobs.cli.main())
"""


def test_other_code_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version()
    assert code_version() == before
    files = code_files()
    files["sgl/routing.py"] += b"\n"
    monkeypatch.setattr(code_package, "code_files", lambda: files)
    assert code_version() != before
    assert code_version().split("+")[0] == before.split("+")[0]


def test_an_image_of_another_version_is_refused_and_other_code_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = code_version().split("+")[0]
    assert main([code_version()]) == 0
    assert capsys.readouterr().err == ""
    assert main([f"{number}+00000000"]) == 0
    assert "is not that of" in capsys.readouterr().err
    assert main(["0.0.1+00000000"]) == 2
    assert "leave --no-code out" in capsys.readouterr().err


def test_what_lies_beside_the_code_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strays" / ".hidden").mkdir(parents=True)
    for name in ("__init__.py", "credentials.json", "me.yaml", ".env", ".hidden/a.py"):
        (tmp_path / "strays" / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_package, "_PACKAGES", ("strays",))
    assert list(code_files()) == ["strays/__init__.py"]


def test_all_data_that_are_installed_with_the_code_are_in_it() -> None:
    left_out = ("report_page", "playground", "weights")
    with (ROOT / "pyproject.toml").open("rb") as file:
        installed = tomllib.load(file)["tool"]["setuptools"]["package-data"]
    named = {
        path.relative_to(ROOT).as_posix()
        for package, patterns in installed.items()
        for pattern in patterns
        if pattern.startswith("*.")
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
        if not set(left_out) & set(path.parts)
    }
    packed = {name for name in code_files() if not name.endswith(".py")}
    assert packed == named
