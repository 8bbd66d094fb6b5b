"""Per-sample full gradients and their LoRA measurements, for a whole batch in one forward and one backward pass.

At B = 0 the adapted model's forward is the base model's. The backward pass then gives, for every adapted module, the
inputs X (tokens x in) and the output gradients D (tokens x out) of each sample; the full gradient is G = D^T X and the
measurement that a LoRA step reveals is M = G A^T = D^T (X A^T). A convolution is the same with X its unfolded patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from bridge_core.errors import InvalidInput
from bridge_core.models import logits


@dataclass(frozen=True)
class Tap:
    """Inputs and output gradients of one module, per example (an example is one or several images of a step)."""

    inputs: Float[Tensor, "n tokens in"]
    output_gradients: Float[Tensor, "n tokens out"]

    def gradient(self) -> Float[Tensor, "n out in"]:
        """Full gradient G = D^T X."""
        return self.output_gradients.mT @ self.inputs

    def measurement(self, a: Float[Tensor, "*n rank in"]) -> Float[Tensor, "n out rank"]:
        """What a LoRA step from B = 0 reveals: M = G A^T, without forming G."""
        return self.output_gradients.mT @ (self.inputs @ a.mT)

    def grouped(self, size: int) -> "Tap":
        """Mean gradient of every `size` samples that follow one another."""
        if size == 1:
            return self
        n, tokens, _ = self.inputs.shape
        inputs = self.inputs.reshape(n // size, size * tokens, -1)
        return Tap(inputs, self.output_gradients.reshape(n // size, size * tokens, -1) / size)


def tap(
    model: nn.Module,
    images: Float[Tensor, "n channels height width"],
    labels: Int64[Tensor, "n"],
    modules: Sequence[str],
    *,
    create_graph: bool = False,
) -> dict[str, Tap]:
    """Inputs and output gradients of `modules` under cross-entropy, one sample apart from the other.

    With `create_graph` the result can be differentiated with respect to `images`. The model's weights are not touched.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def listen(name: str):
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_()
            seen[name] = (inputs[0], output)
            return output

        return hook

    layers = {name: model.get_submodule(name) for name in modules}
    handles = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    try:
        with torch.enable_grad():
            loss = F.cross_entropy(logits(model, images), labels, reduction="sum")
            outputs = [seen[name][1] for name in modules]
            back = torch.autograd.grad(loss, outputs, create_graph=create_graph)
    finally:
        for handle in handles:
            handle.remove()
    pairs = zip(modules, back, strict=True)
    taps = {name: _flatten(layers[name], seen[name][0], gradient) for name, gradient in pairs}
    return taps if create_graph else {name: Tap(t.inputs.detach(), t.output_gradients) for name, t in taps.items()}


def measurements(taps: Mapping[str, Tap], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`M = G A^T` of every module (n x out x rank)."""
    return {name: taps[name].measurement(a) for name, a in factors.items()}


def gradients(taps: Mapping[str, Tap]) -> dict[str, Tensor]:
    """`G` of every module (n x out x in)."""
    return {name: one.gradient() for name, one in taps.items()}


def weight_matrix(module: nn.Module) -> tuple[int, int]:
    """(out, in) of the weight as a matrix; a convolution's patches are flattened, a `Conv1D`'s weight is (in, out).

    Raises `InvalidInput` for a convolution that is grouped, dilated, or padded by name or with anything but zeros:
    the weight of the first is no single matrix, PEFT does not adapt the second, and the others unfold differently.
    """
    match module:
        case nn.Linear():
            return module.out_features, module.in_features
        case Conv1D():
            return module.nf, module.nx
        case nn.Conv2d() if _is_plain(module):
            return module.out_channels, module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        case _:
            raise InvalidInput(f"a {type(module).__name__} can not be adapted here", "Linear, Conv1D, or plain Conv2d")


def _is_plain(module: nn.Conv2d) -> bool:
    numeric = not isinstance(module.padding, str) and module.padding_mode == "zeros"
    return numeric and module.groups == 1 and module.dilation == (1, 1)


def _flatten(module: nn.Module, inputs: Tensor, gradient: Tensor) -> Tap:
    if isinstance(module, nn.Conv2d):
        patches = F.unfold(
            inputs,
            module.kernel_size,
            module.dilation,
            module.padding,  # pyright: ignore[reportArgumentType] - a name is refused by `weight_matrix`
            module.stride,
        )
        return Tap(patches.mT, gradient.flatten(2).mT)
    n = inputs.shape[0]
    return Tap(inputs.reshape(n, -1, inputs.shape[-1]), gradient.reshape(n, -1, gradient.shape[-1]))
