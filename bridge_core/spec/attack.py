"""The attack: bridges, inversions, and what the attacker is told."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from bridge_core.spec.base import Axis, Spec, kind_alone

Augment = Literal["none", "labels", "poses", "broad"]
"""What is done to proxy images before they are simulated: nothing; a random label for every second one, since a secret
may be one that the base model mistakes; a random turn, shift and zoom of each; or, for secrets unlike the proxy, poses,
mixtures, inversions, edges, thresholds and random labels as well. Sentences stand as they are."""


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
    augment: Augment = "poses"
    inputs: Literal["module", "all"] = "module"
    """What the regression of a module sees: its own measurement, or the leading components of all modules'."""
    components: int = Field(default=2048, ge=1)
    """With `inputs: all`: how many components of the stacked measurements are kept."""


class Mlp(Axis):
    """The thesis's decoder: a multi-layer perceptron a module, residual on top of the row-wise estimate."""

    kind: Literal["mlp"] = "mlp"
    num_pairs: int = Field(default=50_000, ge=16)
    hidden: int = Field(default=512, ge=1)
    """Units of each of the two hidden layers."""
    loss: Literal["cosine", "mse"] = "cosine"
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1)
    augment: Augment = "poses"


class Unet(Axis):
    """A U-Net (Ronneberger et al., 2015) that cleans all row-wise estimates, the channels of one picture."""

    kind: Literal["unet"] = "unet"
    num_pairs: int = Field(default=50_000, ge=16)
    width: int = Field(default=16, ge=1)
    """Channels of the first level; doubled at each of two further levels."""
    loss: Literal["cosine", "mse"] = "cosine"
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=64, ge=1)
    augment: Augment = "poses"


class Direct(Axis):
    """No decoder: the inversion matches the measurements M = G A^T themselves."""

    kind: Literal["direct"] = "direct"


AnyBridge = Annotated[Oracle | Projection | RowMmse | Ridge | Mlp | Unet | Direct, Field(discriminator="kind")]
Bridge = Annotated[AnyBridge, BeforeValidator(kind_alone)]


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
    augment: Augment = "poses"
    cleaner_pairs: int = Field(default=0, ge=0)
    """Corrupted proxy images that the cleaner of stalled attempts is trained on; 0 for none."""


class GaussNewton(Axis):
    """Iteratively regularised Gauss-Newton from an amortised start (Bakushinsky, 1992)."""

    kind: Literal["gauss_newton"] = "gauss_newton"
    iterations: int = Field(default=40, ge=1)
    """Jacobians of one attempt, at most."""
    restarts: int = Field(default=8, ge=1)
    """Attempts: the first cools fast, the others as `cooling` says. With a cleaner each starts from what it makes of
    the last one's end; without, the second from the same start, further ones from random errors as well."""
    cooling: float = Field(default=0.5, gt=0, lt=1)
    """Factor of the regularisation from step to step, squared after a full step."""
    solver: Literal["auto", "dense", "cg"] = "auto"
    """Normal matrix in float64, or conjugate gradients without a matrix; `auto`: the first up to 4,096 unknowns."""
    decoded: Literal["consistent", "alone"] = "alone"
    """Of a bridge that decodes: `consistent` replaces what the decoded gradient says in the row space of A by what was
    measured there, and weighs the rest by the decoder's error; `alone` matches the decoded gradient."""
    box: float = Field(default=0.0, ge=0)
    """Weight of a residual for leaving [0, 1], relative to the misfit: it fades as the misfit does."""
    start: Amortised = Amortised()


ImageInversions = Dlg | InvertingGradients | GaussNewton
AnyInversion = Annotated[ImageInversions, Field(discriminator="kind")]
Inversion = Annotated[AnyInversion, BeforeValidator(kind_alone)]


class Knowledge(Axis):
    """What the attacker is told besides the release, the base model and the proxy data."""

    secret_labels: Literal["given", "searched"] = "given"
    """`searched`: every class is tried, the one with the lowest misfit is kept (one image a secret)."""
    optimiser: Literal["given", "guessed"] = "given"
    """`guessed`: kind and learning rate are told from the adapter alone, as are the steps."""
    num_samples: Literal["given"] = "given"
