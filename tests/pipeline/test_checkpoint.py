import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.data.checkpoint import CheckpointConfig

from pipeline import checkpoint
from pipeline.checkpoint import DoneFilter, digests_of

ids = st.lists(st.text(max_size=4), unique=True, max_size=20)


@settings(max_examples=50)
@given(done=ids.filter(bool), block=ids)
def test_the_filter_leaves_exactly_what_is_not_done(done: list[str], block: list[str]) -> None:
    ready = sorted(digests_of(done).tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.ray, "get", lambda _: checkpoint.np.array(ready, "S16"))
        config = CheckpointConfig("id", "/nowhere", override_filesystem=pa.fs.LocalFileSystem())
        rows = pa.table({"id": pa.array(block, pa.string()), "n": range(len(block))})
        left = DoneFilter(config, None).filter_rows_for_block(rows)
    assert left["id"].to_pylist() == [name for name in block if name not in done]
    assert left["n"].to_pylist() == [i for i, name in enumerate(block) if name not in done]
