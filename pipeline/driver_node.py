"""Where a job's own bookkeeping lives: with its driver, so that no other node's death ends it."""

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_driver_node() -> NodeAffinitySchedulingStrategy:
    """For actors without a core. Left alone, Ray puts them on any node of the cluster."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
