"""What can be known of a text cell to fail before anything is written. No weights are read."""

from collections.abc import Iterable, Mapping

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.gradients import weight_matrix
from bridge_core.models import adapted_modules
from bridge_core.text.decoding import Fitted, decoded_modules, fit_bytes
from bridge_core.text.models import Language, build_language, target_endings
from bridge_core.victim import check_rank

MOST_FIT_BYTES = 4 << 30
LEFT = "adapt the query, key or value of the first block; what deeper modules alone reveal is not attacked yet"


def run(cells: Iterable[s.TextCell]) -> None:
    """Raise `InvalidInput` for the first cell that can not work."""
    seen: set[tuple[object, ...]] = set()
    for cell in cells:
        size = cell.dataset.max_tokens * cell.recipe.num_samples
        point = (cell.model, cell.rank, cell.recipe.lora, cell.dataset.num_classes, cell.bridge, size)
        _check_recipe(cell)
        if point not in seen:
            seen.add(point)
            _check_modules(cell)


def _check_recipe(cell: s.TextCell) -> None:
    if not cell.recipe.starts_at_zero and not isinstance(cell.bridge, s.Oracle):
        init = cell.recipe.lora.init_lora_weights
        found = f"bridge {cell.bridge.kind} on init_lora_weights {init}, where B does not start at zero"
        raise InvalidInput(found, "`default` or `gaussian`", "exclude the cell, or use the bridge `oracle`")


def _check_modules(cell: s.TextCell) -> None:
    language = build_language(cell.model, ("a",), cell.dataset.num_classes, outline=True)
    endings = target_endings(language, cell.recipe.lora.target_modules or cell.model.target_modules)
    modules = adapted_modules(language.model, endings)
    check_rank(language.model, modules, cell.rank)
    readers = language.readers(0)
    if not set(readers) & set(modules):
        found = f"LoRA on {', '.join(endings)}, of which the first block has no query, key or value"
        raise InvalidInput(found, "one of them for the span certificate", LEFT)
    _check_decoder(cell, language, modules)


def _check_decoder(cell: s.TextCell, language: Language, modules: tuple[str, ...]) -> None:
    bridge = cell.bridge
    if isinstance(bridge, s.Oracle | s.Direct):
        return
    if isinstance(bridge, s.Ridge | s.Mlp) and bridge.augment in ("labels", "broad"):
        found = f"bridge {bridge.kind} with `augment: {bridge.augment}` on text, whose sentences stand as they are"
        raise InvalidInput(found, "no augmentation", "leave `augment` out")
    shapes = {n: weight_matrix(language.model.get_submodule(n)) for n in decoded_modules(language, modules)}
    size = fit_bytes(bridge, shapes, cell.rank, cell.dataset.max_tokens * cell.recipe.num_samples)
    if size > MOST_FIT_BYTES:
        found = f"{bridge.kind} at rank {cell.rank} on {cell.model.kind} needs {size / 2**30:.0f} GiB"
        raise InvalidInput(found, f"at most {MOST_FIT_BYTES >> 30} GiB", _remedy(bridge, shapes, cell.rank))


def _remedy(bridge: Fitted, shapes: Mapping[str, tuple[int, int]], rank: int) -> str:
    if not isinstance(bridge, s.Ridge):
        return "lower `hidden`, or use `row_mmse`"
    entries = min(out * rank for out, _ in shapes.values())
    return f"lower num_pairs far below {entries}, a measurement's entries, or use `row_mmse`"
