"""Which libraries an artefact was made with."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

DECISIVE = ("numpy", "torch", "transformers", "peft", "datasets", "safetensors", "scikit-learn", "torchmetrics")
"""Libraries that can change a number."""


@cache
def library_versions() -> dict[str, str]:
    """Name -> version, Python first; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in DECISIVE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
