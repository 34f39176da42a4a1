"""What the image is made of, as far as it can be told without building it."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "infra" / "deploy" / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()


def test_every_package_is_copied_and_none_is_ignored() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["importlinter"]["root_packages"])
    assert set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE)) == packages
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    allowed = {line[1:] for line in IGNORED if line.startswith("!")}
    assert IGNORED[0] == "*"
    assert allowed == {name for line in copied for name in line.split()}


def test_it_runs_as_nobody_and_with_locked_versions() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1000:1000$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    constraints = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^torch==[\d.]+$", constraints, re.MULTILINE)
    installs = re.findall(r"pip install (.+?)(?: ;;| \\|$)", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ARG TORCH_CPU_INDEX$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"cpu\) .*\$\{TORCH_CPU_INDEX:\?", DOCKERFILE)
    locked = ("--constraint constraints.txt", '"$torch', "--no-deps")
    assert len(installs) == 4
    assert all(any(how in line for how in locked) for line in installs)


def test_it_has_what_kuberay_and_ray_up_call() -> None:
    (packages,) = re.findall(r"--no-install-recommends \\\n\s+(.+?) \\$", DOCKERFILE, re.MULTILINE)
    assert {"bash", "wget", "openssh-client", "rsync", "procps", "tmux"} <= set(packages.split())
    profile = re.search(r"echo '(.+)' > /etc/profile.d/\w+\.sh", DOCKERFILE)
    assert profile is not None
    # As in a login shell of a user that is not root.
    shell = f"PATH=/usr/bin:/bin; {profile[1]}; echo $PATH"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("/opt/venv/bin:")


def test_every_dependency_of_the_image_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    wanted = {_plain(re.split(r"[\[<>=;]", one)[0]) for one in project["dependencies"]}
    assert wanted <= pinned


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
