"""The first suite: a commented file to begin with."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

from bridge_core.errors import InvalidInput


def text_of(kind: Literal["images", "text"], path: Path) -> str:
    """The suite that `bridge init` writes to `path`."""
    return files(__name__).joinpath(f"{kind}.yaml").read_text(encoding="utf-8").replace("NAME.yaml", str(path))


def write_first(path: Path, kind: Literal["images", "text"], force: bool = False) -> Iterator[str]:
    """Write the suite; lines that say what to do next. Raises `InvalidInput` where it can not be written."""
    if path.exists() and not force:
        raise InvalidInput(f"{path} is there already", "a new file", "give another path, or --force")
    try:
        path.write_text(text_of(kind, path), encoding="utf-8")
    except OSError as error:
        found = f"{path} can not be written: {error.strerror}"
        raise InvalidInput(found, "a file in a folder that is there", "give another path") from None
    yield f"{path} written; read it, it explains itself"
    yield f"bridge bench plan {path} tells what would run"
    yield f"bridge bench run {path} runs it, and shows it on a terminal"
    yield f"bridge report {path} writes tables and figures"
