"""Diffusion models as priors: schedules, the embedded model, Stable Diffusion and DDPM from folders."""

# pyright: reportArgumentType=false

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from bridge_core import spec as s
from bridge_core.errors import InvalidInput
from bridge_core.priors.diffusion import (
    LatentDiffusion,
    PixelDiffusion,
    Schedule,
    read_diffusion,
    schedule_of,
    weights_of,
)
from bridge_core.priors.restoration import LEVELS, distilled, guided, measured, restorer_of
from bridge_core.priors.training import FOLD, fresh_net, save_diffusion, train_diffusion
from bridge_core.seeding import generator
from tests.core.examples import proxy_digits


def quiet(_step: int, _steps: int, _loss: float) -> None:
    """No report."""


@pytest.fixture(scope="module")
def trained() -> PixelDiffusion:
    """A model of digits, a few seconds old."""
    knobs = s.EmbeddedDiffusion(num_examples=16_000, width=24)
    return train_diffusion(proxy_digits().pixels[200:], knobs, generator(0, "test"), quiet)[0]


@pytest.fixture(scope="module")
def heldout() -> Tensor:
    return proxy_digits().pixels[:64].float() / 255


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_network_tells_the_clean_image(predicts: str) -> None:
    schedule = Schedule(DDPMScheduler().alphas_cumprod, predicts)
    x, noise, times = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([0, 400, 900])
    a = schedule.products[times].reshape(-1, 1, 1, 1)
    outputs = {"epsilon": noise, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x, "sample": x}
    found = schedule.clean(schedule.noised(x, times, noise), times, outputs[predicts])
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)


def test_distillation_is_dreamfusions_gradient(trained: PixelDiffusion, heldout: Tensor) -> None:
    images, times = heldout[:4], torch.tensor([30, 200, 500, 900])
    target = trained.distil(images, times, generator(7))
    noise = torch.randn(images.shape, generator=generator(7))
    a = trained.schedule.products[times].reshape(-1, 1, 1, 1)
    noised = a.sqrt() * (2 * images - 1) + (1 - a).sqrt() * noise
    with torch.no_grad():
        v = trained.predict(noised, times)
    epsilon = a.sqrt() * v + (1 - a).sqrt() * noised
    published = (1 - a) * (epsilon - noise)
    mine = weights_of(trained.schedule.products, times).reshape(-1, 1, 1, 1) * 2 * (images - target)
    torch.testing.assert_close(mine, published, atol=1e-4, rtol=1e-3)


def test_the_embedded_model_cleans_held_out_digits(trained: PixelDiffusion, heldout: Tensor) -> None:
    restorer = measured(guided(trained, heldout, generator(1)), heldout, generator(2))
    assert restorer.error(0.1) < 0.09
    assert restorer.error(0.3) < 0.2
    assert restorer.helps(0.2)
    assert not restorer.helps(LEVELS[0] / 2)


def test_score_distillation_draws_a_noisy_digit_towards_digits(trained: PixelDiffusion, heldout: Tensor) -> None:
    rng, knobs = generator(3), s.Sds(draws=4, earliest=0.1, latest=0.5)
    noisy = heldout + 0.3 * torch.randn(heldout.shape, generator=rng)
    drawn = distilled(trained, knobs, noisy, rng)
    assert float((drawn - heldout).square().mean()) < 0.8 * float((noisy - heldout).square().mean())


def test_a_saved_model_is_the_same_and_its_folder_holds_no_pickle(tmp_path: Path, trained: PixelDiffusion) -> None:
    save_diffusion(trained, DDPMScheduler(prediction_type="v_prediction"), tmp_path)
    again = read_diffusion(s.EmbeddedDiffusion(), str(tmp_path), 1)
    images, times = torch.rand(2, 1, 8, 8), torch.tensor([10, 300])
    assert torch.equal(again.clean(images, times), trained.clean(images, times))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize("side", [8, 25, 28, 32])
def test_every_size_goes_through(side: int) -> None:
    model = PixelDiffusion(fresh_net(8, 3, 0).eval(), schedule_of(DDPMScheduler()), FOLD)
    with torch.no_grad():
        assert model.predict(torch.rand(2, 3, side, side), torch.tensor([1, 2])).shape == (2, 3, side, side)


def test_training_depends_on_its_seed_alone() -> None:
    pixels, knobs = proxy_digits().pixels[:128], s.EmbeddedDiffusion(num_examples=128, width=8)
    once, again = (train_diffusion(pixels, knobs, generator(4), quiet)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once.net.parameters(), again.net.parameters(), strict=True))


def tiny_stable_diffusion(folder: Path) -> Path:
    """A Stable Diffusion pipeline of a few thousand weights, built from configurations and saved."""
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3, "a": 4, "b": 5}
    (folder / "words").mkdir(parents=True)
    (folder / "words/vocab.json").write_text(json.dumps(words))
    (folder / "words/merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "words"), model_max_length=77)
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    block = {"norm_num_groups": 4, "layers_per_block": 1}
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        latent_channels=4,
        **block,
    )
    net = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        cross_attention_dim=16,
        attention_head_dim=4,
        **block,
    )
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    pipeline = StableDiffusionPipeline(
        autoencoder, text, tokenizer, net, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(str(folder / "pipeline"))
    return folder / "pipeline"


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("stable"))


@pytest.mark.parametrize(("channels", "path"), [(1, "latent"), (3, "pixel")])
def test_stable_diffusion_from_a_folder(stable: Path, channels: int, path: str) -> None:
    knobs = s.PipelineDiffusion(source=str(stable), prompt="a b", guidance=3.0, path=path)  # pyright: ignore[reportArgumentType]
    model = read_diffusion(knobs, None, channels)
    images, times = torch.rand(2, channels, 14, 14), torch.tensor([100, 600])
    for found in (model.clean(images, times), model.distil(images, times, generator(0))):
        assert found.shape == images.shape
        assert torch.isfinite(found).all()
        assert not torch.equal(found, images)


def test_the_pixel_path_is_the_latent_gradient_taken_back_through_the_encoder(stable: Path) -> None:
    model = read_diffusion(s.PipelineDiffusion(source=str(stable), path="pixel"), None, 3)
    assert isinstance(model, LatentDiffusion)
    images, times = torch.rand(1, 3, 16, 16), torch.tensor([400])
    target = model.distil(images, times, generator(5))
    pixels = images.clone().requires_grad_()
    latent = model._encode(pixels)
    noised = model.schedule.noised(latent.detach(), times, torch.randn(latent.shape, generator=generator(5)))
    with torch.no_grad():
        clean = model.schedule.clean(noised, times, model.net(noised, times, model.told).sample)
    ((latent - clean) ** 2 / 2).sum().backward()
    assert pixels.grad is not None
    torch.testing.assert_close(images - target, pixels.grad)


def test_guidance_and_prompt_count(stable: Path) -> None:
    images, times = torch.rand(1, 3, 16, 16), torch.tensor([500])

    def cleaned(**knobs: object) -> Tensor:
        chosen = s.PipelineDiffusion.model_validate({"source": str(stable), **knobs})
        return read_diffusion(chosen, None, 3).clean(images, times)

    plain = cleaned(prompt="a")
    assert not torch.equal(plain, cleaned(prompt="b b b"))
    assert not torch.equal(plain, cleaned(prompt="a", guidance=5.0))
    assert torch.equal(cleaned(), cleaned(guidance=4.0))


def test_a_ddpm_pipeline_of_pixels(tmp_path: Path) -> None:
    net = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(str(tmp_path))
    knobs = s.PipelineDiffusion(source=str(tmp_path))
    assert read_diffusion(knobs, None, 3).clean(torch.rand(1, 3, 16, 16), torch.tensor([5])).shape == (1, 3, 16, 16)
    with pytest.raises(InvalidInput, match="3 channels"):
        read_diffusion(knobs, None, 1)


@pytest.mark.parametrize("name", ["no-such-folder", "empty"])
def test_what_is_no_pipeline_gets_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/model_index.json").write_text('{"_class_name": "Evil", "evil": ["pipeline", "Evil"]}')
    (tmp_path / "empty/pipeline.py").write_text("raise SystemExit('run')")
    with pytest.raises(InvalidInput, match=r"save_pretrained|Stable Diffusion") as caught:
        read_diffusion(s.PipelineDiffusion(source=str(tmp_path / name)), None, 1)
    assert "\n" not in str(caught.value)


def test_a_schedule_without_products_is_refused() -> None:
    with pytest.raises(InvalidInput, match="FlowMatch"):
        schedule_of(FlowMatchEulerDiscreteScheduler())  # pyright: ignore[reportArgumentType]


def test_total_variation_needs_no_model_and_none_has_no_restorer(heldout: Tensor) -> None:
    restorer = restorer_of(s.TotalVariation(), None, heldout, generator(0))
    assert restorer is not None
    assert restorer.error(0.3) < 0.25
    assert restorer_of(s.NoPrior(), None, heldout, generator(0)) is None
