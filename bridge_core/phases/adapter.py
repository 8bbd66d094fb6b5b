"""Phase `adapter`: the fresh adapter that victims of one seed start from, as PEFT initialises it."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.models import load_base
from bridge_core.victim import fresh_adapter

FOLDER = "release/000"


def run(spec: s.AdapterPhase, base: Path, out: Path) -> None:
    """Write a PEFT folder."""
    model, _ = load_base(spec.model, base)
    endings = spec.lora.target_modules or spec.model.target_modules
    fresh_adapter(model, endings, spec.rank, spec.lora, spec.seed, out / FOLDER)
