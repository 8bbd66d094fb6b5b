"""Phases: what a task's key hashes."""

from typing import Literal

from pydantic import Field

from bridge_core.spec.attack import Amortised, Bridge, Inversion, Knowledge
from bridge_core.spec.base import Spec
from bridge_core.spec.data import Source
from bridge_core.spec.defence import Defence, NoDefence, is_undefended
from bridge_core.spec.models import Model
from bridge_core.spec.prior import EmbeddedDiffusion, Prior
from bridge_core.spec.recipe import AdamW, Lora, Recipe
from bridge_core.spec.text import Corpus, TextBridge, TextInversion, TextModel, TextSource
from bridge_core.spec.zoo import ZooMembersPhase, ZooPhase


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
    defence: Defence = Field(default=NoDefence(), exclude_if=is_undefended)


class PublishPhase(Spec):
    """What the world sees of the victims, and what the attacker is told."""

    phase: Literal["publish"] = "publish"
    recipe: Recipe
    knowledge: Knowledge
    exact_gradient: bool
    defence: Defence = Field(default=NoDefence(), exclude_if=is_undefended)


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
    num_samples: int
    """Images of a simulated step."""
    optimiser: AdamW | None = None
    """The step that the simulated measurements go through and back, with what it loses; None where it loses nothing."""


class DiffusionPhase(Spec):
    """The embedded diffusion model, trained on the proxy part."""

    phase: Literal["diffusion"] = "diffusion"
    diffusion: EmbeddedDiffusion


class AttackPhase(Spec):
    """From release to reconstruction."""

    phase: Literal["attack"] = "attack"
    model: Model
    bridge: Bridge
    inversion: Inversion
    prior: Prior
    seed: int


class RestorePhase(Spec):
    """A prior brought in where Gauss-Newton's measurements leave room."""

    phase: Literal["restore"] = "restore"
    search: AttackPhase
    """What has searched before, without a prior."""
    prior: Prior


class ScorePhase(Spec):
    """Reconstruction against truth, with the controls."""

    phase: Literal["score"] = "score"
    model: Model


class TextProxyPhase(Spec):
    """The public part of a source of sentences."""

    phase: Literal["text_proxy"] = "text_proxy"
    source: TextSource
    num_classes: int


class TextPrivatePhase(Spec):
    """The private part of a source of sentences; shares none with the proxy part."""

    phase: Literal["text_private"] = "text_private"
    source: TextSource
    num_classes: int


class TextBasePhase(Spec):
    """The base language model with its tokenizer."""

    phase: Literal["text_base"] = "text_base"
    model: TextModel
    num_classes: int


class TextPriorPhase(Spec):
    """What the proxy part says of token sequences: counts of tokens and of pairs."""

    phase: Literal["text_prior"] = "text_prior"
    dataset: Corpus


class TextStatisticsPhase(Spec):
    """Mean gradient and second moment of gradient rows over proxy sentences."""

    phase: Literal["text_statistics"] = "text_statistics"
    model: TextModel
    dataset: Corpus
    lora: Lora


class TextAdapterPhase(Spec):
    """The fresh adapter of a language model, as PEFT initialises it."""

    phase: Literal["text_adapter"] = "text_adapter"
    model: TextModel
    rank: int
    lora: Lora
    seed: int


class TextVictimPhase(Spec):
    """Adapters trained on secret sentences, with the sentences."""

    phase: Literal["text_victim"] = "text_victim"
    dataset: Corpus
    recipe: Recipe
    seed: int
    num_secrets: int


class TextDecoderPhase(Spec):
    """A bridge fitted to simulated steps on proxy sentences, with its cosine on held-out ones."""

    phase: Literal["text_decoder"] = "text_decoder"
    bridge: TextBridge
    dataset: Corpus
    num_samples: int
    """Sentences of a simulated step: the N that the attacker is told."""


class TextAttackPhase(Spec):
    """From release to sentences."""

    phase: Literal["text_attack"] = "text_attack"
    dataset: Corpus
    bridge: TextBridge
    inversion: TextInversion
    seed: int


class TextScorePhase(Spec):
    """Sentences against truth, with the controls."""

    phase: Literal["text_score"] = "text_score"
    dataset: Corpus


ImagePhaseSpec = (
    ProxyPhase
    | PrivatePhase
    | BasePhase
    | StatisticsPhase
    | AdapterPhase
    | VictimPhase
    | PublishPhase
    | DecoderPhase
    | StartPhase
    | DiffusionPhase
    | AttackPhase
    | RestorePhase
    | ScorePhase
)
TextPhaseSpec = (
    TextProxyPhase
    | TextPrivatePhase
    | TextBasePhase
    | TextPriorPhase
    | TextStatisticsPhase
    | TextAdapterPhase
    | TextVictimPhase
    | TextDecoderPhase
    | TextAttackPhase
    | TextScorePhase
)
ZooPhaseSpec = ZooMembersPhase | ZooPhase
PhaseSpec = ImagePhaseSpec | TextPhaseSpec | ZooPhaseSpec
