"""No image stands on both sides, equal images are one, and what is missing is told in one line."""

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

from bridge_core import data
from bridge_core import spec as s
from bridge_core.errors import InvalidInput, UnknownName
from tests.core.examples import digits, is_one_line

FASHION = [folder for folder in data.FASHION_FOLDERS if folder.is_dir()]
needs_fashion = pytest.mark.skipif(not FASHION, reason="Debian's dataset-fashion-mnist is not installed")


def drawn(count: int, side: int = 9) -> list[np.ndarray]:
    return list(np.random.default_rng(7).integers(0, 256, (count, side, side), dtype=np.uint8))


def parquet(folder: Path, *, names: bool = False) -> s.ParquetImages:
    """60 pictures, the first 20 of which stand twice."""
    pixels = drawn(60)
    label = ClassLabel(names=["cat", "dog", "owl"]) if names else Value("int64")
    features = Features({"image": Image(), "label": label})
    rows = {"image": [Pillow.fromarray(p) for p in pixels + pixels[:20]], "label": [i % 3 for i in range(80)]}
    Dataset.from_dict(rows, features=features).to_parquet(str(folder / "a.parquet"))
    return s.ParquetImages(path=str(folder / "*.parquet"))


def image_folder(folder: Path) -> s.ImageFolder:
    for i, pixels in enumerate(drawn(90)):
        path = folder / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pixels).save(path)
    return s.ImageFolder(path=str(folder / "pictures"))


def idx_folder(folder: Path) -> s.FashionMnist:
    """Fashion-MNIST's four files, the small ones of a stranger: 80 pictures, ungzipped and gzipped."""
    for part, count in (("train", 60), ("t10k", 20)):
        pixels = np.stack(drawn(80)[:60] if part == "train" else drawn(80)[60:])
        head = b"\0\0\x08\x03" + np.array([count, 9, 9], ">i4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = b"\0\0\x08\x01" + np.array([count], ">i4").tobytes() + bytes(i % 4 for i in range(count))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return s.FashionMnist(folder=str(folder))


SOURCES: dict[str, Callable[[Path], s.Source]] = {
    "digits": lambda _: s.Digits(),
    "mnist": lambda _: s.Mnist(),
    "lfw": lambda _: s.Lfw(),
    "lfw with patches": lambda _: s.Lfw(faces_only=False),
    "parquet": parquet,
    "image folder": image_folder,
    "idx": idx_folder,
}


def shared(one: data.Images, other: data.Images) -> set[bytes]:
    return {bytes(p.numpy()) for p in one.pixels} & {bytes(p.numpy()) for p in other.pixels}


def assert_apart(proxy: data.Images, private: data.Images) -> None:
    assert len(proxy) and len(private)
    assert not shared(proxy, private)
    assert data.overlap(proxy, private) == 0


@pytest.mark.parametrize("name", SOURCES)
def test_proxy_and_private_share_no_picture(name: str, tmp_path: Path) -> None:
    images = data.load_images(SOURCES[name](tmp_path), 12, 1)
    proxy = data.proxy_part(images)
    private = data.private_part(images, proxy)
    assert_apart(proxy, private)
    distinct = len({bytes(p.numpy()) for p in images.pixels})
    assert len(proxy) + len(private) == distinct
    assert len(private) < len(proxy)


@pytest.mark.slow
@needs_fashion
def test_fashion_mnist_is_whole_and_its_parts_are_apart() -> None:
    images = data.load_images(s.FashionMnist(), 28, 1)
    assert len(images) == 70_000 and images.labels.bincount().tolist() == [7000] * 10
    proxy = data.proxy_part(images)
    assert_apart(proxy, data.private_part(images, proxy))


@pytest.mark.parametrize(("one", "other"), itertools.permutations(["lfw", "lfw with patches"]))
def test_two_sources_that_overlap_are_held_apart(one: str, other: str, tmp_path: Path) -> None:
    public, secret = (data.load_images(SOURCES[name](tmp_path), 12, 1) for name in (one, other))
    assert len(shared(public, secret)) > 50
    proxy = data.proxy_part(public)
    assert_apart(proxy, data.private_part(secret, proxy))


def test_strange_sources_are_used_whole(tmp_path: Path) -> None:
    proxy = data.proxy_part(data.load_images(s.Mnist(), 8, 1))
    private = data.private_part(digits(), proxy)
    assert_apart(proxy, private)
    assert len(private) == len({bytes(p.numpy()) for p in digits().pixels})


def test_equal_pictures_stand_once_and_on_one_side(tmp_path: Path) -> None:
    images = data.load_images(parquet(tmp_path), 9, 1)
    assert len(images) == 80
    proxy = data.proxy_part(images)
    private = data.private_part(images, proxy)
    for part in (proxy, private):
        assert len({bytes(p.numpy()) for p in part.pixels}) == len(part)
    assert len(proxy) + len(private) == 60


def test_the_order_of_a_source_does_not_move_its_parts() -> None:
    images = digits()
    turned = images[torch.arange(len(images)).flip(0)]
    for part in (data.proxy_part, lambda x: data.private_part(x, data.proxy_part(x))):
        assert shared(part(images), part(turned)) == {bytes(p.numpy()) for p in part(images).pixels}


def test_heldout_is_of_the_picture_alone() -> None:
    proxy = data.proxy_part(digits())
    kept = data.is_heldout(proxy)
    assert 0.1 < float(kept.double().mean()) < 0.18
    subset = torch.arange(0, len(proxy), 3)
    assert torch.equal(data.is_heldout(proxy[subset]), kept[subset])
    again = data.proxy_part(data.load_images(s.Digits(), 8, 1))
    assert torch.equal(data.is_heldout(again), kept) and torch.equal(again.digests, proxy.digests)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (13, 3), (28, 1)])
def test_pictures_come_in_the_size_and_channels_asked(size: int, channels: int) -> None:
    images = data.load_images(s.Lfw(), size, channels)
    assert images.pixels.shape == (100, channels, size, size)
    assert images.pixels.dtype == torch.uint8 and images.pixels.float().std() > 20


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    images = data.load_images(image_folder(tmp_path), 9, 1)
    found = {bytes(p.numpy()): int(label) for p, label in zip(images.pixels, images.labels, strict=True)}
    assert found == {bytes(p): i % 2 for i, p in enumerate(drawn(90))}


def test_idx_files_give_their_pictures_and_labels(tmp_path: Path) -> None:
    images = data.load_images(idx_folder(tmp_path), 9, 1)
    assert np.array_equal(images.pixels[:, 0].numpy(), np.stack(drawn(80)))
    assert images.labels.tolist() == [i % 4 for i in range(60)] + [i % 4 for i in range(20)]


@pytest.mark.parametrize("name", SOURCES)
def test_classes_are_counted_without_pictures(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    if isinstance(source, s.Lfw) and source.faces_only:
        assert data.count_classes(source) == 2
    else:
        assert data.count_classes(source) == data.load_images(source, 8, 1).num_classes


def test_words_as_labels_become_numbers(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": Value("string")})
    rows = {"image": [Pillow.fromarray(p) for p in drawn(3)], "label": ["owl", "cat", "owl"]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    source = s.ParquetImages(path=str(tmp_path / "a.parquet"))
    assert data.load_images(source, 9, 1).labels.tolist() == [1, 0, 1]
    assert data.count_classes(source) == 2


def test_saved_images_come_back(tmp_path: Path) -> None:
    data.save_images(digits(), tmp_path / "x.safetensors")
    again = data.read_images(tmp_path / "x.safetensors")
    assert all(torch.equal(t, vars(digits())[name]) for name, t in vars(again).items())


def refused(source: s.Source, *words: str, wanted: type[InvalidInput] = UnknownName) -> None:
    for read in (lambda: data.load_images(source, 8, 1), lambda: data.count_classes(source)):
        with pytest.raises(wanted) as caught:
            read()
        assert is_one_line(caught.value, *words)
        assert caught.value.exit_code == 2 and caught.value.remedy


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    refused(s.ParquetImages(path=str(tmp_path / "none*.parquet")), "no file matches", "none*.parquet")
    refused(s.ImageFolder(path=str(tmp_path / "none")), "no folder", "none")
    refused(s.FashionMnist(folder=str(tmp_path / "none")), "ubyte", "Fashion-MNIST")
    (tmp_path / "empty").mkdir()
    refused(s.ImageFolder(path=str(tmp_path / "empty")), "empty")


@pytest.mark.parametrize("column", ["image_column", "label_column"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(column: str, tmp_path: Path) -> None:
    source = parquet(tmp_path).model_copy(update={column: "colour"})
    refused(source, "no column 'colour'", "image, label", "image_column")


def test_a_folder_of_pictures_without_classes_is_refused(tmp_path: Path) -> None:
    Pillow.fromarray(drawn(1)[0]).save(tmp_path / "alone.png")
    refused(s.ImageFolder(path=str(tmp_path)), "label")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("not parquet")
    refused(s.ParquetImages(path=str(tmp_path / "a.parquet")), "a.parquet", wanted=InvalidInput)


def test_a_truncated_idx_file_is_refused(tmp_path: Path) -> None:
    source = idx_folder(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-12])
    refused(source, "train-labels", wanted=InvalidInput)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x20abc")
    refused(source, "train-labels", wanted=InvalidInput)
