"""The victim of text: a language model fine-tuned by PEFT on secret sentences, saved as a real adapter folder."""

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.text.batches import Batch, loss_of
from bridge_core.text.models import Language
from bridge_core.victim import batch_index, fine_tune

SEALED_BLOCKS = 3
"""Full gradients are kept of the first blocks alone: they are as large as the model's weights."""


def train_text_victim(
    language: Language, adapter: Path, secret: Batch, recipe: s.Recipe, folder: Path
) -> tuple[dict[str, Float[Tensor, "out in"]], tuple[float, ...]]:
    """Fine-tune the adapter of folder `adapter` on the sentences and save it into `folder`, as `fine_tune` does.

    Returns the full gradients of the adapted modules in the first blocks, and the loss at each step.
    """

    def loss_at(model: nn.Module, step: int) -> Tensor:
        return loss_of(language, model, secret[batch_index(recipe, step, len(secret))])

    first = range(min(SEALED_BLOCKS, len(language.blocks)))
    sealed = tuple(f"{language.block_name(block)}." for block in first)
    return fine_tune(language.model, adapter, loss_at, recipe, folder, sealed)
