"""Replicas stay on the nodes of their own pool, on a cluster of raylets with GPUs that are none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APART = """
import json
import numpy as np
import ray
from ray.cluster_utils import Cluster
from ray.data import ActorPoolStrategy
from pipeline.build import _remote
from pipeline.preflight import resolve
from tests.pipeline.inputs import job_of

def replica(role):
    class Replica:
        def __call__(self, batch):
            here = ray.get_runtime_context().get_node_id()
            found = {node["NodeID"]: node["Labels"].get("sgl-pool") for node in ray.nodes()}
            return {**batch, role: np.full(len(batch["id"]), found[here])}
    return Replica

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=2, num_gpus=1, labels={"sgl-pool": "small"})
cluster.add_node(num_cpus=2, num_gpus=4, labels={"sgl-pool": "large"})
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
pools = {
    "small": {"replicas": 2, "num_gpus": 0.5, "node_labels": {"sgl-pool": "small"}},
    "large": {"replicas": 1, "num_gpus": 4, "node_labels": {"sgl-pool": "large"}},
}
places = resolve(job_of("in", "out", pools=pools), ray.nodes()).placements
data = ray.data.range(64).repartition(8)
for role, size in (("small", 2), ("large", 1)):
    data = data.map_batches(
        replica(role), compute=ActorPoolStrategy(size=size), batch_size=8, **_remote(places[role])
    )
rows = data.take_all()
print(json.dumps([len(rows), sorted({(row["small"], row["large"]) for row in rows})]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_every_replica_is_on_a_node_of_its_pool() -> None:
    """The small pool's two halves of a GPU would fit on the large pool's node as well."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", APART]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [64, [["small", "large"]]]
