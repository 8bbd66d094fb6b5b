"""Bridges against their closed forms in float64, and against what needs no fit."""

from pathlib import Path

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from bridge_core import spec as s
from bridge_core.decoders import Decoder, DecoderFit, Fitted, read_decoder, save_decoder
from bridge_core.decoders.linear import RidgeSum, ridge_bytes, row_mmse, unit
from bridge_core.errors import Diverged
from bridge_core.gradients import tap
from bridge_core.lora import project
from bridge_core.metrics import cosines
from bridge_core.seeding import generator
from bridge_core.simulate import Batch, stream
from bridge_core.statistics import Statistics, StatisticsSum
from tests.core.examples import modules_of, network, pictures, proxy_digits

RANK, PAIRS = 3, 1200
WIDE = torch.float64
MODEL = network("convnet")
MODULES = ("conv1", "conv2")
BRIDGES: dict[str, Fitted] = {
    "projection": s.Projection(),
    "row_mmse": s.RowMmse(),
    "ridge": s.Ridge(num_pairs=PAIRS),
    "ridge, all": s.Ridge(num_pairs=PAIRS, inputs="all", components=24),
    "mlp": s.Mlp(num_pairs=PAIRS, hidden=32, learning_rate=3e-3),
    "mlp, mse": s.Mlp(num_pairs=PAIRS, hidden=32, learning_rate=3e-3, loss="mse"),
    "unet": s.Unet(num_pairs=PAIRS, width=4, batch_size=32),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


def matrices(seed: int = 0) -> dict[str, Tensor]:
    widths = {"conv1": 25, "conv2": 100}
    return {name: normal(RANK, width, seed=seed).float() / width**0.5 for name, width in widths.items()}


def pairs(count: int, seed: int) -> list[Batch]:
    return list(stream(MODEL, proxy_digits(), MODULES, count, generator(seed, "pairs")))


@pytest.fixture(scope="module")
def known() -> Statistics:
    total = StatisticsSum()
    for batch in pairs(600, 1):
        total.add(batch)
    return total.mean()


def fitted(bridge: Fitted, known: Statistics, batches: list[Batch]) -> Decoder:
    fit = DecoderFit(bridge, matrices(), known, seed=0)
    for batch in batches:
        fit.add(batch)
    return fit.decoder()


def heldout_cosines(decoder: Decoder, count: int = 200) -> dict[str, float]:
    """Mean cosine with the true gradient on pairs that no fit has seen."""
    found: dict[str, list[Tensor]] = {name: [] for name in MODULES}
    for batch in pairs(count, 99):
        decoded = decoder.decode({n: t.measurement(decoder.a[n]) for n, t in batch.taps.items()})
        for name, one in batch.taps.items():
            found[name].append(cosines(one.gradient(), decoded[name]))
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}


# --- row-wise MMSE ----------------------------------------------------------------------------------------------------


def test_row_mmse_is_the_best_linear_estimate_of_each_row() -> None:
    rows, a = normal(400, 9) @ normal(9, 9, seed=1), normal(RANK, 9, seed=2)
    moment = rows.T @ rows / len(rows)
    wanted = torch.linalg.lstsq(rows @ a.T, rows).solution
    found = row_mmse(normal(2, 5, RANK, seed=3), a, moment, 0.0)
    torch.testing.assert_close(found, normal(2, 5, RANK, seed=3) @ wanted, rtol=1e-9, atol=1e-9)


def test_row_mmse_with_a_ridge_solves_its_closed_form_row_by_row() -> None:
    a, root, ridge = normal(RANK, 9, seed=2), normal(9, 9, seed=1), 1e-2
    moment, m = root @ root.T, normal(5, RANK, seed=3)
    normal_matrix = a @ moment @ a.T
    normal_matrix = normal_matrix + ridge * normal_matrix.trace() / RANK * torch.eye(RANK, dtype=WIDE)
    rows = [moment @ a.T @ torch.linalg.inv(normal_matrix) @ row for row in m]
    torch.testing.assert_close(row_mmse(m, a, moment, ridge), torch.stack(rows), rtol=1e-9, atol=1e-9)


def test_row_mmse_without_prior_knowledge_is_the_projection() -> None:
    a, m = normal(RANK, 9), normal(4, 5, RANK, seed=1)
    found = row_mmse(m, a, torch.eye(9, dtype=WIDE), 0.0)
    torch.testing.assert_close(found, project(m, a), rtol=1e-9, atol=1e-9)


# --- ridge regression -------------------------------------------------------------------------------------------------


def test_streamed_ridge_is_scikit_learns_on_all_pairs_at_once() -> None:
    model = network("vit", WIDE)
    modules = modules_of("vit", model)[:2]
    a = {name: normal(RANK, 16, seed=i) for i, name in enumerate(modules)}
    parts = [pictures("vit", 40, WIDE, seed=seed) for seed in (1, 2)]
    batches = [Batch(x, y, tap(model, x, y, modules)) for x, y in parts]
    total = RidgeSum({name: one.float() for name, one in a.items()}, 1e-2)
    for batch in batches:
        taps = {n: type(t)(t.inputs.float(), t.output_gradients.float()) for n, t in batch.taps.items()}
        total.add(Batch(batch.images, batch.labels, taps))
    for name, weight in ((key.removesuffix("/weight"), one) for key, one in total.tensors().items()):
        m = torch.cat([unit(b.taps[name].measurement(a[name])).flatten(1) for b in batches])
        g = torch.cat([unit(b.taps[name].gradient()).flatten(1) for b in batches])
        penalty = 1e-2 * float((m.T @ m).diagonal().mean())
        wanted = Ridge(alpha=penalty, fit_intercept=False).fit(m.numpy(), g.numpy()).coef_.T
        assert float((weight - torch.from_numpy(wanted)).norm() / weight.norm()) < 1e-3


def test_decoded_ridge_is_its_weights_applied(known: Statistics) -> None:
    decoder, batch = fitted(BRIDGES["ridge"], known, pairs(400, 2)), pairs(5, 3)[0]
    m = batch.taps["conv2"].measurement(decoder.a["conv2"])
    for i, found in enumerate(decoder.decode({"conv2": m})["conv2"]):
        wanted = ((m[i] / m[i].norm()).flatten() @ decoder.tensors["conv2/weight"]).reshape(4, 100)
        torch.testing.assert_close(found, wanted / wanted.norm(), rtol=1e-4, atol=1e-6)


def test_memory_of_a_ridge_fit_is_that_of_its_matrices() -> None:
    out, width, rank = 4, 25, 3
    stored = 4 * ((out * rank) ** 2 + out * rank * out * width)
    assert stored <= ridge_bytes({"conv1": (out, width)}, rank) < 6 * stored


# --- all of them ------------------------------------------------------------------------------------------------------


def test_prior_knowledge_beats_the_projection(known: Statistics) -> None:
    batches = pairs(PAIRS, 2)
    found = {
        name: heldout_cosines(fitted(BRIDGES[name], known, batches))
        for name in ("projection", "row_mmse", "ridge", "ridge, all")
    }
    for module in MODULES:
        assert found["row_mmse"][module] > found["projection"][module] + 0.1
        assert found["ridge"][module] > found["row_mmse"][module]
        assert found["ridge, all"][module] > found["ridge"][module]


@pytest.mark.parametrize("name", BRIDGES)
def test_a_saved_decoder_decodes_the_same(name: str, known: Statistics, tmp_path: Path) -> None:
    decoder = fitted(BRIDGES[name], known, pairs(256, 2))
    save_decoder(decoder, tmp_path / "d.safetensors")
    again, batch = read_decoder(BRIDGES[name], tmp_path / "d.safetensors"), pairs(20, 3)[0]
    m = {n: t.measurement(decoder.a[n]) for n, t in batch.taps.items()}
    one, two = decoder.decode(m), again.decode(m)
    assert all(torch.equal(one[n], two[n]) for n in MODULES)
    assert all(torch.allclose(g.flatten(1).norm(dim=1), torch.ones(20)) for g in one.values())


@pytest.mark.parametrize("name", BRIDGES)
def test_a_decoder_is_blind_to_the_measurements_scale(name: str, known: Statistics) -> None:
    decoder, batch = fitted(BRIDGES[name], known, pairs(256, 2)), pairs(8, 3)[0]
    m = {n: t.measurement(decoder.a[n]) for n, t in batch.taps.items()}
    scaled = decoder.decode({n: 1e-3 * x for n, x in m.items()})
    for n, wanted in decoder.decode(m).items():
        torch.testing.assert_close(scaled[n], wanted, rtol=1e-3, atol=1e-5)


def test_a_decoder_serves_a_matrix_that_moved_a_little_and_refuses_another(known: Statistics) -> None:
    decoder = fitted(s.Projection(), known, [])
    assert decoder.serves(matrices())
    assert not decoder.serves(matrices(seed=5))
    assert decoder.serves({name: a.bfloat16().float() for name, a in matrices().items()})
    for share, served in ((0.019, True), (0.021, False)):
        step = normal(RANK, 100, seed=9).float()
        one = matrices()["conv2"]
        moved = matrices() | {"conv2": one + step * (share * one.norm() / step.norm())}
        assert decoder.serves(moved) is served
    assert not decoder.serves({"conv1": matrices()["conv1"]})


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_the_network_learns_more_than_its_start(loss: str, known: Statistics) -> None:
    bridge = s.Mlp.model_validate({"num_pairs": 5000, "hidden": 64, "learning_rate": 3e-3, "loss": loss})
    start = heldout_cosines(fitted(bridge, known, []))
    learnt = heldout_cosines(fitted(bridge, known, pairs(5000, 2)))
    row = heldout_cosines(fitted(s.RowMmse(), known, []))
    for module in MODULES:
        assert start[module] == pytest.approx(row[module], abs=1e-4)
        assert learnt[module] > start[module] + 0.02


def test_networks_of_one_seed_are_equal(known: Statistics) -> None:
    one, two = (fitted(BRIDGES["mlp"], known, pairs(256, 2)) for _ in range(2))
    assert all(torch.equal(t, two.tensors[key]) for key, t in one.tensors.items())


def test_a_network_that_diverges_says_so(known: Statistics) -> None:
    bridge = s.Mlp(num_pairs=2000, hidden=8, learning_rate=1e30, loss="mse")
    with pytest.raises(Diverged, match="lower its learning_rate"):
        fitted(bridge, known, pairs(2000, 2))
