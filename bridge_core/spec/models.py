"""Base models."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge_core.spec.base import Axis, Spec, kind_alone


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


class Perceptron(Axis):
    """A multi-layer perceptron with ReLU; without biases it is homogeneous in its weights, as Haim et al. ask for."""

    kind: Literal["perceptron"] = "perceptron"
    depth: int = Field(default=1, ge=1, le=16)
    """Hidden layers."""
    width: int = Field(default=128, ge=1)
    """Units of each hidden layer."""
    bias: bool = False
    hidden: Literal["random", "zero"] = "random"
    """Weights of the hidden layers before pretraining; with `zero` and no pretraining the adapter is all there is."""
    pretraining: Pretraining = Pretraining()
    target_modules: tuple[str, ...] = Field(default=("linear",), min_length=1)

    @model_validator(mode="after")
    def _zero_stays(self) -> "Perceptron":
        if self.hidden == "zero" and self.pretraining.epochs:
            raise ValueError("hidden layers of weight zero can not be trained; set `pretraining: {epochs: 0}`")
        return self


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


ImageModels = Vit | ConvNet | Perceptron | ResNet18 | FolderModel | HubModel
AnyModel = Annotated[ImageModels, Field(discriminator="kind")]
Model = Annotated[AnyModel, BeforeValidator(kind_alone)]
