"""The table of the bridge beside Haim et al.: what a row says of the gate, and that it outlives a file."""

from pathlib import Path

from benchmarks.haim import output
from benchmarks.haim.rows import Row, read_rows, write_rows

OPEN = Row("a case", "homogeneous", 1000, [0.1], [0.9], psnr=[20.0, 22.0], psnr_null=[11.0, 12.0], ssim=[0.8, 0.9])
SHUT = Row("a case", "homogeneous", 10, [0.95], [0.99], psnr_bridge=[60.0, 80.0], psnr_bridge_start=[15.0, 16.0])
LOOSE = Row("a case", "kernel", 10, [0.2], [0.25])


def test_a_row_is_applicable_where_the_true_data_alone_fulfil_the_equation() -> None:
    assert [row.applicable for row in (OPEN, SHUT, LOOSE)] == [True, False, False]


def test_the_table_tells_the_residual_where_the_equation_does_not_hold() -> None:
    opened, shut = (output.line(row) for row in (OPEN, SHUT))
    assert "21.0 ± " in opened and "(2)" in opened and "not applicable" not in opened
    assert "not applicable (0.95)" in shut and "70.0 ± " in shut


def test_rows_come_back_from_their_file_and_are_drawn(tmp_path: Path) -> None:
    write_rows([OPEN, SHUT], tmp_path / "rows.json")
    rows = read_rows(tmp_path / "rows.json")
    assert rows == [OPEN, SHUT]
    assert {path.suffix for path in output.figure(rows, tmp_path)} == {".pdf", ".svg", ".png"}
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("haim.*"))
