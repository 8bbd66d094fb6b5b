"""An adapter's folder, which may be hostile: listed within bounds, no link followed out of it, no special file opened.

Sizes are checked before anything is read. Nothing is unpickled, no code is run, and no path that a file names is
followed.
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_core.errors import UnknownName, UnsafeAdapter

MOST_FILES = 10_000
MOST_DEPTH = 4
MOST_JSON_BYTES = 4 << 20
MOST_TEXT_BYTES = 1 << 20
COPY = "copy the file itself in (cp -rL)"


@dataclass(frozen=True)
class File:
    """A regular file inside the folder."""

    name: str
    """Relative to the folder, with forward slashes."""
    size: int
    path: Path


@dataclass(frozen=True)
class Folder:
    """What lies in an adapter's folder."""

    root: Path
    files: tuple[File, ...]
    """By name."""
    outward: tuple[str, ...]
    """Links that lead out of the folder, or nowhere: never opened."""
    special: tuple[str, ...]
    """Pipes, sockets and devices: never opened."""

    def file(self, name: str) -> File | None:
        """The file of that name, if it is there. Raises `UnsafeAdapter` where it is a link out or no regular file."""
        if name in self.outward:
            raise UnsafeAdapter(
                f"{name} is a link that leads out of {shown(self.root.name)}", "a file of its own", COPY
            )
        if name in self.special:
            raise UnsafeAdapter(f"{name} is no regular file", "a file", COPY)
        return next((one for one in self.files if one.name == name), None)

    def ending(self, *endings: str) -> tuple[File, ...]:
        """Files whose names end so, in any case."""
        return tuple(one for one in self.files if one.name.lower().endswith(endings))


def read_folder(path: Path) -> Folder:
    """List a folder, or one safetensors file as a folder of its own.

    Raises `UnknownName` where there is none, `UnsafeAdapter` where it holds too many files or is nested too deeply.
    """
    try:
        root = path.resolve(strict=True)
        mode = root.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:
        wanted = "a folder written by PEFT's save_pretrained, or a safetensors file"
        raise UnknownName(f"no {shown(str(path))}", wanted, "correct the path") from error
    if stat.S_ISREG(mode):
        return Folder(root.parent, (File(root.name, root.stat().st_size, root),), (), ())
    if not stat.S_ISDIR(mode):
        raise UnsafeAdapter(f"{shown(path.name)} is no folder", "a folder or a safetensors file", "correct the path")
    files: list[File] = []
    outward: list[str] = []
    special: list[str] = []
    for entry in _walk(root, root, 0):
        name = Path(entry.path).relative_to(root).as_posix()
        found = _regular(entry, root)
        if isinstance(found, File):
            files.append(File(name, found.size, found.path))
        else:
            (outward if found == "outward" else special).append(name)
        if len(files) + len(outward) + len(special) > MOST_FILES:
            found = f"{shown(root.name)} holds more than {MOST_FILES} files"
            raise UnsafeAdapter(found, f"at most {MOST_FILES}", "name the adapter's own folder")
    return Folder(root, tuple(sorted(files, key=lambda one: one.name)), tuple(sorted(outward)), tuple(sorted(special)))


def read_json(file: File) -> Any:
    """The file's JSON. Raises `UnsafeAdapter` where it is too large, nested too deeply, or no JSON."""
    try:
        return parse_json(read_bytes(file, MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error), 80)
        raise UnsafeAdapter(f"{shown(file.name)} is no JSON ({reason})", "a JSON object", "save it again") from error


def read_object(file: File) -> dict[str, Any]:
    """The file's JSON object. Raises `UnsafeAdapter` as `read_json`, or where it is of another type."""
    found = read_json(file)
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise UnsafeAdapter(f"{shown(file.name)} holds a JSON {kind}", "a JSON object", "save it again")
    return found


def read_text(file: File) -> str:
    """The beginning of a text file, what is no UTF-8 replaced."""
    with opened(file) as descriptor:
        return os.read(descriptor.number, min(file.size, MOST_TEXT_BYTES)).decode("utf-8", "replace")


def read_bytes(file: File, most: int) -> bytes:
    """The whole file. Raises `UnsafeAdapter` where it is larger than `most`, before anything is allocated."""
    if file.size > most:
        raise UnsafeAdapter(f"{shown(file.name)} has {file.size} bytes", f"at most {most}", "name another folder")
    with opened(file) as descriptor:
        return b"".join(_chunks(descriptor.number, file.size))


def parse_json(data: bytes) -> Any:
    """Strict JSON: NaN and Infinity are refused. Raises `ValueError` or `RecursionError`."""
    return json.loads(data.decode("utf-8"), parse_constant=_refuse)


def shown(text: str, most: int = 120) -> str:
    """Text out of a hostile file as it may be printed: one line, printable, bounded."""
    clean = "".join(each if each.isprintable() else "�" for each in " ".join(text[: most * 4].split()))
    return clean if len(clean) <= most else clean[: most - 1] + "…"


@dataclass
class opened:
    """A file's descriptor that is a regular file of the size that was listed, whatever happened in between."""

    file: File
    number: int = -1

    def __enter__(self) -> "opened":
        flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self.number = os.open(self.file.path, flags)
        except OSError as error:
            found = f"{shown(self.file.name)} can not be read ({error.strerror})"
            raise UnsafeAdapter(found, "a readable file", "correct its permissions") from error
        status = os.fstat(self.number)
        if not stat.S_ISREG(status.st_mode) or status.st_size != self.file.size:
            os.close(self.number)
            raise UnsafeAdapter(f"{shown(self.file.name)} changed while it was read", "a folder at rest", "try again")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)


def _walk(folder: Path, root: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(folder)
    except OSError as error:
        found = f"{shown(folder.name)} can not be listed ({error.strerror})"
        raise UnsafeAdapter(found, "a readable folder", "correct its permissions") from error
    with entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                yield entry
            elif depth < MOST_DEPTH:
                yield from _walk(Path(entry.path), root, depth + 1)


def _regular(entry: os.DirEntry[str], root: Path) -> File | str:
    """The regular file behind an entry; `outward` or `special` for what must not be opened."""
    if entry.is_symlink():
        try:
            target = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):
            return "outward"
        if not target.is_relative_to(root) or not target.is_file():
            return "outward"
        return File(entry.name, target.stat().st_size, target)
    status = entry.stat(follow_symlinks=False)
    return File(entry.name, status.st_size, Path(entry.path)) if stat.S_ISREG(status.st_mode) else "special"


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = os.read(descriptor, min(size, 1 << 20))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
