"""Resume: Ray Data's own checkpoint, switched on for one dataset."""

from typing import Any

from pipeline.output import Output


def switch_on(output: Output, context: Any) -> None:
    """Make a dataset skip ids that are done, and commit its files in two phases.

    Args:
        output: whose ids.
        context: the dataset's own, so that other datasets of the process are left alone.
    """
    from ray.data.checkpoint import CheckpointConfig

    filesystem, path = output.located(output.checkpoint)
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
    )
