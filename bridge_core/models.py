"""Base models: built-in small ones, local folders and hub ids; always in evaluation mode, batch-norm frozen.

Every model takes images in [0, 1] and gives logits. No code of a model folder is run, and only safetensors are read.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, assert_never

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.pytorch_utils import Conv1D

from bridge_core import spec as s
from bridge_core.errors import InvalidInput, UnknownName

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "gelu": nn.GELU, "tanh": nn.Tanh}
BASE_FILE = "base.json"
ADAPTABLE = (nn.Linear, nn.Conv2d, Conv1D)


@dataclass(frozen=True)
class Shape:
    """What a model takes and gives."""

    channels: int
    image_size: int
    num_classes: int


class SmallConvNet(nn.Module):
    """DLG's LeNet: three 5x5 convolutions (stride 2, 2, 1), a smooth activation after each, a linear head."""

    def __init__(self, knobs: s.ConvNet, shape: Shape) -> None:
        super().__init__()
        width, side = knobs.width, (shape.image_size + 3) // 4
        self.conv1 = nn.Conv2d(shape.channels, width, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(width, width, 5, stride=2, padding=2)
        self.conv3 = nn.Conv2d(width, width, 5, stride=1, padding=2)
        self.activation = ACTIVATIONS[knobs.activation]()
        self.head = nn.Linear(width * side * side, shape.num_classes)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees."""
        hidden = images
        for layer in (self.conv1, self.conv2, self.conv3):
            hidden = self.activation(layer(hidden))
        return hidden.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in [-1, 1]."""
        return self.head(self.features(images))


class ReluPerceptron(nn.Module):
    """Hidden layers of ReLU on the flattened image less a fixed, public centre, and a linear head."""

    centre: Tensor

    def __init__(self, knobs: s.Perceptron, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(shape.channels, shape.image_size, shape.image_size))
        widths = [self.centre.numel(), *[knobs.width] * knobs.depth]
        self.layers = nn.Sequential(*(_hidden(*pair, knobs) for pair in pairwise(widths)))
        self.head = nn.Linear(knobs.width, shape.num_classes, bias=knobs.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in [-1, 1]."""
        return self.head(self.layers((images - self.centre).flatten(1)))


def _hidden(width: int, units: int, knobs: s.Perceptron) -> nn.Sequential:
    linear = nn.Linear(width, units, bias=knobs.bias)
    if knobs.hidden == "zero":
        nn.init.zeros_(linear.weight)
    return nn.Sequential(OrderedDict(linear=linear, activation=nn.ReLU()))


def centred(model: nn.Module, images: Float[Tensor, "n channels height width"]) -> None:
    """Give a perceptron the mean of public images in [0, 1] as its centre, in place; other models have none."""
    if isinstance(model, ReluPerceptron):
        model.centre.copy_(images.mean(0) * 2 - 1)


def build(model: s.Model, shape: Shape, seed: int = 0) -> nn.Module:
    """A fresh model with random weights (built-in), or the pretrained one (folder, hub).

    Raises `UnknownName` where a folder or hub id can not be loaded, `InvalidInput` where the shape does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        match model:
            case s.ConvNet():
                built: nn.Module = SmallConvNet(model, shape)
            case s.Vit():
                built = _vit(model, shape)
            case s.Perceptron():
                built = ReluPerceptron(model, shape)
            case s.ResNet18():
                built = _resnet18(model, shape)
            case s.FolderModel():
                built = _pretrained(model.path, shape)
            case s.HubModel():
                built = _pretrained(model.id, shape, model.revision)
            case _:
                assert_never(model)
    return built.eval()


def logits(model: nn.Module, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n classes"]:
    """Logits for images in [0, 1], which the model sees in [-1, 1]."""
    output: Any = model(images * 2 - 1)
    return output if isinstance(output, Tensor) else output.logits


def features(model: nn.Module, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n d"]:
    """The input of the classification head: the base model's own view of an image."""
    seen: list[Tensor] = []
    handle = head(model).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(1)))
    try:
        logits(model, images)
    finally:
        handle.remove()
    return seen[0]


def head(model: nn.Module) -> nn.Linear:
    """The last linear layer."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def adapted_modules(model: nn.Module, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the Linear, Conv1D and Conv2d modules that `endings` choose, by PEFT's rule: a name or its end."""
    chosen = [
        name
        for name, module in model.named_modules()
        if isinstance(module, ADAPTABLE) and any(name == e or name.endswith(f".{e}") for e in endings)
    ]
    if not chosen:
        there = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, ADAPTABLE)})
        found = f"target_modules {', '.join(endings)} match no linear or convolution module"
        raise InvalidInput(found, f"one of {', '.join(there)}", "correct `target_modules`")
    return tuple(chosen)


def save_base(model: nn.Module, knobs: s.Model, shape: Shape, folder: Path) -> None:
    """Write weights (safetensors) and what is needed to build the model again."""
    if isinstance(model, PreTrainedModel):
        model.save_pretrained(folder)
    else:
        save_file(model.state_dict(), folder / "model.safetensors")
    record = {"model": s.content(knobs), "shape": vars(shape)}
    (folder / BASE_FILE).write_text(json.dumps(record, indent=1))


def load_base(knobs: s.Model, folder: Path) -> tuple[nn.Module, Shape]:
    """Read what `save_base` wrote; weights do not ask for gradients."""
    shape = Shape(**json.loads((folder / BASE_FILE).read_text())["shape"])
    if isinstance(knobs, s.ConvNet | s.Perceptron):
        model = build(knobs, shape)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    else:
        model = _pretrained(str(folder), shape)
    return model.eval().requires_grad_(False), shape


def _vit(knobs: s.Vit, shape: Shape) -> nn.Module:
    if shape.image_size % knobs.patch or knobs.width % knobs.heads:
        found = f"vit with patch {knobs.patch}, width {knobs.width}, heads {knobs.heads} on {shape.image_size} pixels"
        raise InvalidInput(found, "patch divides image_size, heads divide width", "change one of them")
    config = ViTConfig(
        hidden_size=knobs.width,
        num_hidden_layers=knobs.depth,
        num_attention_heads=knobs.heads,
        intermediate_size=2 * knobs.width,
        image_size=shape.image_size,
        patch_size=knobs.patch,
        num_channels=shape.channels,
        num_labels=shape.num_classes,  # pyright: ignore[reportCallIssue]
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",  # pyright: ignore[reportCallIssue]
    )
    return ViTForImageClassification(config)


def _resnet18(knobs: s.ResNet18, shape: Shape) -> nn.Module:
    config = ResNetConfig(
        num_channels=shape.channels,
        embedding_size=knobs.width,
        hidden_sizes=[knobs.width * 2**stage for stage in range(4)],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=shape.num_classes,  # pyright: ignore[reportCallIssue]
    )
    return ResNetForImageClassification(config)


def _pretrained(name: str, shape: Shape, revision: str | None = None) -> nn.Module:
    remedy = "name a folder with config.json and model.safetensors, or a hub id that can be reached"
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        _fits(config, shape, name)
        return AutoModelForImageClassification.from_pretrained(
            name,
            revision=revision,
            num_labels=shape.num_classes,
            trust_remote_code=False,
            use_safetensors=True,
            **({"attn_implementation": "eager"} if hasattr(config, "num_attention_heads") else {}),
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UnknownName(f"{name} can not be loaded as an image classifier ({reason})", "", remedy) from error


def _fits(config: Any, shape: Shape, name: str) -> None:
    wanted = {"num_channels": shape.channels, "image_size": shape.image_size}
    for knob, value in wanted.items():
        if (found := getattr(config, knob, value)) != value:
            raise InvalidInput(
                f"{name} takes {knob} {found}, the data set gives {value}", "the same", "change the data set"
            )
