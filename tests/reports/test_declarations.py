"""Every declared table compiles with plain pdflatex, whatever its query: rows are made from its declaration alone."""

import math
import subprocess

from reports.declaration import load_definitions
from reports.latex import document, latex
from reports.layout import lay_out
from reports.reading import Standing
from reports.table import build_table
from tests.reports.test_printing import needs_latex

STANDING = Standing(finished=5, pending=1, failed=0, score_keys=("0" * 64,))
VALUES = (0.0, -12.345, 118.5, math.nan, math.inf, None)


def rows(told):
    """A control, a result and a bound, three seeds of two units, under two values of the spread."""
    columns = dict.fromkeys((*told.blocks, *told.sections), "a_b")
    for position, role in enumerate(("control", "result", "bound")):
        for value in ("2", "16"):
            for seed in range(3):
                for unit in range(2):
                    names = dict.fromkeys(told.rows, f"{role}_{position}")
                    found = {name: VALUES[(place + position) % 6] for place, name in enumerate(told.measures)}
                    extra = {"role": role, "position": position, "seed": seed, "num_units": 1, "unit": unit}
                    yield columns | names | {told.spread.column: value, "finished": seed < 2} | found | extra


@needs_latex
def test_every_declared_table_compiles(tmp_path):
    names = []
    for definition in load_definitions():
        table = build_table(definition, list(rows(definition.declaration)))
        text = latex(lay_out(table, STANDING, {}), "all of them", STANDING)
        assert "S[table-format=" in text and r"\bottomrule" in text
        (tmp_path / f"{definition.name}.tex").write_text(text)
        names.append(definition.name)
    (tmp_path / "report.tex").write_text(document("all of them", STANDING, names, []))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:].decode("latin-1")
    text = subprocess.run(["pdftotext", "-layout", "report.pdf", "-"], cwd=tmp_path, capture_output=True, check=True)
    assert text.stdout.decode().count("(2/3 seeds)") >= len(names)
