"""A safetensors file, which may be hostile: its header is checked in full before a tensor is read, one at a time.

    8 bytes   length of the header, little endian
    header    JSON: name -> dtype, shape, data_offsets; `__metadata__` -> strings
    data      every byte of one tensor

Tensors must fill the data without gaps or overlaps, as the format demands: nothing hides between them.
"""

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from audit.folder import File, opened, parse_json, shown
from bridge_core.errors import UnsafeAdapter

MOST_HEADER_BYTES = 8 << 20
MOST_FILE_BYTES = 16 << 30
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 8
MOST_NAME = 1024
MOST_TENSOR_BYTES = 512 << 20
"""Of a tensor that is held whole; larger ones are read in pieces only."""
PIECE_BYTES = 16 << 20
DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SAVE = "save the adapter again with safetensors"


@dataclass(frozen=True)
class Entry:
    """One tensor's place in the file."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """From the beginning of the file."""
    size: int
    """In bytes."""


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header holds together."""

    file: File
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    def read(self, name: str) -> Tensor:
        """One tensor as stored. Raises `UnsafeAdapter` where it is too large to be held."""
        entry = self.entries[name]
        if entry.size > MOST_TENSOR_BYTES:
            found = f"{shown(name)} has {entry.size} bytes"
            raise UnsafeAdapter(found, f"at most {MOST_TENSOR_BYTES} in a tensor that is analysed")
        with opened(self.file) as descriptor:
            flat = _tensor(descriptor.number, entry.start, entry.size, entry.dtype, self.file.name)
        return flat.reshape(entry.shape)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """One tensor, flat, piece by piece."""
        entry = self.entries[name]
        with opened(self.file) as descriptor:
            for start in range(entry.start, entry.start + entry.size, PIECE_BYTES):
                size = min(PIECE_BYTES, entry.start + entry.size - start)
                yield _tensor(descriptor.number, start, size, entry.dtype, self.file.name)


def read_tensor_file(file: File) -> TensorFile:
    """Read and check the header.

    Raises `UnsafeAdapter` where it claims more than the file holds, or anything about it is not as the format has it.
    """
    if file.size > MOST_FILE_BYTES:
        raise _not_so(file, f"has {file.size} bytes", f"at most {MOST_FILE_BYTES}")
    with opened(file) as descriptor:
        header, start = _header(file, descriptor.number)
    metadata = _metadata(file, header.pop("__metadata__", {}))
    if len(header) > MOST_TENSORS:
        raise _not_so(file, f"names {len(header)} tensors", f"at most {MOST_TENSORS}")
    entries = [_entry(file, name, value, start) for name, value in header.items()]
    _check_places(file, entries, start)
    return TensorFile(file, {one.name: one for one in sorted(entries, key=lambda one: one.name)}, metadata)


def check_finite(tensors: TensorFile) -> None:
    """Raise `UnsafeAdapter` for the first tensor that holds NaN or infinite values."""
    for name, entry in tensors.entries.items():
        if entry.dtype.is_floating_point and not all(_is_finite(piece) for piece in tensors.pieces(name)):
            found = f"{shown(name)} holds values that are not finite numbers"
            raise UnsafeAdapter(found, "finite weights", "train and save the adapter again")


def _is_finite(piece: Tensor) -> bool:
    if piece.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        piece = piece.float()
    # A product with zero is NaN for NaN and infinity, and makes no mask as long as the piece.
    return bool(torch.isfinite((piece * 0).sum(dtype=torch.float32 if piece.dtype != torch.float64 else None)))


def _header(file: File, descriptor: int) -> tuple[dict[str, Any], int]:
    begin = os.pread(descriptor, 8, 0)
    if len(begin) < 8:
        raise _not_so(file, f"has {len(begin)} bytes", "safetensors")
    (length,) = struct.unpack("<Q", begin)
    if length > MOST_HEADER_BYTES or length > file.size - 8:
        found = f"claims a header of {length} bytes in a file of {file.size}"
        raise _not_so(file, found, f"safetensors, with a header of at most {MOST_HEADER_BYTES}")
    try:
        header = parse_json(_pread(descriptor, 8, length))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error), 80)
        raise _not_so(file, f"has a header that is no JSON ({reason})", "safetensors") from error
    if not isinstance(header, dict):
        raise _not_so(file, "has a header that is no JSON object", "safetensors")
    return header, 8 + length


def _metadata(file: File, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _not_so(file, "has metadata that are not strings", "names and strings")
    return found


def _entry(file: File, name: str, value: Any, start: int) -> Entry:
    if len(name) > MOST_NAME or not isinstance(value, dict):
        raise _not_so(file, f"describes {shown(name, 60)} wrongly", "dtype, shape and data_offsets")
    kind, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or kind not in DTYPES:
        raise _not_so(file, f"has {shown(name, 60)} of dtype {shown(str(kind), 20)}", f"one of {', '.join(DTYPES)}")
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS:
        raise _not_so(file, f"has {shown(name, 60)} of shape {shown(str(shape), 60)}", "a list of sizes")
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= file.size - start:
        found = f"places {shown(name, 60)} at {shown(str(offsets), 60)}"
        raise _not_so(file, found, f"two offsets within its {file.size - start} bytes of data")
    size = math.prod(shape) * DTYPES[kind].itemsize
    if offsets[1] - offsets[0] != size:
        found = f"gives {shown(name, 60)} {offsets[1] - offsets[0]} bytes"
        raise _not_so(file, found, f"the {shown(str(size), 40)} of its shape {shown(str(shape), 60)}")
    return Entry(name, DTYPES[kind], tuple(shape), start + offsets[0], size)


def _sizes(found: Any) -> TypeGuard[list[int]]:
    if not isinstance(found, list) or len(found) > MOST_DIMENSIONS:
        return False
    return all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 48 for one in found)


def _check_places(file: File, entries: list[Entry], start: int) -> None:
    end = start
    for entry in sorted(entries, key=lambda one: (one.start, one.size)):
        if entry.start != end:
            raise _not_so(file, f"leaves a gap or an overlap before {shown(entry.name, 60)}", "tensors side by side")
        end += entry.size
    if end != file.size:
        raise _not_so(file, f"has {file.size - end} bytes behind its last tensor", "tensors alone")


def _tensor(descriptor: int, start: int, size: int, dtype: torch.dtype, name: str) -> Tensor:
    if not size:
        return torch.empty(0, dtype=dtype)
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = os.preadv(descriptor, [view[done:]], start + done)
        if not got:
            raise UnsafeAdapter(f"{shown(name)} ended while it was read", "a folder at rest", "try again")
        done += got
    return torch.frombuffer(data, dtype=dtype)


def _pread(descriptor: int, start: int, size: int) -> bytes:
    return bytes(_tensor(descriptor, start, size, torch.uint8, "the header").numpy().data) if size else b""


def _not_so(file: File, found: str, wanted: str) -> UnsafeAdapter:
    return UnsafeAdapter(f"{shown(file.name)} {found}", wanted, SAVE)
