"""Whether an adapter can belong to a base model at all: by the names and shapes of its modules."""

from bridge_core.errors import InvalidInput
from bridge_core.gradients import weight_matrix
from bridge_core.release import Release
from bridge_core.text.models import Language


def check_base(release: Release, language: Language) -> None:
    """Raise `InvalidInput` where the base has no such module, or one of another shape.

    A base of the same shapes and other weights passes: its certificate fails instead.
    """
    modules = dict(language.model.named_modules())
    named = release.config.get("base_model_name_or_path")
    remedy = f"name the base that the adapter was trained on{f' (it says {named!r})' if named else ''}"
    for name, factors in release.factors.items():
        if name not in modules:
            raise InvalidInput(f"an adapter of {name}, which this base model has not", "the adapter's own base", remedy)
        wanted, found = weight_matrix(modules[name]), (factors.b.shape[0], factors.a.shape[1])
        if tuple(wanted) != found:
            shapes = f"an adapter of {name} for a {found[0]} x {found[1]} matrix"
            raise InvalidInput(shapes, f"this base model's {wanted[0]} x {wanted[1]}", remedy)
