"""`sgl inspect`: rows as they are, pictures where they can be had, and what is missing said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from infra.s3 import DEFAULT
from jobs.cli import main
from jobs.inspect_panels import page_of
from jobs.inspect_record import safe_name
from jobs.inspected import Inspected, inspect_record
from pipeline.schema import IMPORTANCE
from sgl.errors import ConfigurationError
from testbed import model_path
from testbed.generate import write_parquet
from tests.pipeline.inputs import png
from tests.pipeline.report.made import failed, probe, row, rows, write_output

ATTACK = "\x1b[31mred\x1b]0;title\x07 [bold]not markup[/bold]"


def inspected(folder: Path, name: str, **more: Any) -> Inspected:
    return inspect_record(str(folder), name, "exact_match", DEFAULT, **more)


def one(number: int = 0, **more: Any) -> dict[str, Any]:
    """An escalated record."""
    made = next(r for r in rows(50) if r["route"] == "large")
    return made | {"id": f"r{number:05d}", "criterion": "mean"} | more


def with_models(folder: Path, some: list[dict[str, Any]], pictures: list[Any], **job: Any) -> Path:
    """An output of the testbed's pair whose input is there."""
    folder.mkdir()
    columns = {
        "id": [r["id"] for r in some],
        "image": pictures,
        "question": [r.get("question") for r in some],
    }
    source = folder / "in.parquet"
    pq.write_table(pa.table(columns), source)
    models = {
        "small": {"path": str(model_path("small")), "batch_size": 8},
        "large": {"path": str(model_path("large")), "batch_size": 4},
    }
    own = {"input": {"path": str(source)}, "output": {"path": str(folder / "out")}}
    return write_output(folder / "out", some, **(own | {"models": models} | job))


def ranked(folder: Path, tokens: int) -> None:
    """Add a ranking to every row: later tokens are more important."""
    cells = np.linspace(0, 1, tokens).astype(np.float16)
    for path in (folder / "rows").glob("*.parquet"):
        table = pq.read_table(path)
        column = pa.array([cells] * table.num_rows, IMPORTANCE.type)
        pq.write_table(table.append_column(IMPORTANCE, column), path)


def tokens_of(*sizes: tuple[int, int]) -> int:
    from sgl.loading import load_encoder

    layouts = load_encoder(model_path("small")).family.layouts(sizes)
    return sum(grid.rows * grid.columns for layout in layouts for grid in layout.grids)


def test_a_row_is_told_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = one(probe=probe("right"), answer="right", small_answer="wrong", keep_ratio=0.25)
    folder = write_output(tmp_path / "out", [*rows(250)[10:], some], output={"path": "out"})
    assert main(["inspect", str(folder), "r00000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scores"] == {"answer": 1.0, "small_answer": 0.0, "probe 0": 1.0}
    assert "below the threshold 0.6125" in told["decision"]
    assert told["row"]["small_started_at"].startswith("2026-01-01T")
    assert told["png"] is None
    assert any("the input is gone" in remark for remark in told["remarks"])


def test_the_screen_says_who_said_what_and_what_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    some = one(answer="right", small_answer="wrong", probe=probe("neither"), pruner="guided")
    folder = write_output(tmp_path / "out", [some])
    assert main(["inspect", str(folder), "r00000"]) == 0
    told = capsys.readouterr().out
    for part in (
        *("wrong (wrong by exact_match)", "right (right by exact_match)", "unpruned: neither"),
        *(
            "16 of 64 kept",
            "average retention 40.0%",
            "device-seconds",
            "small: as given",
            "no PNG",
        ),
        "from 2026-01-01 00:0",
    ):
        assert part in told
    assert not list(tmp_path.glob("*.png"))


def test_a_failed_row_says_why_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    folder = write_output(tmp_path / "out", [failed(1)])
    assert main(["inspect", str(folder), "f00001"]) == 0
    told = capsys.readouterr().out
    assert "ImageError in the fetch stage: no such file" in told
    assert "--retry-errors" in told


def test_texts_of_strangers_do_not_reach_the_terminal_as_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    folder = write_output(tmp_path / "out", [one(question=ATTACK, small_answer=ATTACK)])
    assert main(["inspect", str(folder), "r00000"]) == 0
    told = capsys.readouterr().out
    assert "\x1b]0" not in told
    assert "\x07" not in told
    assert "[bold]not markup[/bold]" in told


def test_what_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write_output(tmp_path / "out", rows(20)))
    assert main(["inspect", str(tmp_path / "none"), "r00001"]) == 2
    assert "no output of sgl run" in capsys.readouterr().err
    assert main(["inspect", folder, "r0001"]) == 2
    assert "near are 'r0001" in capsys.readouterr().err
    assert main(["inspect", folder, "r00001", "--metric", "none"]) == 2
    assert "no metric 'none'" in capsys.readouterr().err


def test_importance_and_kept_tokens_are_drawn_beside_the_picture(tmp_path: Path) -> None:
    tokens = tokens_of((64, 96))
    some = one(visual_tokens=tokens, kept_tokens=tokens // 4)
    folder = with_models(tmp_path / "job", [some], [png(200, 64, 96)])
    ranked(folder, tokens)
    found = inspected(folder, "r00000")
    # Of 12 layers, pruned at 4, 2 and 0: (K + (12 - K) * kept / V) / 12 is the retention.
    shares = [one.tokens.mean() for one in found.kept[:3]]
    retention = [(k + (12 - k) * s) / 12 for k, s in zip((4, 2, 0), shares, strict=True)]
    assert retention == pytest.approx([0.64, 0.35, 0.09], abs=1 / tokens)
    assert found.kept[3].told.startswith("as it ran, 40%")
    assert found.kept[3].tokens.nonzero()[0].tolist() == list(range(tokens - tokens // 4, tokens))
    target = tmp_path / "r.png"
    assert main(["inspect", str(folder), "r00000", "--png", str(target)]) == 0
    page = Image.open(target)
    assert page.size == page_of(found).size
    assert page.height > 2 * 320


def test_without_a_map_the_picture_alone_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    folder = with_models(tmp_path / "job", [one()], [png(200, 64, 96)])
    assert main(["inspect", str(folder), "r00000"]) == 0
    told = capsys.readouterr().out
    assert "--recompute runs the small model" in told
    assert (tmp_path / "r00000.png").exists()


def test_a_map_can_be_recomputed_and_is_called_so(tmp_path: Path) -> None:
    source = tmp_path / "records.parquet"
    write_parquet("heldout", 3, source)
    records = pq.read_table(source).to_pylist()
    some = [one(id=r["id"], question=r["question"], small_answer="?") for r in records]
    folder = with_models(tmp_path / "job", some, [r["image"] for r in records])
    found = inspected(folder, records[0]["id"], recompute=True)
    assert found.ranking is not None
    assert found.ranking.origin.startswith("recomputed now, not of the run; it now says")
    assert len(found.ranking.importance) == sum(g.rows * g.columns for g in found.ranking.grids)
    assert found.ranking.importance.max() > found.ranking.importance.min()


def test_a_record_that_the_small_model_cannot_take_says_so(tmp_path: Path) -> None:
    folder = with_models(tmp_path / "job", [one(question=" ")], [png(200, 64, 96)])
    found = inspected(folder, "r00000", recompute=True)
    assert found.ranking is None
    assert any("EmptyQuestionError" in remark for remark in found.remarks)


def test_a_model_that_is_gone_cannot_be_recomputed(tmp_path: Path) -> None:
    gone = {"path": str(tmp_path / "gone")}
    models = {"models": {"small": gone, "large": gone}}
    folder = with_models(tmp_path / "job", [one()], [png(200, 64, 96)], **models)
    with pytest.raises(ConfigurationError, match="--recompute: "):
        inspected(folder, "r00000", recompute=True)


def test_the_choice_of_another_pruner_is_not_drawn_as_the_small_models(tmp_path: Path) -> None:
    tokens = tokens_of((64, 96))
    some = one(pruner="fastv", visual_tokens=tokens, kept_tokens=tokens // 4)
    folder = with_models(tmp_path / "job", [some], [png(200, 64, 96)])
    ranked(folder, tokens)
    found = inspected(folder, "r00000")
    assert len(found.kept) == 3
    assert any("pruner fastv chose its tokens" in remark for remark in found.remarks)


def test_every_picture_of_a_record_is_drawn_with_its_own_tokens(tmp_path: Path) -> None:
    sizes = [(64, 96), (96, 64)]
    cells = [{"bytes": png(200, *size), "uri": None, "base": None} for size in sizes]
    image = pa.array([[{"bytes": c["bytes"], "path": None} for c in cells]])
    tokens = tokens_of(*sizes)
    folder = with_models(tmp_path / "job", [one(visual_tokens=tokens)], image)
    ranked(folder, tokens)
    found = inspected(folder, "r00000")
    assert [p.shape[:2] for p in found.pictures] == sizes
    assert found.ranking is not None
    assert {grid.image for grid in found.ranking.grids} == {0, 1}
    alone = inspected(folder, "r00000")
    alone.pictures = alone.pictures[:1]
    assert page_of(found).height != page_of(alone).height


def test_a_picture_that_is_gone_is_said_and_a_named_png_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_models(tmp_path / "job", [one()], ["nowhere.png"])
    target = tmp_path / "r.png"
    assert main(["inspect", str(folder), "r00000", "--json", "--png", str(target)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["remarks"] == ["no pictures: nowhere.png: no such file"]
    assert not target.exists()


def test_a_picture_that_has_changed_is_not_drawn_over(tmp_path: Path) -> None:
    folder = with_models(tmp_path / "job", [one()], [png(200, 64, 96)])
    ranked(folder, 7)
    found = inspected(folder, "r00000")
    assert found.ranking is None
    assert any("not those of the run" in remark for remark in found.remarks)


def test_the_large_model_alone_has_no_ranking(tmp_path: Path) -> None:
    some = {k: v for k, v in row(0, np.random.default_rng(0)).items() if k != "exit_score"}
    folder = with_models(tmp_path / "job", [some], [png(200, 64, 96)], mode="large")
    found = inspected(folder, some["id"])
    assert found.ranking is None
    assert any("mode large has no small model" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", ["a/b", "../../etc/passwd", "", "ü", "a" * 300, ".hidden", "a b"])
def test_any_id_has_a_safe_file_name(name: str) -> None:
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert not safe.startswith(".")
    assert len(f"{safe}.png") < 120
    assert safe.isascii()


def test_ids_that_differ_have_files_that_do() -> None:
    assert safe_name("a/b") != safe_name("a_b") != safe_name("a b")
    assert safe_name("heldout-p00021-q1") == "heldout-p00021-q1"
