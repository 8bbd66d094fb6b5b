"""Simulated pairs against real PEFT training, the stream's order, and statistics against direct sums."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bridge_core import spec as s
from bridge_core.augment import Labelled, broad, moved
from bridge_core.data import Images
from bridge_core.errors import InvalidInput
from bridge_core.evidence import measurement_of
from bridge_core.gradients import tap
from bridge_core.release import read_release
from bridge_core.seeding import generator
from bridge_core.simulate import Batch, stream
from bridge_core.statistics import StatisticsSum, read_statistics, save_statistics
from bridge_core.victim import train_victim
from tests.core.examples import MODELS, adapter, modules_of, network, pictures, proxy_digits


def dataset(kind: str, count: int) -> Images:
    """Random pictures as a proxy; the first byte of each digest is its number."""
    images, labels = pictures(kind, count)
    digests = torch.arange(count, dtype=torch.uint8)[:, None].repeat(1, 32)
    return Images((images * 255).to(torch.uint8), labels, digests)


def gathered(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("num_samples", [1, 2])
def test_simulated_measurements_are_those_of_real_peft_steps(kind: str, num_samples: int, tmp_path: Path) -> None:
    model = network(kind)
    fresh = adapter(kind, model, tmp_path / "fresh")
    matrices = read_release(fresh).measurement_matrices()
    recipe = s.Recipe(optimiser=s.Sgd(learning_rate=0.05), num_samples=num_samples, batch_size=num_samples)
    proxy = dataset(kind, 4)
    batches = list(stream(model, proxy, tuple(matrices), 4 // num_samples, generator(1), num_samples=num_samples))
    images, labels = gathered(batches)
    for i in range(4 // num_samples):
        part, folder = slice(i * num_samples, (i + 1) * num_samples), tmp_path / f"{i}"
        secret = train_victim(model, fresh, images[part], labels[part], recipe, folder)
        real = measurement_of(read_release(folder), recipe)
        assert real.keys() == matrices.keys()
        for name, wanted in real.items():
            found = batches[0].taps[name].measurement(matrices[name])[i]
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
            gradient, captured = batches[0].taps[name].gradient()[i], secret.gradients[name]
            torch.testing.assert_close(gradient, captured, rtol=1e-4, atol=1e-5 * float(captured.abs().max()))


def test_the_same_generator_gives_the_same_stream() -> None:
    model = network("vit")
    modules = modules_of("vit", model)

    def drawn(seed: int) -> tuple[Tensor, Tensor]:
        return gathered(list(stream(model, proxy_digits(), modules, 200, generator(seed, "test"))))

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("num_samples", [1, 5])
def test_every_image_is_used_once_before_any_is_used_again(num_samples: int) -> None:
    model, proxy = network("vit"), proxy_digits()
    proxy = proxy[torch.arange(150)]
    pairs, modules = 450 // num_samples, modules_of("vit", model)[:1]
    batches = stream(model, proxy, modules, pairs, generator(0), num_samples=num_samples, augment="none")
    used = gathered(list(batches))[0].flatten(1)
    held = proxy.pixels.flatten(1).float() / 255
    number = torch.cdist(used, held).argmin(1)
    assert torch.equal(held[number], used)
    rounds = [sorted(part.tolist()) for part in number.split(150)]
    assert rounds == [list(range(150))] * 3
    assert not torch.equal(number[:150], number[150:300])


def test_a_stream_gives_as_many_pairs_as_asked() -> None:
    model = network("convnet")
    for wanted in (1, 127, 128, 129):
        batches = list(stream(model, proxy_digits(), ("conv1",), wanted, generator(0)))
        assert sum(len(batch) for batch in batches) == wanted
        assert max(len(batch) for batch in batches) <= 128


def test_a_stream_from_no_image_is_refused() -> None:
    empty = proxy_digits()[torch.zeros(0, dtype=torch.long)]
    with pytest.raises(InvalidInput, match="no image"):
        next(stream(network("convnet"), empty, ("conv1",), 1, generator(0)))


def test_poses_differ_and_stay_in_range() -> None:
    images = pictures("vit", 1)[0].repeat(6, 1, 1, 1)
    found = moved(images, generator(0))
    assert found.shape == images.shape
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.cdist(found.flatten(1), found.flatten(1)).fill_diagonal_(1).min() > 0.05


def fashioned(count: int = 400) -> Labelled:
    proxy = proxy_digits()[torch.arange(count)]
    return Labelled(proxy.pixels.float() / 255, proxy.labels)


def test_broad_images_stay_in_range_and_repeat_with_their_generator() -> None:
    one, again, other = (broad(fashioned(), 10, generator(seed)) for seed in (0, 0, 1))
    assert float(one.images.min()) >= 0 and float(one.images.max()) <= 1 and bool(one.images.isfinite().all())
    assert torch.equal(one.images, again.images) and torch.equal(one.labels, again.labels)
    assert not torch.equal(one.images, other.images)


def test_broad_keeps_a_quarter_in_poses_and_half_of_the_labels() -> None:
    batch = fashioned(1200)
    found = broad(batch, 10, generator(0))
    near = (found.images - batch.images).flatten(1).norm(dim=1) / batch.images.flatten(1).norm(dim=1)
    posed = (moved(batch.images, generator(0)) - batch.images).flatten(1).norm(dim=1)
    plain = float((near < float((posed / batch.images.flatten(1).norm(dim=1)).quantile(0.5))).float().mean())
    assert 0.1 < plain < 0.35
    kept = float((found.labels == batch.labels).float().mean())
    assert kept == pytest.approx(0.55, abs=0.06)
    assert int(found.labels.min()) >= 0 and int(found.labels.max()) < 10


def test_broad_images_span_more_than_poses() -> None:
    batch = fashioned(1200)

    def volume(images: Tensor) -> float:
        covariance = torch.cov((images - images.mean(0)).flatten(1).double().T)
        return float(torch.logdet(covariance + 1e-4 * torch.eye(64, dtype=torch.float64)))

    assert volume(broad(batch, 10, generator(0)).images) > volume(moved(batch.images, generator(0))) + 10


def test_a_stream_shows_what_its_augment_says() -> None:
    model, proxy = network("vit"), proxy_digits()
    drawn = {
        kind: gathered(list(stream(model, proxy, modules_of("vit", model)[:1], 128, generator(0), augment=kind)))
        for kind in ("none", "labels", "poses", "broad")
    }
    assert torch.equal(drawn["none"][1], drawn["poses"][1])
    assert not torch.equal(drawn["none"][1], drawn["broad"][1])
    assert not torch.equal(drawn["poses"][0], drawn["broad"][0])


@pytest.mark.parametrize("kind", MODELS)
def test_statistics_are_the_means_over_materialised_gradients(kind: str, tmp_path: Path) -> None:
    model = network(kind, torch.float64)
    modules, total = modules_of(kind, model), StatisticsSum()
    parts = [pictures(kind, count, torch.float64, seed=count) for count in (3, 4)]
    for images, labels in parts:
        total.add(Batch(images, labels, tap(model, images, labels, modules)))
    found = total.mean()
    every = tap(model, torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), modules)
    torch.testing.assert_close(found.mean_image, torch.cat([p[0] for p in parts]).mean(0))
    for name in modules:
        g = every[name].gradient()
        g = g / g.flatten(1).norm(dim=1)[:, None, None]
        torch.testing.assert_close(found.mean_gradient[name], g.mean(0), rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(found.row_moment[name], (g.mT @ g).mean(0), rtol=1e-7, atol=1e-10)
        assert float(found.row_moment[name].trace()) == pytest.approx(1)
    save_statistics(found, tmp_path / "s.safetensors")
    again = read_statistics(tmp_path / "s.safetensors")
    assert torch.equal(again.mean_image, found.mean_image)
    assert all(torch.equal(again.row_moment[n], found.row_moment[n]) for n in modules)
    assert all(torch.equal(again.mean_gradient[n], found.mean_gradient[n]) for n in modules)
