"""The doors of the science: which phases a cell needs, and one function that runs a phase. Imports no torch by itself.

    proxy ─┬─ base ─┬─ statistics ──────────┬─ decoder, start ─┐
           │        ├─ adapter ─┬───────────┘                  │
    private┴────────┴───────────┴─ victim ─── publish ─────────┴─ attack ─── restore ─── score (opens victim)
    proxy ─── diffusion ─────────────────────────────────────────────────────┘ (with a prior alone)

`victim` holds the secret. `publish` copies out of it what the world sees: the adapter, and what the suite says the
attacker is told. `attack` is given `publish`, never `victim`; only `score` opens the secret again.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never, runtime_checkable

from bridge_core import spec as s


@runtime_checkable
class Progress(Protocol):
    """Told by a phase as it goes: `progress(step, total, loss=0.1)`."""

    def __call__(self, step: int, total: int, **metrics: float) -> None:
        """Tell that `step` of `total` is done."""
        ...


@dataclass(frozen=True)
class Stage:
    """A phase of one cell: its name, its knobs, and its inputs (role -> name of the stage that makes it)."""

    name: str
    spec: s.PhaseSpec
    inputs: Mapping[str, str]


def stages(cell: s.Plannable) -> tuple[Stage, ...]:
    """The phases that `cell` needs, in an order in which every input comes before its use."""
    if isinstance(cell, s.ZooCell):
        return _zoo_stages(cell)
    return _text_stages(cell) if isinstance(cell, s.TextCell) else _image_stages(cell)


def _image_stages(cell: s.Cell) -> tuple[Stage, ...]:
    dataset, recipe = cell.dataset, cell.recipe
    side, channels = dataset.image_size, dataset.channels
    cheat = isinstance(cell.bridge, s.Oracle)
    told = s.PublishPhase(recipe=recipe, knowledge=cell.knowledge, exact_gradient=cheat, defence=cell.defence)
    attack_inputs = {"base": "base", "publish": "publish"}
    chain = [
        Stage("proxy", s.ProxyPhase(source=dataset.proxy, image_size=side, channels=channels), {}),
        Stage(
            "private",
            s.PrivatePhase(source=dataset.private, image_size=side, channels=channels),
            {"proxy": "proxy"},
        ),
        Stage("base", s.BasePhase(model=cell.model, num_classes=dataset.num_classes), {"proxy": "proxy"}),
        Stage("statistics", s.StatisticsPhase(model=cell.model, lora=recipe.lora), {"base": "base", "proxy": "proxy"}),
        Stage(
            "adapter",
            s.AdapterPhase(model=cell.model, rank=cell.rank, lora=recipe.lora, seed=cell.seed),
            {"base": "base"},
        ),
        Stage(
            "victim",
            s.VictimPhase(
                model=cell.model,
                recipe=recipe,
                seed=cell.seed,
                num_secrets=cell.num_secrets,
                defence=cell.defence,
            ),
            {"base": "base", "adapter": "adapter", "private": "private"},
        ),
        Stage("publish", told, {"victim": "victim"}),
    ]
    measured = "adapter" if recipe.releases_initial_a and s.keeps_initial_a(cell.defence) else "publish"
    if isinstance(cell.bridge, s.Projection | s.RowMmse | s.Ridge | s.Mlp | s.Unet):
        inputs = {"base": "base", "proxy": "proxy", "statistics": "statistics", "adapter": measured}
        chain.append(
            Stage(
                "decoder", s.DecoderPhase(bridge=cell.bridge, model=cell.model, num_samples=recipe.num_samples), inputs
            )
        )
        attack_inputs["decoder"] = "decoder"
    if isinstance(cell.inversion, s.GaussNewton):
        inputs = {"base": "base", "proxy": "proxy", "adapter": measured}
        chain.append(Stage("start", _start(cell, cell.inversion.start), inputs))
        attack_inputs["start"] = "start"
    prior_inputs = {} if isinstance(cell.prior, s.NoPrior) else {"proxy": "proxy"}
    if isinstance(cell.prior, s.Sds | s.Guide) and isinstance(cell.prior.diffusion, s.EmbeddedDiffusion):
        chain.append(Stage("diffusion", s.DiffusionPhase(diffusion=cell.prior.diffusion), {"proxy": "proxy"}))
        prior_inputs["diffusion"] = "diffusion"
    chain += _attack(cell, attack_inputs, prior_inputs)
    score_inputs = {"attack": chain[-1].name, "victim": "victim", "base": "base", "statistics": "statistics"}
    return (*chain, Stage("score", s.ScorePhase(model=cell.model), score_inputs))


def _attack(cell: s.Cell, attack_inputs: dict[str, str], prior_inputs: dict[str, str]) -> list[Stage]:
    """Gauss-Newton searches without a prior, which is brought in at its end: all priors share one search."""
    search = s.AttackPhase(
        model=cell.model, bridge=cell.bridge, inversion=cell.inversion, prior=cell.prior, seed=cell.seed
    )
    if isinstance(cell.prior, s.NoPrior) or not isinstance(cell.inversion, s.GaussNewton):
        return [Stage("attack", search, attack_inputs | prior_inputs)]
    search = search.model_copy(update={"prior": s.NoPrior()})
    restore = s.RestorePhase(search=search, prior=cell.prior)
    return [
        Stage("attack", search, attack_inputs),
        Stage("restore", restore, attack_inputs | prior_inputs | {"attack": "attack"}),
    ]


def _start(cell: s.Cell, knobs: s.Amortised) -> s.StartPhase:
    optimiser, known = cell.recipe.optimiser, cell.knowledge.optimiser == "given" and cell.recipe.steps == 1
    lossy = optimiser if isinstance(optimiser, s.AdamW) and known else None
    return s.StartPhase(model=cell.model, start=knobs, num_samples=cell.recipe.num_samples, optimiser=lossy)


def _text_stages(cell: s.TextCell) -> tuple[Stage, ...]:
    data, recipe, model = cell.dataset, cell.recipe, cell.model
    cheat = isinstance(cell.bridge, s.Oracle)
    base = {"base": "base"}
    attack_inputs = {"base": "base", "publish": "publish", "prior": "prior", "proxy": "proxy"}
    score_inputs = {"attack": "attack", "victim": "victim", "base": "base", "prior": "prior"}
    chain = [
        Stage("proxy", s.TextProxyPhase(source=data.proxy, num_classes=data.num_classes), {}),
        Stage("private", s.TextPrivatePhase(source=data.private, num_classes=data.num_classes), {"proxy": "proxy"}),
        Stage("base", s.TextBasePhase(model=model, num_classes=data.num_classes), {"proxy": "proxy"}),
        Stage("prior", s.TextPriorPhase(dataset=data), {"base": "base", "proxy": "proxy"}),
        Stage("adapter", s.TextAdapterPhase(model=model, rank=cell.rank, lora=recipe.lora, seed=cell.seed), base),
        Stage(
            "victim",
            s.TextVictimPhase(dataset=data, recipe=recipe, seed=cell.seed, num_secrets=cell.num_secrets),
            {"base": "base", "adapter": "adapter", "private": "private"},
        ),
        Stage(
            "publish",
            s.PublishPhase(recipe=recipe, knowledge=cell.knowledge, exact_gradient=cheat),
            {"victim": "victim"},
        ),
    ]
    if not isinstance(cell.bridge, s.Oracle | s.Direct):
        chain += _text_decoder(cell)
        attack_inputs["decoder"] = "decoder"
        score_inputs["statistics"] = "statistics"
    chain += [
        Stage(
            "attack",
            s.TextAttackPhase(dataset=data, bridge=cell.bridge, inversion=cell.inversion, seed=cell.seed),
            attack_inputs,
        ),
        Stage("score", s.TextScorePhase(dataset=data), score_inputs),
    ]
    return tuple(chain)


def _text_decoder(cell: s.TextCell) -> list[Stage]:
    data, recipe = cell.dataset, cell.recipe
    inputs = {"base": "base", "proxy": "proxy"}
    measured = {"statistics": "statistics", "adapter": "adapter" if recipe.releases_initial_a else "publish"}
    statistics = s.TextStatisticsPhase(model=cell.model, dataset=data, lora=recipe.lora)
    decoder = s.TextDecoderPhase(bridge=cell.bridge, dataset=data, num_samples=recipe.num_samples)
    return [Stage("statistics", statistics, inputs), Stage("decoder", decoder, inputs | measured)]


def _zoo_stages(cell: s.ZooCell) -> tuple[Stage, ...]:
    side, channels, count = cell.image_size, cell.channels, cell.micro_datasets
    chain = [
        Stage("proxy", s.ProxyPhase(source=cell.source, image_size=side, channels=channels), {}),
        Stage("base", s.BasePhase(model=cell.model, num_classes=None), {"proxy": "proxy"}),
    ]
    parts = [(first, min(first + cell.per_task, count)) for first in range(0, count, cell.per_task)]
    chain += [Stage(_part_name(first), _members(cell, first, last), _PUBLIC) for first, last in parts]
    made = {_part_name(first): _part_name(first) for first, _ in parts}
    zoo = s.ZooPhase(recipe=cell.recipe, full_batch=cell.full_batch, seed=cell.seed)
    return (*chain, Stage("zoo", zoo, made))


_PUBLIC = {"base": "base", "proxy": "proxy"}


def _part_name(first: int) -> str:
    return f"members-{first:05d}"


def _members(cell: s.ZooCell, first: int, last: int) -> s.ZooMembersPhase:
    return s.ZooMembersPhase(
        model=cell.model,
        rank=cell.rank,
        recipe=cell.recipe,
        full_batch=cell.full_batch,
        sizes=cell.sizes,
        micro_datasets=cell.micro_datasets,
        first=first,
        last=last,
        seed=cell.seed,
    )


def run(spec: s.PhaseSpec, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    """Run one phase: read the folders in `inputs`, write its files and `facts.parquet` into the folder `out`.

    Raises `BridgeError` for what a user can cause; anything else is a bug of ours.
    """
    _quiet_libraries()
    match spec:
        case s.ProxyPhase():
            from bridge_core.phases import proxy

            proxy.run(spec, out)
        case s.PrivatePhase():
            from bridge_core.phases import private

            private.run(spec, inputs["proxy"], out)
        case s.BasePhase():
            from bridge_core.phases import base

            base.run(spec, inputs["proxy"], out, progress)
        case s.StatisticsPhase():
            from bridge_core.phases import statistics

            statistics.run(spec, inputs["base"], inputs["proxy"], out, progress)
        case s.AdapterPhase():
            from bridge_core.phases import adapter

            adapter.run(spec, inputs["base"], out)
        case s.VictimPhase():
            from bridge_core.phases import victim

            victim.run(spec, inputs, out, progress)
        case s.PublishPhase():
            from bridge_core.phases import publish

            publish.run(spec, inputs["victim"], out)
        case s.DecoderPhase():
            from bridge_core.phases import decoder

            decoder.run(spec, inputs, out, progress)
        case s.StartPhase():
            from bridge_core.phases import start

            start.run(spec, inputs, out, progress)
        case s.DiffusionPhase():
            from bridge_core.phases import diffusion

            diffusion.run(spec, inputs["proxy"], out, progress)
        case s.RestorePhase():
            from bridge_core.phases import restore

            restore.run(spec, inputs, out, progress)
        case s.AttackPhase():
            from bridge_core.phases import attack

            attack.run(spec, inputs, out, progress)
        case s.ScorePhase():
            from bridge_core.phases import score

            score.run(spec, inputs, out)
        case s.ZooMembersPhase():
            from bridge_core.phases import zoo_members

            zoo_members.run(spec, inputs, out, progress)
        case s.ZooPhase():
            from bridge_core.phases import zoo

            zoo.run(spec, inputs, out, progress)
        case _:
            _run_text(spec, inputs, out, progress)


def _run_text(spec: s.TextPhaseSpec, inputs: Mapping[str, Path], out: Path, progress: Progress) -> None:
    match spec:
        case s.TextProxyPhase():
            from bridge_core.phases import text_proxy

            text_proxy.run(spec, out)
        case s.TextPrivatePhase():
            from bridge_core.phases import text_private

            text_private.run(spec, inputs["proxy"], out)
        case s.TextBasePhase():
            from bridge_core.phases import text_base

            text_base.run(spec, inputs["proxy"], out)
        case s.TextPriorPhase():
            from bridge_core.phases import text_prior

            text_prior.run(spec, inputs["base"], inputs["proxy"], out)
        case s.TextStatisticsPhase():
            from bridge_core.phases import text_statistics

            text_statistics.run(spec, inputs["base"], inputs["proxy"], out, progress)
        case s.TextAdapterPhase():
            from bridge_core.phases import text_adapter

            text_adapter.run(spec, inputs["base"], out)
        case s.TextVictimPhase():
            from bridge_core.phases import text_victim

            text_victim.run(spec, inputs, out, progress)
        case s.TextDecoderPhase():
            from bridge_core.phases import text_decoder

            text_decoder.run(spec, inputs, out, progress)
        case s.TextAttackPhase():
            from bridge_core.phases import text_attack

            text_attack.run(spec, inputs, out, progress)
        case s.TextScorePhase():
            from bridge_core.phases import text_score

            text_score.run(spec, inputs, out)
        case _:
            assert_never(spec)


def _quiet_libraries() -> None:
    """Progress is told by `progress` and faults by errors; the libraries' own bars and retries would tear the log."""
    from datasets.utils import logging as data_logging
    from transformers.utils import logging as model_logging

    data_logging.disable_progress_bar()
    model_logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def check(cells: tuple[s.Plannable, ...]) -> None:
    """Refuse what can be known to fail before anything is written: missing data, no matching module, too large a rank.

    Raises `InvalidInput` with found, wanted and remedy. Imports torch.
    """
    _quiet_libraries()
    if images := [cell for cell in cells if isinstance(cell, s.Cell)]:
        from bridge_core.phases import preflight

        preflight.run(images)
    if text := [cell for cell in cells if isinstance(cell, s.TextCell)]:
        from bridge_core.phases import text_preflight

        text_preflight.run(text)
