"""What a released adapter says of the gradient once the optimiser is undone, held against the sealed truth."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bridge_core import spec as s
from bridge_core.errors import NotApplicable
from bridge_core.evidence import calibration, evidence_of, measurement_of, spacing, stacked, through_adamw
from bridge_core.gradients import tap
from bridge_core.metrics import cosines
from bridge_core.release import Release, read_release
from bridge_core.victim import DTYPES, Secret
from tests.core.examples import MODELS, is_one_line, network, pictures, victim


def released(kind: str, folder: Path, recipe: s.Recipe) -> tuple[Release, Secret]:
    """A victim's release, and its secret."""
    _, secret = victim(kind, folder, recipe)
    return read_release(folder / "release"), secret


def cosines_with_truth(release: Release, secret: Secret, recipe: s.Recipe) -> list[float]:
    found = measurement_of(release, recipe)
    truth = {name: secret.gradients[name] @ one.a.T for name, one in release.factors.items()}
    return [float(cosines(truth[name][None], m[None])) for name, m in found.items()]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize(("alpha", "learning_rate"), [(16.0, 0.1), (3.0, 1e-3)])
def test_one_sgd_step_tells_g_at_to_scale(
    kind: str, use_rslora: bool, alpha: float, learning_rate: float, tmp_path: Path
) -> None:
    lora = s.Lora(alpha=alpha, use_rslora=use_rslora)
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=learning_rate, momentum=0.9), lora=lora)
    release, secret = released(kind, tmp_path, recipe)
    for name, m in measurement_of(release, recipe).items():
        wanted = secret.gradients[name] @ release.factors[name].a.T
        torch.testing.assert_close(m, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [2, 5])
def test_several_small_sgd_steps_tell_the_mean_to_first_order(momentum: float, steps: int, tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=1e-4, momentum=momentum), steps=steps)
    release, secret = released("convnet", tmp_path, recipe)
    for name, m in measurement_of(release, recipe).items():
        wanted = secret.gradients[name] @ release.factors[name].a.T
        assert float((m - wanted).norm() / wanted.norm()) < 0.01


def test_the_first_order_error_grows_with_the_learning_rate(tmp_path: Path) -> None:
    errors: list[float] = []
    for rate in (1e-4, 1e-3, 1e-2):
        recipe = s.Recipe(optimiser=s.Sgd(learning_rate=rate), steps=4)
        release, secret = released("convnet", tmp_path / str(rate), recipe)
        wanted = secret.gradients["conv3"] @ release.factors["conv3"].a.T
        errors.append(float((measurement_of(release, recipe)["conv3"] - wanted).norm() / wanted.norm()))
    assert errors[0] < errors[1] < errors[2]


def test_one_adamw_step_is_undone_where_the_gradient_is_small(tmp_path: Path) -> None:
    optimiser = s.AdamW(learning_rate=1e-3, epsilon=1e-4, weight_decay=0.1)
    recipe = s.Recipe(optimiser=optimiser)
    release, secret = released("vit", tmp_path, recipe)
    for name, one in release.factors.items():
        found, wanted = measurement_of(release, recipe)[name], secret.gradients[name] @ one.a.T
        # float32 keeps |B| / eta = |g| / (|g| + eps) to about 6e-8: |g| / eps loses as much.
        size = wanted.abs() * one.scale / optimiser.epsilon
        small = (size < 100) & (size > 1e-4)
        assert int(small.sum()) > 5
        error = (found - wanted).abs()[small] / wanted.abs()[small]
        assert float(error.median()) < 1e-4
        assert float(cosines(wanted[None], found[None])) > 0.9999


@pytest.mark.parametrize("kind", MODELS)
def test_one_adamw_step_with_pytorchs_epsilon_says_more_than_signs(kind: str, tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.AdamW(learning_rate=1e-3, epsilon=1e-6))
    release, secret = released(kind, tmp_path, recipe)
    signs = [
        float(cosines((secret.gradients[n] @ one.a.T)[None], -one.b.sign()[None])) for n, one in release.factors.items()
    ]
    for undone, sign in zip(cosines_with_truth(release, secret, recipe), signs, strict=True):
        assert undone > 0.999 > 0.95 > sign > 0.3


def test_several_adamw_steps_keep_the_direction_roughly(tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.AdamW(learning_rate=1e-4), steps=3)
    release, secret = released("convnet", tmp_path, recipe)
    assert all(0.4 < cosine < 0.95 for cosine in cosines_with_truth(release, secret, recipe))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_adapters_still_tell_the_measurement_to_their_precision(dtype: str, tmp_path: Path) -> None:
    recipe = s.Recipe.model_validate({"optimiser": {"kind": "sgd", "learning_rate": 1.0}, "save_dtype": dtype})
    release, secret = released("convnet", tmp_path, recipe)
    assert all(0.999 < cosine < 1 - 1e-9 for cosine in cosines_with_truth(release, secret, recipe))


@pytest.mark.parametrize("init", ["pissa", "orthogonal", "olora"])
def test_where_b_did_not_start_at_zero_nothing_is_claimed(init: str, tmp_path: Path) -> None:
    recipe = s.Recipe(lora=s.Lora.model_validate({"init_lora_weights": init}))
    victim("vit", tmp_path, recipe, rank=4)
    with pytest.raises(NotApplicable) as caught:
        measurement_of(read_release(tmp_path / "release"), recipe)
    assert is_one_line(caught.value, init, "oracle")


def test_secrets_are_stacked_in_order(tmp_path: Path) -> None:
    one, two = {"a": torch.ones(2, 3)}, {"a": torch.zeros(2, 3)}
    assert torch.equal(stacked([one, two])["a"], torch.stack([one["a"], two["a"]]))


@pytest.fixture
def softmax_keeps_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers' eager attention asks for a float32 softmax, which would round the truth as well."""
    softmax = nn.functional.softmax
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim=None, dtype=None: softmax(x, dim=dim))


def normalised_errors(kind: str, folder: Path, recipe: s.Recipe) -> tuple[Tensor, Tensor]:
    """(m - G A^T) / error of all entries with G by autograd in float64 and A as released, and |m| / error."""
    victim(kind, folder, recipe, rank=4)
    release = read_release(folder / "release")
    images, labels = pictures(kind, recipe.num_samples)
    taps = tap(network(kind, torch.float64), images.double(), labels, release.modules)
    found, pairs = evidence_of(release, recipe), []
    for name, one in release.factors.items():
        truth = taps[name].grouped(recipe.num_samples).measurement(one.a.double())[0]
        assert (found.error[name] > 0).all()
        pairs.append(
            torch.stack([(found.m[name] - truth) / found.error[name], found.m[name].abs() / found.error[name]])
        )
    z, known = torch.cat([one.flatten(1) for one in pairs], 1)
    return z, known


OPTIMISERS: dict[str, s.Optimiser] = {
    "sgd": s.Sgd(learning_rate=0.1),
    "small sgd with decay": s.Sgd(learning_rate=1e-3, weight_decay=0.1),
    "adamw": s.AdamW(learning_rate=1e-3, epsilon=1e-4),
    "adamw with decay": s.AdamW(learning_rate=2e-4, epsilon=1e-3, weight_decay=0.1),
}


@pytest.mark.usefixtures("softmax_keeps_float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("kind", ["vit", "convnet"])
def test_errors_are_as_large_as_evidence_of_says(kind: str, name: str, dtype: str, tmp_path: Path) -> None:
    recipe = s.Recipe.model_validate({"save_dtype": dtype, "num_samples": 2, "batch_size": 2}).model_copy(
        update={"optimiser": OPTIMISERS[name]}
    )
    z, known = normalised_errors(kind, tmp_path, recipe)
    assert float((known > 1).float().mean()) > 0.5
    assert 0.5 < float(z.square().mean().sqrt()) < 2


@pytest.mark.usefixtures("softmax_keeps_float64")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["vit", "convnet"])
def test_a_saturated_step_claims_no_more_than_it_knows(kind: str, dtype: str, tmp_path: Path) -> None:
    recipe = s.Recipe.model_validate({"optimiser": {"kind": "adamw"}, "save_dtype": dtype})
    z, known = normalised_errors(kind, tmp_path, recipe)
    assert float(z.square().mean().sqrt()) < 2
    assert (float((known > 1).float().mean()) > 0.9) == (dtype == "float32")


@pytest.mark.parametrize("learning_rate", [1e-3, 2e-4, 5e-4])
def test_a_known_rounding_of_adamws_constants_is_taken_out(learning_rate: float) -> None:
    optimiser = s.AdamW(learning_rate=learning_rate)
    gradients = torch.logspace(-7, -3, 5001)
    parameter = nn.Parameter(torch.zeros_like(gradients))
    parameter.grad = gradients
    torch.optim.AdamW([parameter], learning_rate, weight_decay=0.0).step()
    u, g = -parameter.detach().double() / learning_rate, gradients.double()
    known = calibration(optimiser)
    error = u / (known.numerator * g / (known.denominator * g + optimiser.epsilon)) - 1
    assert abs(float(error.mean())) < 1e-8 < 4e-8 < float(error.std()) < 8e-8
    assert 0.8 < float(error.std()) / known.noise < 1.2


@pytest.mark.parametrize("epsilon", [1e-8, 1e-6])
def test_simulated_measurements_lose_what_a_real_adamw_step_loses(epsilon: float, tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.AdamW(epsilon=epsilon))
    assert isinstance(recipe.optimiser, s.AdamW)
    release, secret = released("vit", tmp_path, recipe)
    for name, one in release.factors.items():
        found, wanted = measurement_of(release, recipe)[name], secret.gradients[name] @ one.a.T
        simulated = through_adamw(wanted, recipe.optimiser, one.scale)
        lost, really_lost = ((one - wanted).square().mean().sqrt() for one in (simulated, found))
        assert 0.4 < float(lost / really_lost) < 2.5
        assert float(cosines(simulated[None], found[None])) > 0.9
        assert torch.equal(simulated.sign(), wanted.sign())
        limit = epsilon / calibration(recipe.optimiser).noise / one.scale
        assert float(simulated.abs().max()) <= 1.01 * limit


def test_the_spacing_is_the_distance_to_the_next_number() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        values = torch.tensor([1e-3, 0.7, 1.0, 3.0, 6.1e-5]).to(dtype)
        above = torch.nextafter(values, torch.full_like(values, 9))
        assert torch.equal(spacing(values, dtype), above.double() - values.double())
    assert float(spacing(torch.tensor(1e-6), torch.float16)) == 2**-24


def test_after_several_adamw_steps_no_entry_is_claimed_to_better_than_the_modules_size(tmp_path: Path) -> None:
    recipe = s.Recipe(optimiser=s.AdamW(), steps=3)
    release, _ = released("convnet", tmp_path, recipe)
    found = evidence_of(release, recipe)
    for name, m in found.m.items():
        assert float(found.error[name].min()) > 0.99 * float(m.square().mean().sqrt())
