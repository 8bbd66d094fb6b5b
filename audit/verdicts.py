"""Which attack of this project applies to an adapter, which does not and why, and which was never measured on such."""

from collections.abc import Iterator

from audit.checks.beginnings import FROM_DATA, balanced
from audit.checks.optimiser import exact_step, recipe_of, recipes_to_try
from audit.checks.weights import is_head
from audit.report import Status, Tier, Verdict
from audit.subject import Subject
from bridge_core import spec as s
from bridge_core.guess import Guess

CAUSAL_OR_CLASSIFIER = ("SEQ_CLS", "CAUSAL_LM", "FEATURE_EXTRACTION", "TOKEN_CLS", "SEQ_2_SEQ_LM", "QUESTION_ANS")
FIRST_BLOCK = ("layer.0.", "layers.0.", "h.0.", "blocks.0.")
READERS = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "c_attn", "qkv")
OTHER_METHOD = "the method is not analysed here; other people's attacks may well apply"


def verdicts_on(subject: Subject) -> tuple[Verdict, ...]:
    """A verdict on each attack."""
    return tuple(_verdicts(subject, recipe_of(subject)))


def _verdicts(subject: Subject, guess: Guess | None) -> Iterator[Verdict]:
    for attack, needs, judge in (
        ("span certificate (exact tokens)", Tier.BASE, _span),
        ("span of keys (tokens at any rank)", Tier.ATTACK, _keys),
        ("gradient measurement and decoders", Tier.ATTACK, _measurement),
        ("image reconstruction (Gauss-Newton)", Tier.ATTACK, _images),
        ("labels of a batch (iDLG, iLRG)", Tier.BASE, _labels),
        ("data set size (DSiRe)", Tier.ZOO, _size),
        ("membership of candidates", Tier.CANDIDATES, _membership),
        ("kernel reconstruction (Haim et al.)", Tier.ATTACK, _kernel),
    ):
        status, why = _common(subject, guess) or judge(subject, guess)
        yield Verdict(attack=attack, status=status, why=why, needs=needs)


def _common(subject: Subject, guess: Guess | None) -> tuple[Status, str] | None:
    """What is the same for all attacks on factors."""
    if not subject.method.analysed or not subject.layout.pairs:
        return "out_of_calibration", f"{subject.method.name}: {OTHER_METHOD}"
    if guess is None:
        return "not_applicable", "every B is zero: the factors hold no update"
    if balanced(subject.modules):
        why = "the factors are an SVD of their product: what A measured with is not in them"
        return "not_applicable", f"{why}; the product still holds the update"
    return None


def _start(subject: Subject) -> tuple[Status, str] | None:
    init = str(subject.config.get("init_lora_weights", True)).lower()
    if init not in ("true", "gaussian"):
        told = "made of data" if init in FROM_DATA else "not measured here"
        return "out_of_calibration", f"init_lora_weights is {init[:40]}, {told}: B may not have started at zero"
    if subject.method.options:
        return "out_of_calibration", f"{', '.join(subject.method.options)}: never measured on such adapters"
    return None


def _span(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if told := _start(subject):
        return told
    assert guess is not None
    readers = [row for row in subject.modules if _reads_first(row.name)]
    if not readers:
        return "not_applicable", "no adapter on the first block's query, key or value, whose inputs are a lookup"
    if not recipes_to_try(subject, guess):
        steps = f"{guess.recipe.steps} or so AdamW steps" if isinstance(guess.recipe.optimiser, s.AdamW) else "the step"
        return "not_applicable", f"{steps} leave of a gradient its signs: rows of B lie in no span of the inputs"
    free = [row for row in readers if row.rank_of_b < row.rank]
    if isinstance(guess.recipe.optimiser, s.Sgd) and not free:
        return "not_applicable", f"B spans all {readers[0].rank} dimensions: more independent tokens than the rank"
    if not exact_step(guess):
        return (
            "applicable",
            "if it was one AdamW step, which max |B| allows: --base tells, as a certificate proves itself",
        )
    return "applicable", "the optimiser can be undone, and the first block is adapted: name the base with --base"


def _keys(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if told := _start(subject):
        return told
    assert guess is not None
    query = [row for row in subject.modules if _reads_first(row.name) and "q" in row.name.rpartition(".")[2]]
    if not query:
        return "not_applicable", "no adapter on the first block's query"
    if not recipes_to_try(subject, guess):
        return "not_applicable", "the optimiser can not be undone"
    return "applicable", "few tokens against a head's width: try --base and --attack (BERT and GPT-2 families)"


def _measurement(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if told := _start(subject):
        return told
    assert guess is not None
    if exact_step(guess):
        return "applicable", "B is a measurement of the gradient up to one factor a module"
    return "out_of_calibration", "several AdamW steps: decoders were measured on one step and on SGD"


def _images(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if subject.config.get("task_type") in CAUSAL_OR_CLASSIFIER:
        return "not_applicable", "task_type tells of a language model"
    status, why = _measurement(subject, guess)
    if status != "applicable":
        return status, why
    if subject.layout.format != "peft":
        return "out_of_calibration", "a diffusion model's adapter: measured on classifiers only"
    return "out_of_calibration", f"{why}; measured on small vision transformers, one to a few images: run it in a suite"


def _labels(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if not any(is_head(one) for one in subject.layout.full):
        return "not_applicable", "no whole classifier's head is shipped"
    return "applicable", "the head's update against the base's head counts the classes of a batch"


def _size(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    if subject.method.options:
        return "out_of_calibration", f"{', '.join(subject.method.options)}: no zoo of such adapters"
    return (
        "applicable",
        "needs a zoo of adapters of this base and recipe (bridge zoo); rank of B bounds it where it is low",
    )


def _membership(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    status, why = _measurement(subject, guess)
    return status, f"{why}; needs candidates, which this audit does not take" if status == "applicable" else why


def _kernel(subject: Subject, guess: Guess | None) -> tuple[Status, str]:
    return "not_applicable", "needs a homogeneous network trained to near-zero loss from zero; LoRA adds to W0"


def _reads_first(name: str) -> bool:
    return any(part in f"{name}." for part in FIRST_BLOCK) and name.rpartition(".")[2] in READERS
