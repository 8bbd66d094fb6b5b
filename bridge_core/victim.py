"""The victim: a base model fine-tuned by PEFT on a secret under a recipe, saved as a real adapter folder."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch
from jaxtyping import Float, Int64
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from bridge_core import spec as s
from bridge_core.defence.release import defend_release
from bridge_core.defence.training import Take, stepped, taker
from bridge_core.errors import Diverged, InvalidInput
from bridge_core.gradients import weight_matrix
from bridge_core.lora import as_matrix
from bridge_core.models import adapted_modules, logits

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PEFT_INIT = {"default": True, "random": False}


@dataclass(frozen=True)
class Secret:
    """What the adapter was trained on, and the full gradient of its training: sealed."""

    images: Float[Tensor, "n channels height width"]
    labels: Int64[Tensor, "n"]
    gradients: dict[str, Float[Tensor, "out in"]]
    """Mean over the steps of the full gradient of W0, from the victim's own backward passes."""
    losses: tuple[float, ...]
    """Training loss at each step."""


def fresh_adapter(base: nn.Module, endings: tuple[str, ...], rank: int, lora: s.Lora, seed: int, folder: Path) -> None:
    """Let PEFT initialise a LoRA adapter on a copy of `base` and save it into `folder`.

    Raises `InvalidInput` where no module matches or the rank is larger than a layer.
    """
    modules = adapted_modules(base, endings)
    check_rank(base, modules, rank)
    config = LoraConfig(
        r=rank,
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
        use_rslora=lora.use_rslora,
        target_modules=list(modules),
        fan_in_fan_out=all(isinstance(base.get_submodule(name), Conv1D) for name in modules),
        init_lora_weights=PEFT_INIT.get(lora.init_lora_weights, lora.init_lora_weights),  # pyright: ignore[reportArgumentType]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(copy.deepcopy(base), config)  # pyright: ignore[reportArgumentType]
    adapted.save_pretrained(str(folder))


def check_rank(base: nn.Module, modules: tuple[str, ...], rank: int) -> None:
    """Raise `InvalidInput` where `rank` is larger than a side of an adapted weight."""
    for name in modules:
        out, width = weight_matrix(base.get_submodule(name))
        if rank > min(out, width):
            remedy = "lower the rank, exclude the cell, or set `target_modules`"
            raise InvalidInput(f"rank {rank} on {name}, a {out} x {width} matrix", f"at most {min(out, width)}", remedy)


def train_victim(
    base: nn.Module,
    adapter: Path,
    images: Tensor,
    labels: Tensor,
    recipe: s.Recipe,
    folder: Path,
    defence: s.Defence | None = None,
    seed: int = 0,
) -> Secret:
    """Fine-tune the adapter of folder `adapter` on secret images and save it into `folder`, as `fine_tune` does.

    A `defence` changes how steps are taken, or what is saved; `seed` is that of its noise.
    """

    def loss_at(model: nn.Module, step: int) -> Tensor:
        index = batch_index(recipe, step, len(labels))
        return F.cross_entropy(logits(model, images[index]), labels[index])

    defence = defence or s.NoDefence()
    take = taker(defence, recipe, images, labels, seed)
    gradients, losses = fine_tune(base, adapter, loss_at, recipe, folder, take=take)
    defend_release(folder, base, defence)
    return Secret(images, labels, gradients, losses)


def batch_index(recipe: s.Recipe, step: int, num_samples: int) -> Int64[Tensor, "b"]:
    """The samples of a step: batches follow one another through the training set, round and round."""
    return torch.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size) % num_samples


def fine_tune(
    base: nn.Module,
    adapter: Path,
    loss_at: Callable[[nn.Module, int], Tensor],
    recipe: s.Recipe,
    folder: Path,
    sealed: tuple[str, ...] = ("",),
    take: Take | None = None,
) -> tuple[dict[str, Float[Tensor, "out in"]], tuple[float, ...]]:
    """Train the adapter of folder `adapter` on `loss_at(model, step)`; save it into `folder` in the recipe's format.

    `take`, where given, takes the steps in place of the plain optimiser: it returns a step's loss.
    Returns the full gradient of each adapted W0 whose name begins with one of `sealed`, its mean over the steps, and
    the loss at each step. `base` is left as it is. Raises `Diverged` when the loss is no longer finite.
    """
    model = PeftModel.from_pretrained(copy.deepcopy(base), str(adapter), is_trainable=True)  # pyright: ignore[reportArgumentType]
    model.eval()
    weights = {name: w for name, w in _base_weights(model).items() if name.startswith(sealed)}
    optimiser = _optimiser(recipe.optimiser, [p for p in model.parameters() if p.requires_grad])
    for weight in weights.values():
        weight.requires_grad_(True)
    take = take or (lambda model, optimiser, step: stepped(loss_at(model, step), optimiser))
    losses = [take(model, optimiser, step) for step in range(recipe.steps)]
    if not all(torch.isfinite(p).all() for group in optimiser.param_groups for p in group["params"]):
        raise Diverged("the adapter's weights are no longer finite", "finite weights", "lower the learning rate")
    gradients = {
        name: as_matrix(w.grad, transposed=isinstance(base.get_submodule(name), Conv1D)) / recipe.steps
        for name, w in weights.items()
        if w.grad is not None
    }
    for weight in weights.values():
        weight.requires_grad_(False)
    _save(model, recipe.save_dtype, folder)
    return gradients, tuple(losses)


def _base_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    marker = ".base_layer.weight"
    named = {n: p for n, p in model.named_parameters() if n.endswith(marker)}
    return {n.removeprefix("base_model.model.").removesuffix(marker): p for n, p in named.items()}


def _optimiser(optimiser: s.Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    match optimiser:
        case s.Sgd():
            return torch.optim.SGD(
                parameters, optimiser.learning_rate, momentum=optimiser.momentum, weight_decay=optimiser.weight_decay
            )
        case s.AdamW():
            return torch.optim.AdamW(
                parameters,
                optimiser.learning_rate,
                (optimiser.beta1, optimiser.beta2),
                optimiser.epsilon,
                optimiser.weight_decay,
            )
        case _:
            assert_never(optimiser)


def _save(model: PeftModel, dtype: str, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(DTYPES[dtype])
    model.save_pretrained(str(folder))
