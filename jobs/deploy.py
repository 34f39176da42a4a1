"""`sgl deploy`: makes of a job or an endpoint what a cluster is told."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.set_option import add_set_option

if TYPE_CHECKING:
    from jobs.deploy_settings import Deployment

TARGETS = ("kuberay", "ray-up")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl deploy` takes."""
    names = parser.add_subparsers(required=True, metavar="ACTION")
    render = names.add_parser("render", help="write manifests, or a file for ray up")
    render.set_defaults(command=run)
    render.add_argument(
        "--config", required=True, metavar="FILE", help="settings with a section deploy, YAML"
    )
    add_set_option(render)
    render.add_argument("--target", required=True, choices=TARGETS)
    render.add_argument("--output", required=True, metavar="DIR", help="for the files")
    render.add_argument(
        "--endpoint", action="store_true", help="the settings are of sgl serve, not of sgl run"
    )
    render.add_argument("--policy", metavar="FILE", help="of sgl calibrate, for a job")


def run(options: argparse.Namespace) -> int:
    """Write the files, and say what they ask for."""
    from jobs.deploy_settings import deployment_of

    deployment = deployment_of(
        options.config, options.assignments, options.policy, endpoint=options.endpoint
    )
    files = rendered(deployment, options.target)
    write(files, Path(options.output))
    for line in told(deployment):
        print(f"sgl: {line}", file=sys.stderr)
    print(f"sgl: {len(files)} files in {options.output}; docs/CLUSTER.md goes on", file=sys.stderr)
    return 0


def rendered(deployment: "Deployment", target: str) -> dict[str, str]:
    """Text of all files, by path.

    Args:
        deployment: of which.
        target: one of TARGETS.

    Raises:
        ConfigurationError: what is asked for cannot be; names the setting and the remedy.
    """
    from infra.deploy.kustomize import manifests
    from infra.deploy.ray_up import cluster_file
    from jobs.deploy_settings import demo_of
    from sgl.errors import ConfigurationError

    config, workload = deployment.config, deployment.workload
    try:
        if target == "kuberay":
            demo = demo_of(deployment)
            return manifests(config, workload, (demo.config, demo.workload) if demo else None)
        return cluster_file(config, workload)
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(str(error)) from error


def write(files: dict[str, str], folder: Path) -> None:
    """Put files into a folder, which may hold older ones of the same names and no others.

    Raises:
        ConfigurationError: it holds others, which would be applied with these.
    """
    from sgl.errors import ConfigurationError

    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if others := sorted(there - files.keys()):
        raise ConfigurationError(
            f"--output {folder}: holds {others[0]}, which is none of what is written now; name "
            "another folder, or empty it"
        )
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def told(deployment: "Deployment") -> list[str]:
    """What it asks of a cluster, and what that costs."""
    from infra.deploy.workload import groups_of
    from jobs.deploy_prices import device_prices, hourly
    from jobs.deploy_settings import passed_over

    workload = deployment.workload
    groups = groups_of(workload, deployment.config)
    lines = []
    for group in groups:
        count = f"{group.least}" if group.least == group.most else f"{group.least} to {group.most}"
        has = f"{group.gpus} GPUs" if group.gpus else f"{group.nodes.cpus} vCPUs"
        spot = ", spot" if group.nodes.spot and group.gpus else ""
        lines.append(f"{group.role}: {count} nodes with {has} each{spot}")
    cost = hourly(groups, device_prices(workload.pools, deployment.source))
    if cost is None:
        lines.append(
            "some devices have no price (spot, or of an unknown kind): write pools.*.usd_per_hour"
        )
    else:
        least, most = (f"{usd:.2f}" for usd in cost)
        lines.append(f"USD {least if least == most else f'{least} to {most}'} per hour of devices")
    if ignored := passed_over(deployment.source):
        lines.append(f"not looked at, as the cluster has a Ray of its own: {', '.join(ignored)}")
    if workload.port is not None and workload.keys is None:
        lines.append("the endpoint has no keys: whoever the network policy lets in may use it")
    return lines
