"""Where a victim keeps its release and its sealed truth, of images or of text."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

RELEASE, SECRET = "release", "secret"
GRADIENT = "gradient/"


def release_folder(out: Path, number: int) -> Path:
    """The PEFT folder of one secret's adapter."""
    return out / RELEASE / f"{number:03d}"


def releases(folder: Path) -> list[Path]:
    """The PEFT folders of an artefact, in order."""
    return sorted((folder / RELEASE).iterdir())


def seal(tensors: dict[str, Tensor], gradients: dict[str, Tensor], out: Path, number: int) -> None:
    """Write the truth of one secret."""
    path = _path(out, number)
    path.parent.mkdir(exist_ok=True)
    named = {f"{GRADIENT}{name}": g for name, g in gradients.items()}
    save_file({name: one.contiguous() for name, one in (tensors | named).items()}, path)


def unseal(victim: Path, number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors and gradients of one secret. Only scoring, and publishing what a suite discloses, may call this."""
    tensors = load_file(_path(victim, number))
    gradients = {name.removeprefix(GRADIENT): one for name, one in tensors.items() if name.startswith(GRADIENT)}
    return {name: one for name, one in tensors.items() if not name.startswith(GRADIENT)}, gradients


def _path(folder: Path, number: int) -> Path:
    return folder / SECRET / f"{number:03d}.safetensors"
