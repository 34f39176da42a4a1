"""The shape of the repository: which packages there are, and who may import whom."""

import tomllib
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]
PACKAGES = {"actors", "benchmarks", "infra", "jobs", "pipeline", "serving", "sgl", "testbed"}


def test_a_new_top_level_package_is_a_decision() -> None:
    found = {folder.parent.name for folder in ROOT.glob("*/__init__.py")} - {"tests"}
    assert found == PACKAGES
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in included} == PACKAGES
    assert set(project["tool"]["importlinter"]["root_packages"]) == PACKAGES


def test_import_layers() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml")) == EXIT_STATUS_SUCCESS


def test_no_packages_shadow_the_projects_own() -> None:
    """Test folders mirror the packages; without their __init__ they would hide them."""
    for package in PACKAGES:
        folder = ROOT / "tests" / package
        assert not folder.exists() or (folder / "__init__.py").exists()
