"""Joint autoregressive and hierarchical priors: table 1 of the publication, the loss, the context's reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.experiments.config import load_config
from genic.lightning_modules.entropy.context import CausalLinear
from genic.lightning_modules.entropy.grid import exact_copy
from genic.lightning_modules.entropy.layers import GridConv3x3, GridDeconv5x5, GridLinear
from genic.lightning_modules.hyperprior.config import HyperpriorConfig
from genic.lightning_modules.hyperprior.module import Hyperprior
from genic.lightning_modules.hyperprior.system import System
from genic.lightning_modules.layers.gdn import GDN
from genic.losses.ssim import ms_ssim
from tests.recorder import Recorder

# Minnen, Ballé, Toderici 2018, table 1: kind, kernel side, input and output channels, stride.
TABLE_1 = {
    "g_a": [
        ("conv", 5, 3, 192, 2),
        ("GDN", 1, 192, 192, 1),
        ("conv", 5, 192, 192, 2),
        ("GDN", 1, 192, 192, 1),
        ("conv", 5, 192, 192, 2),
        ("GDN", 1, 192, 192, 1),
        ("conv", 5, 192, 192, 2),
    ],
    "g_s": [
        ("deconv", 5, 192, 192, 2),
        ("IGDN", 1, 192, 192, 1),
        ("deconv", 5, 192, 192, 2),
        ("IGDN", 1, 192, 192, 1),
        ("deconv", 5, 192, 192, 2),
        ("IGDN", 1, 192, 192, 1),
        ("deconv", 5, 192, 3, 2),
    ],
    "h_a": [("conv", 3, 192, 192, 1), ("conv", 5, 192, 192, 2), ("conv", 5, 192, 192, 2)],
    "H.H_d": [("deconv", 5, 192, 192, 2), ("deconv", 5, 192, 288, 2), ("conv", 3, 288, 384, 1)],
    "H.context.masked": [("masked", 5, 192, 384, 1)],
    "H.context.entropy_parameters": [
        ("conv", 1, 768, 640, 1),
        ("conv", 1, 640, 512, 1),
        ("conv", 1, 512, 384, 1),
    ],
}


def layer(module: nn.Module) -> tuple[str, int, int, int, int] | None:
    """A row of the table; None for what has no weights of its own."""
    match module:
        case nn.Conv2d():
            return "conv", module.kernel_size[0], module.in_channels, module.out_channels, module.stride[0]
        case nn.ConvTranspose2d():
            return "deconv", module.kernel_size[0], module.in_channels, module.out_channels, module.stride[0]
        case GDN():
            channels = len(module.beta)
            return "IGDN" if module.inverse else "GDN", 1, channels, channels, 1
    kinds = {
        CausalLinear: ("masked", 5, 12, 1),
        GridDeconv5x5: ("deconv", 5, 25, 2),
        GridConv3x3: ("conv", 3, 9, 1),
    }
    if not isinstance(module, GridLinear):
        return None
    kind, side, taps, stride = kinds.get(type(module), ("conv", 1, 1, 1))
    return kind, side, module.weight.shape[0] // taps, module.weight.shape[1], stride


def test_the_paper_s_layers_are_those_of_table_1() -> None:
    config = load_config("hyperprior", ["preset=paper"]).paper()
    with torch.device("meta"):
        system = System(config.model)
    for name, rows in TABLE_1.items():
        found = [layer(module) for module in system.get_submodule(name).modules()]
        assert [row for row in found if row is not None] == rows, name

    def weights(kind: str, side: int, inputs: int, outputs: int, _stride: int) -> int:
        taps = 12 if kind == "masked" else side * side  # of a mask of 25 positions
        return taps * inputs * outputs + outputs

    published = sum(weights(*row) for rows in TABLE_1.values() for row in rows)
    # Beyond the table: gain and inverse, the level's bias on ψ, mean and scale of ẑ in place of its density.
    own = 2 * 192 + 384 + 2 * 192
    assert sum(p.numel() for p in system.parameters()) == published + own


def nano(*settings: str) -> Hyperprior:
    """A nano module with seeded random weights."""
    torch.manual_seed(0)
    return Hyperprior(load_config("hyperprior", ["preset=nano", *settings]).paper())


def crops(count: int = 2, side: int = 64) -> Batch:
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    return Batch(torch.stack([picture[:, 40 * k : 40 * k + side, 60 : 60 + side] for k in range(count)]))


def _after(seed: int, module: Hyperprior, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Levels, x̂ and bits per pixel as a step seeded so computes them."""
    torch.manual_seed(seed)
    level = torch.rand(len(batch.image))
    # The memory format decides the order in which the noise is drawn.
    x_hat, rate = module.system(batch.image.contiguous(memory_format=torch.channels_last), level)
    return level, x_hat, (rate.latents + rate.hyper_latents) / batch.image[0, 0].numel()


def test_a_step_of_the_paper_minimises_rate_and_squared_error() -> None:
    module, batch = nano("model.levels=1", "train.rate_weight=[1.0]", "train.mse_weight=845.325"), crops()
    recorder = Recorder(module)
    torch.manual_seed(7)
    module.loss_step(batch)
    fresh = nano("model.levels=1", "train.rate_weight=[1.0]")
    _, x_hat, bpp = _after(7, fresh, batch)
    # R + λ·D with D in steps of 8 bits
    expected = bpp.mean() + 0.013 * ((255 * (x_hat - batch.image)) ** 2).mean()
    assert recorder.logged["loss/total"] == pytest.approx(expected.item(), rel=1e-5)
    assert recorder.logged["rate/bpp_estimated"] == pytest.approx(bpp.mean().item(), rel=1e-5)


def test_levels_differ_by_their_rate_weight_and_weigh_alike() -> None:
    settings = ("data.crop=176", "train.ms_ssim_weight=3", "train.mse_weight=20")
    module, batch = nano(*settings), crops(side=176)
    recorder = Recorder(module)
    torch.manual_seed(7)
    module.loss_step(batch)
    level, x_hat, bpp = _after(7, nano(*settings), batch)
    beta = 2.0 ** (1 - level) * 0.5**level  # rate_weight is [2, 0.5]
    mse = ((x_hat - batch.image) ** 2).mean((1, 2, 3))
    similarity = ms_ssim(batch.image, x_hat)
    expected = ((beta * bpp + 20 * mse + 3 * (1 - similarity)) / beta.sqrt()).mean()
    assert recorder.logged["loss/total"] == pytest.approx(expected.item(), rel=1e-5)
    assert recorder.logged["loss/ms_ssim"] == pytest.approx(1 - similarity.mean().item(), rel=1e-4)


def test_a_symbol_s_context_is_the_twelve_before_it_in_raster_order() -> None:
    network = exact_copy(nano().system.H.context)
    z_hat = torch.randint(-5, 6, (1, 7, 7, 8)).double() * network.unit
    psi, level = torch.zeros(1, 7, 7, 16, dtype=torch.float64), torch.zeros(1)
    before = torch.cat(network(z_hat, psi, level), -1)
    changed = []
    for i in range(7):
        for j in range(7):
            other = z_hat.clone()
            other[0, i, j] += 3 * network.unit
            if not torch.equal(torch.cat(network(other, psi, level), -1)[0, 3, 3], before[0, 3, 3]):
                changed.append((i - 3, j - 3))
    assert changed == [(i, j) for i in (-2, -1, 0) for j in range(-2, 3) if i < 0 or j < 0]


def test_gdn_is_equation_1_of_its_publication_and_its_inverse_undoes_it_nearly() -> None:
    gdn, igdn = GDN(4), GDN(4, inverse=True)
    x = 0.3 * torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(gdn(x), x / (1 + 0.1 * x**2).sqrt(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(igdn(gdn(x)), x, rtol=0.02, atol=1e-3)
    with torch.no_grad():
        gdn.gamma[0, 1] = 2.0
    torch.testing.assert_close(gdn(x)[:, 0], x[:, 0] / (1 + 0.1 * x[:, 0] ** 2 + 4 * x[:, 1] ** 2).sqrt())


def test_the_exact_deconvolution_is_torch_s() -> None:
    deconv, x = GridDeconv5x5(3, 4), torch.randn(2, 5, 7, 3)
    kernel = deconv.weight.reshape(5, 5, 3, 4).permute(2, 3, 0, 1)
    expected = nn.functional.conv_transpose2d(
        x.permute(0, 3, 1, 2), kernel, deconv.bias, stride=2, padding=2, output_padding=1
    )
    torch.testing.assert_close(deconv(x), expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("skew", [1, 2, 3])
def test_decoding_gives_the_encoder_s_own_reconstruction(skew: int) -> None:
    codec = nano(f"model.skew={skew}").codec()
    image = np.ascontiguousarray(data.astronaut()[100:211, 150:317])
    for quality in (0.0, 0.625, 1.0):
        z_hat, _, level = codec.analyse(image, quality)
        expected = codec.synthesise(z_hat, level, *image.shape[:2])
        assert np.array_equal(codec.decode(codec.encode(image, quality)), expected)


def test_defaults_are_the_paper() -> None:
    assert load_config("hyperprior", ["preset=paper"]).model == HyperpriorConfig().model
