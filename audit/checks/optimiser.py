"""What the factors tell of the optimiser, and where B's rank is below the adapter's: the conditions of attacks."""

import math
from collections.abc import Iterator

import torch

from audit.checks.beginnings import FROM_DATA, balanced
from audit.checks.files import MOST_SHOWN
from audit.folder import shown
from audit.report import Finding, Severity
from audit.subject import Subject
from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.guess import FLOAT32_STEP, MANTISSAS, Guess, guess_recipe

NEARLY = 0.98
"""Of a round learning rate: how near max |B| of one AdamW step is taken to lie."""
NOISE = "train for more steps on more data with AdamW, or with noise (DP-SGD); rounding alone does not hide it"


def findings(subject: Subject) -> Iterator[Finding]:
    """The recipe as guessed, and modules that saw fewer independent inputs than the rank could hold."""
    guess = recipe_of(subject)
    if guess is None:
        if subject.modules and not any(row.norm_b for row in subject.modules):
            yield _untrained(subject)
        return
    yield _fingerprint(subject, guess)
    low = [row for row in subject.modules if 0 < row.rank_of_b < row.rank]
    if low and low_rank_tells(subject) and isinstance(guess.recipe.optimiser, s.Sgd):
        largest = max(row.rank_of_b for row in low)
        yield Finding(
            rule="rank-deficient",
            title=f"B has rank {largest} at most in {len(low)} modules: few inputs were seen, and they leave a proof",
            severity=Severity.HIGH,
            reveals="the number of independent training inputs (tokens, patches), and a test that tells each of them "
            "from a stranger: the span certificate",
            evidence=tuple(f"{shown(row.name, 80)}: rank of B {row.rank_of_b} of {row.rank}" for row in low[:5]),
            where=tuple(shown(row.name) for row in low[:MOST_SHOWN]),
            num_places=len(low),
            numbers={"rank_of_b": float(largest), "rank": float(max(row.rank for row in low))},
            remedy="`bridge protect` re-factors, which takes A away from the test; better, train on more data",
        )


def recipe_of(subject: Subject) -> Guess | None:
    """The recipe that the factors suggest; None where nothing was trained, or there are no factors to read."""
    if subject.sample is None:
        return None
    try:
        return guess_recipe(subject.sample)
    except NotApplicable:
        return None


def recipes_to_try(subject: Subject, guess: Guess) -> tuple[s.Recipe, ...]:
    """Recipes under which the optimiser can be undone; a certificate tells by itself which of them holds.

    Where no gradient was large, one AdamW step does not saturate: max |B| lies below the rate by epsilon over |g|.
    """
    if exact_step(guess):
        return (guess.recipe,)
    release = subject.sample
    if release is None or not isinstance(guess.recipe.optimiser, s.AdamW) or release.dtype is not torch.float32:
        return ()
    top = max(float(one.b.abs().max()) for one in release.factors.values())
    rounded = [float(f"{mantissa}e{math.floor(math.log10(top)) + up}") for up in (0, 1) for mantissa in MANTISSAS]
    rates = [rate for rate in rounded if top <= rate * (1 + FLOAT32_STEP) and top > rate * NEARLY]
    optimisers = [guess.recipe.optimiser.model_copy(update={"learning_rate": rate}) for rate in rates]
    return tuple(guess.recipe.model_copy(update={"optimiser": one, "steps": 1}) for one in optimisers)


def low_rank_tells(subject: Subject) -> bool:
    """True where a low rank of B is the inputs' own: not after a re-factoring, which drops empty directions."""
    return not balanced(subject.modules)


def exact_step(guess: Guess) -> bool:
    """True where the optimiser can be undone: SGD, or one AdamW step stored in full."""
    optimiser = guess.recipe.optimiser
    return isinstance(optimiser, s.Sgd) or (guess.recipe.steps == 1 and guess.trusted)


def _untrained(subject: Subject) -> Finding:
    return Finding(
        rule="untrained",
        title="Every B is zero: nothing was trained, or it lies elsewhere",
        severity=Severity.INFO,
        reveals="nothing of any data",
        num_places=len(subject.modules),
        remedy="none needed",
    )


def _fingerprint(subject: Subject, guess: Guess) -> Finding:
    optimiser, steps = guess.recipe.optimiser, guess.recipe.steps
    init = str(subject.config.get("init_lora_weights", True)).lower()
    known = init not in FROM_DATA and not balanced(subject.modules)
    exact = isinstance(optimiser, s.AdamW) and steps == 1 and guess.trusted and known
    if exact:
        title = f"One AdamW step of learning rate {optimiser.learning_rate:g}: its gradient can be read out of B"
    elif isinstance(optimiser, s.AdamW):
        title = "The factors look like those of several AdamW steps"
    else:
        title = "The factors look like those of SGD, or of a start that is not zero"
    reveals = "magnitudes of the gradient's measurement, not only signs" if exact else "the recipe, to a part"
    return Finding(
        rule="adamw-one-step" if exact else "optimiser-fingerprint",
        title=title,
        severity=Severity.HIGH if exact else Severity.INFO,
        reveals=reveals,
        evidence=tuple(shown(one, 200) for one in guess.reasons),
        num_places=0,
        remedy="train for more than one step; store in a coarser format" if exact else NOISE,
    )
