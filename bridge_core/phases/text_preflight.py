"""What can be known of a text cell to fail before anything is written. No weights are read."""

from collections.abc import Iterable

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.models import adapted_modules
from bridge_core.text.models import build_language, target_endings
from bridge_core.victim import check_rank

LEFT = "adapt the query, key or value of the first block; what deeper modules alone reveal is not attacked yet"


def run(cells: Iterable[s.TextCell]) -> None:
    """Raise `InvalidInput` for the first cell that can not work."""
    seen: set[tuple[object, ...]] = set()
    for cell in cells:
        point = (cell.model, cell.rank, cell.recipe.lora, cell.dataset.num_classes, cell.inversion.kind)
        _check_recipe(cell)
        if point not in seen:
            seen.add(point)
            _check_modules(cell)


def _check_recipe(cell: s.TextCell) -> None:
    if not cell.recipe.starts_at_zero and not isinstance(cell.bridge, s.Oracle):
        init = cell.recipe.lora.init_lora_weights
        found = f"bridge {cell.bridge.kind} on init_lora_weights {init}, where B does not start at zero"
        raise InvalidInput(found, "`default` or `gaussian`", "exclude the cell, or use the bridge `oracle`")
    if not isinstance(cell.bridge, s.Direct | s.Oracle):
        found = f"inversion span with the bridge {cell.bridge.kind}: a decoded gradient spans what the decoder learnt"
        raise InvalidInput(found, "`direct` or `oracle`", "exclude the cell")


def _check_modules(cell: s.TextCell) -> None:
    language = build_language(cell.model, ("a",), cell.dataset.num_classes, outline=True)
    endings = target_endings(language, cell.recipe.lora.target_modules or cell.model.target_modules)
    modules = adapted_modules(language.model, endings)
    check_rank(language.model, modules, cell.rank)
    readers = language.readers(0)
    if not set(readers) & set(modules):
        found = f"LoRA on {', '.join(endings)}, of which the first block has no query, key or value"
        raise InvalidInput(found, "one of them for the span certificate", LEFT)
