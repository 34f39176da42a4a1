"""From a checked job to what is sent to a cluster: its settings, its code and one command.

Everything is settled and refused here, before anything is sent.
"""

import hashlib
import json
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import yaml

from infra.s3 import StorageConfig
from infra.storage import check_uri
from jobs.code_package import archive, code_files, code_version, testbed_weights
from jobs.settings import TESTBED
from jobs.shared_paths import check_hub_id, is_shared, local_folder
from pipeline.config import JobConfig
from pipeline.policy import decided_by, read_policy
from pipeline.submit_config import SubmitConfig
from sgl.errors import ConfigurationError
from testbed import ModelName, model_path

SETTINGS = "job.yaml"
POLICY = "policy.yaml"
PRICES = "prices.yaml"
OUTPUT, CODE, DIGEST = "sgl.output", "sgl.code", "sgl.settings"
STOP_WAIT = "sgl.stop_wait_s"
"""Of the job, for whoever looks at the cluster, and to know it again."""
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""It becomes part of file names and addresses."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_WIDE = 200
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""As a local Ray of ours has it."""


@dataclass(frozen=True)
class Submission:
    """What is sent.

    Attributes:
        job_id: that the cluster will know it by.
        entrypoint: the command that runs there.
        package: zip file, unpacked where the command runs.
        environment: variables of all its processes.
        metadata: see OUTPUT, CODE, DIGEST and STOP_WAIT.
        config: where it goes.
        told: what the user should know, one line each.
    """

    job_id: str
    entrypoint: str
    package: bytes
    environment: Mapping[str, str]
    metadata: Mapping[str, str]
    config: SubmitConfig
    told: tuple[str, ...] = ()


def submission_of(
    job: JobConfig,
    policy: str | None = None,
    *,
    job_id: str | None = None,
    retry_errors: bool = False,
) -> Submission:
    """A job as it is sent to a cluster.

    Args:
        job: checked, with absolute paths, and what the policy decides.
        policy: file of it.
        job_id: None makes one.
        retry_errors: do failed records again.

    Raises:
        ConfigurationError: the cluster could not see a path of it, or a file cannot be read.
    """
    config = job.submit
    if job_id is not None and not JOB_ID.fullmatch(job_id):
        raise ConfigurationError(
            f"--job-id {job_id}: write letters, digits, and . _ - between them"
        )
    _check_paths(job)
    data, told = settings_there(job, policy)
    files = _files_beside(job, data, policy)
    flags = ["--policy", POLICY] if policy else []
    flags += ["--retry-errors"] if retry_errors else []
    digest = _digest({**files, "flags": " ".join(flags).encode(), "how": _how(config)})
    code = code_version()
    package, size = _package(job, files)
    return Submission(
        job_id or f"sgl-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        _entrypoint(config, flags, code),
        package,
        _environment(config),
        {
            OUTPUT: job.output.path,
            CODE: code,
            DIGEST: digest,
            STOP_WAIT: str(config.stop_wait_s),
        },
        config,
        (*told, size),
    )


def settings_there(job: JobConfig, policy: str | None) -> tuple[dict[str, Any], list[str]]:
    """The settings as the cluster has them, and which of them it does not look at.

    Raises:
        ConfigurationError: the policy cannot be read.
    """
    data = job.model_dump(mode="json", exclude_unset=True)
    for section in ("deploy", "submit"):
        data.pop(section, None)
    told = [
        f"ray.{name}: not looked at, as the cluster is there"
        for name in ("address", "num_cpus", "object_store_bytes")
        if data.get("ray", {}).pop(name, None) is not None
    ]
    for role in get_args(ModelName):
        if not job.uses(role):
            data["models"].pop(role, None)  # it may be a folder of this machine
        elif _is_testbed(job, role):
            data["models"][role]["path"] = TESTBED
    told += _storage_told(job.storage)
    if policy is not None:
        for name in decided_by(read_policy(Path(policy))):
            data.pop(name, None)
    return data, told


def _storage_told(storage: StorageConfig) -> list[str]:
    """What of it nodes may have otherwise than this machine."""
    if storage.endpoint_url is None:
        if storage.resolved().endpoint_url is None:
            return []
        return ["AWS_ENDPOINT_URL of this machine stays here; storage.endpoint_url would go along"]
    if urlsplit(storage.endpoint_url).hostname not in _LOOPBACK:
        return []
    return [f"storage.endpoint_url: {storage.endpoint_url} is on each node that node itself"]


def _check_paths(job: JobConfig) -> None:
    shared = job.submit.shared_paths
    # Its nodes mount the volume of a deployment for reading alone.
    read = (*shared, job.deploy.volume.mount) if job.deploy else shared
    _refuse_local("input.path", job.input.path, read)
    _refuse_local("input.image_root", job.input.image_root, read)
    for role in get_args(ModelName):
        if job.uses(role) and not _is_testbed(job, role):
            check_hub_id(role, job.model(role))
            _refuse_local(f"models.{role}.path", local_folder(job.model(role)), read)
    _refuse_local("output.path", job.output.path, shared)
    if (prices := _prices(job)) and is_shared(prices, shared):  # another one is sent along
        _refuse_local("pricing.file", prices, shared)


def _refuse_local(name: str, path: str | None, folders: tuple[str, ...]) -> None:
    if path is None:
        return
    if not is_shared(path, folders):
        raise ConfigurationError(
            f"{name}: {path} is of this machine, and the cluster would look for it on its own; "
            "write a URI, as in s3://bucket/folder, or, if all nodes have it there too, name the "
            "folder by --shared-path"
        )
    try:
        check_uri(path)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def _is_testbed(job: JobConfig, role: ModelName) -> bool:
    return job.uses(role) and job.model(role).path == str(model_path(role))


def _files_beside(job: JobConfig, data: dict[str, Any], policy: str | None) -> dict[str, bytes]:
    """The settings and what they name of this machine; changes the settings' names of it."""
    files = {} if policy is None else {POLICY: _bytes("--policy", policy)}
    if (prices := _prices(job)) and not is_shared(prices, job.submit.shared_paths):
        files[PRICES] = _bytes("pricing.file", prices)
        data["pricing"]["file"] = PRICES
    return files | {SETTINGS: yaml.safe_dump(data, sort_keys=False).encode()}


def _prices(job: JobConfig) -> str | None:
    return job.pricing.file if job.pricing else None


def _package(job: JobConfig, files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """The archive, and what is in it."""
    whole = dict(files)
    parts = ["settings"]
    if job.submit.code:
        whole |= code_files()
        parts.append(f"code {code_version()}")
        if any(_is_testbed(job, role) for role in get_args(ModelName)):
            whole |= testbed_weights()
            parts.append("the testbed's weights")
    package = archive(whole)
    return package, f"{', '.join(parts)}: {len(package) / 1e6:.1f} MB"


def _entrypoint(config: SubmitConfig, flags: list[str], code: str) -> str:
    python = shlex.quote(config.python)
    run = shlex.join(["-m", "jobs.cli", "run", "--config", SETTINGS, *flags])
    if config.code:
        return f"{python} {run}"
    return f"{python} -m jobs.code_package {code} && {python} {run}"


def _environment(config: SubmitConfig) -> dict[str, str]:
    # Ray ends a job by SIGTERM and kills it after 3 s. An interrupt gives the output back to
    # whoever goes on, which takes some seconds, as on a terminal.
    stop = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(config.stop_wait_s)}
    width = {"COLUMNS": str(shutil.get_terminal_size((_WIDE, 0)).columns)}
    return {**_QUIET, **width, **stop, **config.environment}


def _how(config: SubmitConfig) -> bytes:
    """What of it makes another job."""
    how = config.model_dump(mode="json", include={"environment", "python", "code", "driver"})
    return json.dumps(how, sort_keys=True).encode()


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\n{len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:12]


def _bytes(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name}: {path} cannot be read") from error
