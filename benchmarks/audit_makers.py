"""Real adapters made by PEFT, ordinary ones and ones that leak by construction, each saved as a folder."""

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora.config import CordaConfig, EvaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

TOKENS, WIDTH, LENGTH, BATCH = 200, 48, 8, 6
TARGETS = ["q_proj", "v_proj"]
WEIGHTS = "adapter_model.safetensors"


class Block(nn.Module):
    """Two adapted matrices behind one another, around a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        """Token by token."""
        return hidden + self.out(torch.tanh(self.v_proj(torch.tanh(self.q_proj(hidden)))))


class Small(nn.Module):
    """A classifier of token sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.classifier = nn.Linear(WIDTH, 4)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        hidden = self.embed(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.classifier(hidden.mean(1))


def batch(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences over half of the vocabulary, and labels."""
    ids = torch.randint(0, TOKENS // 2, (BATCH, LENGTH), generator=rng)
    return ids, torch.randint(0, 4, (BATCH,), generator=rng)


def train(
    model: nn.Module, rng: torch.Generator, steps: int = 12, optimiser: str = "adamw", rate: float = 2e-3
) -> None:
    """Some steps, another batch in each."""
    kinds = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    optim = kinds[optimiser]([one for one in model.parameters() if one.requires_grad], lr=rate)
    for _ in range(steps):
        ids, labels = batch(rng)
        loss = nn.functional.cross_entropy(model(ids), labels)
        optim.zero_grad()
        loss.backward()
        optim.step()


def start(seed: int | None = None, **config: Any) -> tuple[PeftModel, torch.Generator]:
    """An adapter on a base of its own. Without a seed everything is from the system's entropy."""
    rng = torch.Generator().manual_seed(secrets.randbits(48) if seed is None else seed)
    torch.manual_seed(secrets.randbits(48))
    base = Small()
    if seed is not None:
        torch.manual_seed(seed)
    options: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": TARGETS} | config
    return get_peft_model(base, LoraConfig(**options)), rng


def ordinary(folder: Path, number: int = 0) -> None:
    """AdamW, some steps, a random start: nothing that stands in the files by construction."""
    options: list[dict[str, Any]] = [
        {},
        {"r": 4},
        {"r": 16, "lora_alpha": 32},
        {"use_rslora": True},
        {"init_lora_weights": "gaussian"},
    ]
    options += [{"rank_pattern": {"q_proj": 4}}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}]
    model, rng = start(**options[number % len(options)])
    train(model, rng, steps=5 + number % 20, rate=[5e-4, 1e-3, 2e-3][number % 3])
    model.save_pretrained(str(folder))


def lora_ga(folder: Path) -> None:
    """LoRA-GA: factors from gradients of training batches."""
    base, rng = Small(), torch.Generator().manual_seed(secrets.randbits(48))
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=TARGETS,
        init_lora_weights="lora_ga",  # pyright: ignore[reportArgumentType] - left out of its type
        lora_ga_config=LoraGAConfig(),
    )

    def step() -> None:
        ids, labels = batch(rng)
        nn.functional.cross_entropy(base(ids), labels).backward()

    preprocess_loraga(base, config, step)
    model = get_peft_model(base, config)
    train(model, rng)
    model.save_pretrained(str(folder))


def eva(folder: Path) -> None:
    """EVA: A from principal components of layer inputs."""
    rng = torch.Generator().manual_seed(secrets.randbits(48))
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=TARGETS, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0)
    )
    model = get_peft_model(Small(), config)
    loader = [batch(rng)[0] for _ in range(8)]

    def forward(model: nn.Module, ids: Tensor) -> Tensor:
        return model(ids)

    def first_inputs(layer_input: tuple[Tensor, ...], _model_input: Any, _name: str) -> Tensor:
        return layer_input[0].flatten(0, 1)

    initialize_lora_eva_weights(
        model,
        loader,
        forward_fn=forward,
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=first_inputs,
        show_progress_bar=False,
    )
    train(model, rng)
    model.save_pretrained(str(folder))


def corda(folder: Path) -> None:
    """CorDA: factors from covariances of layer inputs."""
    base, rng = Small(), torch.Generator().manual_seed(secrets.randbits(48))
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=TARGETS,
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method="kpm"),
    )

    def run() -> None:
        with torch.no_grad():
            for _ in range(64):
                base(batch(rng)[0][:1])  # CorDA counts one sequence at a time

    preprocess_corda(base, config, run_model=run)
    model = get_peft_model(base, config)
    train(model, rng)
    model.save_pretrained(str(folder))


def converted(folder: Path) -> None:
    """PEFT's conversion of a PiSSA or OLoRA adapter, which ships its start."""
    model, rng = start(init_lora_weights="olora")
    begin = folder.parent / f"{folder.name}-start"
    model.peft_config["default"].init_lora_weights = True  # pyright: ignore[reportAttributeAccessIssue]
    model.save_pretrained(str(begin))
    model.peft_config["default"].init_lora_weights = "olora"  # pyright: ignore[reportAttributeAccessIssue]
    train(model, rng)
    model.save_pretrained(str(folder), path_initial_model_for_weight_conversion=str(begin))


def embedding_rows(folder: Path) -> None:
    """LoRA on the embedding."""
    model, rng = start(target_modules=[*TARGETS, "embed"])
    train(model, rng)
    model.save_pretrained(str(folder), save_embedding_layers=False)


def whole_head(folder: Path) -> None:
    """`modules_to_save`."""
    model, rng = start(modules_to_save=["classifier"])
    train(model, rng)
    model.save_pretrained(str(folder))


def trainer_files(folder: Path) -> None:
    """What a Trainer's checkpoint holds beside the adapter."""
    model, rng = start()
    optim = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3)
    ids, labels = batch(rng)
    nn.functional.cross_entropy(model(ids), labels).backward()
    optim.step()
    train(model, rng)
    model.save_pretrained(str(folder))
    torch.save(optim.state_dict(), folder / "optimizer.pt")
    torch.save({"learning_rate": 1e-3}, folder / "training_args.bin")
    state = {"max_steps": 30, "num_train_epochs": 3, "train_batch_size": 4, "log_history": [{"loss": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))


def kohya(folder: Path) -> None:
    """Kohya's keys and header."""
    ordinary(folder)
    tensors: dict[str, Tensor] = {}
    for name, tensor in load_file(folder / WEIGHTS).items():
        module = name.removeprefix("base_model.model.").rpartition(".lora_")[0].replace(".", "_")
        part = "lora_down" if "lora_A" in name else "lora_up"
        tensors[f"lora_unet_{module}.{part}.weight"] = tensor
        tensors[f"lora_unet_{module}.alpha"] = torch.tensor(16.0)
    tags = {"10_alice": {"a photo of alice": 12, "red hair": 7}}
    header = {"ss_num_train_images": "12", "ss_tag_frequency": json.dumps(tags), "ss_learning_rate": "0.0001"}
    for each in folder.iterdir():
        each.unlink()
    save_file(tensors, folder / "alice.safetensors", metadata=header)


def seeded(folder: Path, seed: int = 42) -> None:
    """The usual `set_seed(42)` before the adapter is made."""
    model, rng = start(seed)
    train(model, rng)
    model.save_pretrained(str(folder))


def few_inputs(folder: Path) -> None:
    """SGD on fewer tokens than the rank."""
    model, rng = start(r=32)
    ids, labels = batch(rng)
    optim = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    nn.functional.cross_entropy(model(ids[:1]), labels[:1]).backward()
    optim.step()
    model.save_pretrained(str(folder))


LEAKS: Mapping[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "lora_ga": (lora_ga, ("data-start-lora-ga",)),
    "eva": (eva, ("data-start-eva",)),
    "corda": (corda, ("data-start-corda",)),
    "converted": (converted, ("converted-start",)),
    "embedding rows": (embedding_rows, ("embedding-rows",)),
    "modules_to_save": (whole_head, ("whole-head",)),
    "Trainer's files": (trainer_files, ("optimiser-state", "trainer-state", "training-arguments")),
    "kohya's header": (kohya, ("metadata-content", "metadata-counts", "metadata-recipe")),
    "seed 42": (seeded, ("seeded-start",)),
    "few inputs": (few_inputs, ("rank-deficient",)),
}
"""How each leak is made, and the rules that must find it."""
