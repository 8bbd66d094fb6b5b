"""Phase `text_adapter`: the fresh adapter that victims of one seed start from, as PEFT initialises it."""

from pathlib import Path

from bridge_core import spec as s
from bridge_core.phases.adapter import FOLDER
from bridge_core.text.models import read_language, target_endings
from bridge_core.victim import fresh_adapter


def run(spec: s.TextAdapterPhase, base: Path, out: Path) -> None:
    """Write a PEFT folder."""
    language = read_language(base)
    endings = target_endings(language, spec.lora.target_modules or spec.model.target_modules)
    fresh_adapter(language.model, endings, spec.rank, spec.lora, spec.seed, out / FOLDER)
