"""The GPU benchmark: its arithmetic, and that it runs to its table. Nothing is timed."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_parts
from benchmarks.decoders import Decoder, image_prompt
from benchmarks.limits import Limits
from benchmarks.record import write_result
from sgl.flops import decoder_weights, layers_flops, lm_head_flops

TINY = Decoder(hidden=32, heads=4, kv_heads=2, intermediate=64, layers=6, vocabulary=100)


def tiny_setup() -> gpu_parts.Setup:
    return gpu_parts.Setup(
        decoder=replace(TINY, layers=2),
        device="cpu",
        rounds=1,
        visual=(40,),
        decode_visual=40,
        decode_batches=(1, 2),
        matrix_sides=(16, 32),
        copied_bytes=1 << 10,
    )


def test_a_causal_prefill_needs_half_of_the_attention_rectangle() -> None:
    tokens, shape = 100, TINY.shape
    dense = layers_flops(shape, range(6), tokens, tokens) - 6 * 4 * tokens * tokens * 32
    attention = 6 * 4 * tokens * tokens * 32 / 2
    assert gpu_parts.prefill_flops(shape, tokens) == dense + attention + lm_head_flops(shape, 1)


def test_the_decode_floor_reads_weights_once_and_every_cache() -> None:
    setup = tiny_setup()
    setup.__dict__["limits"] = Limits(matmul_flops_per_s=1.0, copy_bytes_per_s=2.0)
    weights = decoder_weights(setup.decoder.shape)
    per_token = 2 * 2 * 8  # keys and values of two heads
    full = gpu_parts.decode_floor(setup, batch=3, preset=None)
    assert full == (weights + 3 * 2 * per_token * (16 + 40 + 48)) * 2 / 2.0
    pruned = gpu_parts.decode_floor(setup, batch=1, preset=(0.5, 0.1))
    assert pruned == (weights + per_token * ((16 + 40 + 48) + (16 + 4 + 48))) * 2 / 2.0


@pytest.mark.parametrize(
    ("value", "goal", "met"),
    [(0.5, ">= 0.5", True), (0.49, ">= 0.5", False), (-0.01, "<= 0.03", True)],
)
def test_goals(value: float, goal: str, met: bool) -> None:
    assert gpu_parts.figure("case", "figure", value, goal)["met"] is met


def test_rankings_in_common() -> None:
    prompt = image_prompt(TINY.build(), visual=40)
    ranking = torch.arange(16 + 40 + 48.0)[None]
    assert gpu_parts.shared_top(ranking, ranking, prompt) == 1
    assert gpu_parts.shared_top(ranking, -ranking, prompt) == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # -inf in the interpreter
def test_every_part_runs_to_the_table(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton, of the dev extra, is published for Linux only")
    parts = {name: part for name, part in gpu_parts.PARTS.items() if name != "memory"}
    setup = tiny_setup()
    write = partial(write_result, "gpu", {}, folder=tmp_path)
    rows = gpu.measure(setup, parts, after_part=write)
    assert [row for row in rows if "error" in row] == []
    assert {row["part"] for row in rows} == set(parts)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["rows"] == rows
    assert len(gpu.report(rows).splitlines()) == 1 + len(rows)
    agreement = {row["figure"]: row["met"] for row in rows if row["part"] == "agreement"}
    assert agreement == {"largest relative difference": True, "top 5 % in common": True}


def test_a_part_that_fails_leaves_the_others_alone() -> None:
    def broken(setup: gpu_parts.Setup) -> list[gpu_parts.Row]:
        raise RuntimeError("no kernel image\nis available")

    def sound(setup: gpu_parts.Setup) -> list[gpu_parts.Row]:
        return [gpu_parts.figure("case", "figure", 1.0)]

    rows = gpu.measure(tiny_setup(), {"broken": broken, "sound": sound})
    assert rows[0]["error"].startswith("RuntimeError: no kernel image")
    assert rows[1]["value"] == 1.0
    assert "failed: RuntimeError: no kernel image" in gpu.report(rows)
    late = gpu.measure(tiny_setup(), {"sound": sound}, minutes=-1)
    assert late[0]["error"].startswith("left out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
