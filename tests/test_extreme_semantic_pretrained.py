"""Extreme semantic compression around a pretrained auto-encoder, and against a U-Net with classes for every pixel."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from genic.experiments.config import load_config
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError, SymbolMismatchError
from genic.lightning_modules.codec.weights import MAX_FILE_BYTES
from genic.lightning_modules.entropy.folded import build_folded_tables
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from genic.lightning_modules.extreme_semantic.module import DEVIATION, ExtremeSemantic
from genic.lightning_modules.extreme_semantic.networks import UNetDiscriminator
from genic.lightning_modules.extreme_semantic.system import System
from genic.lightning_modules.layers.pretrained import start, start_as_klt
from genic.losses.gan import label_mix, label_mix_distance, oasis_discriminator, oasis_generator
from genic.losses.perceptual import Lpips
from genic.losses.pretrained import has_trunk, shared_file
from tests import helpers
from tests.conformance.arithmetic import Arithmetic
from tests.helpers import photograph
from tests.recorder import Recorder
from tests.test_conformance import PIXEL_BOUND
from tests.test_extreme_semantic import batch, scene_labels

PRETRAINED = {
    "transform": "pretrained",
    "analysis_blocks": 0,
    "synthesis": 16,
    "synthesis_blocks": 1,
    "perceptual_weight": 0.0,
}
nano = partial(helpers.nano, "extreme_semantic", **PRETRAINED)
GC = {"F": "[]", "selective": 0.0}


@pytest.fixture(scope="module")
def module() -> ExtremeSemantic:
    """GC and SC, nested, with noise; its w has spread, and what stands beside ŵ has a say."""
    module = nano()
    with torch.no_grad():
        G = module.system.G
        for parameter in (module.system.E.linear.weight, G.beside.weight, G.residual[-1].weight):
            parameter.normal_()
    return module


@pytest.fixture(scope="module")
def codec(module) -> ExtremeSemanticCodec:
    return module.codec()


class TestCodec:
    def test_decoding_gives_the_encoder_s_own_picture_under_other_arithmetic(self, codec):
        image, labels = photograph(70, 90), scene_labels(70, 90)
        for options in ({}, {"labels": labels, "preserve": "car", "seed": 3}):
            with Arithmetic()():
                data = codec.encode(image, 4.0, **options)
                shown = codec.decode(data)
            assert shown.shape == image.shape
            with Arithmetic(1, False, shuffled=1)():
                assert codec.encode(image, 4.0, **options) == data
                assert np.abs(codec.decode(data).astype(int) - shown).max() <= PIXEL_BOUND

    def test_rates_ascend_with_c_below_the_cap(self, codec):
        image = photograph(160, 176)
        files = [codec.encode(image, q) for q in codec.qualities]
        streams = [Container.from_bytes(f).ledger()["latents"] for f in files]
        assert 0 < streams[0] < streams[1] < streams[2]
        assert codec.cap(4.0) == pytest.approx(4 * math.log2(5) / 256)

    def test_what_is_synthesised_depends_on_its_labels(self, codec):
        image, labels = photograph(), scene_labels()
        other = np.where(labels == 3, np.uint8(5), labels)
        files = [codec.encode(image, labels=found, preserve="") for found in (labels, other)]
        assert all(Container.from_bytes(f).ledger()["latents"] == 0 for f in files)
        assert (codec.decode(files[0]) != codec.decode(files[1])).any()

    def test_symbols_that_are_not_the_encoder_s_are_refused(self, codec):
        data = codec.encode(photograph())
        decode = codec.coder.decode
        codec.coder.decode = lambda *a: decode(*a).neg()
        try:
            with pytest.raises(SymbolMismatchError):
                codec.decode(data)
        finally:
            del codec.coder.decode
        with pytest.raises(DamagedFileError):
            codec.decode(data[:-3])


class TestStart:
    def test_it_is_a_transform_coder(self):
        """Whatever TAEF2's weights are: w is decorrelated, and G gets t back from all of w."""
        module = nano(C="[2,128]", steps="[4.0,0.5]", noise=0, **GC)
        system, x = module.system, batch().image
        E, G = system.E, system.G
        with torch.no_grad():
            t = E.folded(x - 0.5)
            rows = t.permute(0, 2, 3, 1).flatten(0, 2).repeat(40, 1)
            rows = rows + torch.linspace(2, 0.01, 128) * torch.randn_like(rows)
            deviations = start_as_klt(E, G, rows)
            module.start_gains(deviations)
            z = E.linear(rows.T[None, :, :, None])
            torch.testing.assert_close(
                torch.cov(z[0, :, :, 0]), deviations.square().diag(), rtol=0, atol=1e-2
            )
            assert (deviations[:-1] >= deviations[1:]).all()
            # One step for all channels but the widest, whose deviation comes to that of the five centres.
            for k, step in enumerate((4.0, 0.5)):
                found = deviations * system.gain.log_gain[k].exp()
                torch.testing.assert_close(found, (deviations / step).clamp(max=DEVIATION))
            w = system.gain(z, torch.ones(1))
            torch.testing.assert_close(G.linear(system.gain.inverse(w, torch.ones(1)))[0, :, :, 0].T, rows)
            # In E and G the rest is silent.
            torch.testing.assert_close(E(2 * x - 1), E.linear(t))

    def test_taef2_s_weights_fill_e_and_g(self):
        if shared_file("weights/taef2/encoder.safetensors") is None:
            pytest.skip("TAEF2's weights are not below GENIC_DATA")
        module = nano(C="[2,32]", light_decoder="false", noise=0, **GC)
        system, x = module.system.eval(), batch(4).image
        before = {n: p.clone() for n, p in system.named_parameters() if ".pixels." in n}
        module.start_gains(start(system.E, system.G, [x]))
        own = dict(system.named_parameters())
        assert before and not any(torch.equal(t, own[n]) for n, t in before.items())
        level = torch.full((4,), 1)
        shown = system.reconstruct(system.latents(2 * x - 1, level), level, None, None) / 2 + 0.5
        psnr = -10 * torch.log10((shown - x).square().mean())
        assert psnr > 24  # not quantised, a quarter of the KLT's channels; about 10 with a layer out of place

    def test_the_presets_weights_fit_a_file(self):
        for name in ("realistic_1", "street_1"):
            first, second = (
                load_config("extreme_semantic", [f"preset={name[:-1]}{k}"]).paper() for k in (1, 2)
            )
            assert first.model == second.model
            with torch.device("meta"):
                system = System(first.model)
            tables = build_folded_tables()
            size = 2 * sum(t.numel() for t in system.state_dict().values())
            assert (
                size + tables.numel() * tables.element_size() < 0.99 * MAX_FILE_BYTES
            )  # names take the rest

    def test_every_c_has_its_weight_of_the_rate(self):
        module, x, level = nano(noise=0, **GC), 2 * batch().image - 1, torch.tensor([1, 2])
        gradients = []
        for beta in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([1.0, 2.0])):
            bits = module.system(x, level, None, None, beta).rate.sum()
            gradients.append(torch.autograd.grad(bits, module.system.gain.log_gain)[0])
        assert gradients[0][1].any() and not gradients[0][2].any() and not gradients[1][1].any()
        torch.testing.assert_close(gradients[0] + gradients[1], gradients[2])

    def test_the_second_stage_leaves_files_as_they_are(self):
        config = load_config("extreme_semantic", ["preset=street_2"])
        module = nano(frozen=str(config.train.frozen).replace("'", ""))
        trained = [
            n for n, p in module.system.named_parameters() if p.requires_grad and n[:2] not in ("F.", "G.")
        ]
        assert trained == ["level_bias", "gain.log_inverse"]
        groups = module.optimiser_groups()["generator"][0]
        assert [group.get("scale", 1.0) for group in groups] == [1.0, 1.0] and len(groups) == 2


def logits(*rows: list[float]) -> torch.Tensor:
    """[1, classes, 1, pixels] of the logits of each pixel."""
    return torch.tensor(rows).T[None, :, None]


class TestOasis:
    def test_the_losses_by_hand(self):
        # Two classes and 'fake'. Three pixels of class 0, one of class 1; softmax of (a, b, c) by hand.
        labels = torch.tensor([[[0, 0, 0, 1]]])
        real = logits([2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.0, 0.0])
        fake = logits([0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 2.0])
        e = math.exp
        of_0 = [-math.log(e(2) / (e(2) + 2)), math.log(3), math.log(2 + e(1))]
        of_1 = -math.log(e(3) / (e(3) + 2))
        # Inverse class frequency: of both classes the mean counts by half.
        balanced = (sum(of_0) / 3 + of_1) / 2
        faked = [-math.log(e(1) / (e(1) + 2)), math.log(3), math.log(e(5) + 2), -math.log(e(2) / (e(2) + 2))]
        found = oasis_discriminator(real, fake, labels)
        assert found.item() == pytest.approx(balanced + sum(faked) / 4, rel=1e-5)
        assert oasis_discriminator(real, fake, labels, [0]).item() == pytest.approx(
            of_1 + sum(faked) / 4, rel=1e-5
        )
        taken = [math.log(2 + e(1)), math.log(3), math.log(e(5) + 2) - 5]
        expected = (sum(taken) / 3 + math.log(2 + e(2))) / 2
        assert oasis_generator(fake, labels).item() == pytest.approx(expected, rel=1e-5)
        assert oasis_generator(fake, labels, [0, 1]) == 0

    def test_label_mix(self):
        torch.manual_seed(0)
        labels = torch.randint(4, (2, 8, 8))
        mask = label_mix(labels, 4)
        assert mask.shape == (2, 1, 8, 8)
        for one, chosen in zip(labels, mask[:, 0], strict=True):
            assert all(chosen[one == c].unique().numel() == 1 for c in one.unique())
        assert mask.any() and not mask.all()
        real, fake = torch.randn(2, 2, 5, 8, 8)
        assert label_mix_distance(torch.where(mask, real, fake), real, fake, mask) == 0
        assert label_mix_distance(fake, real, fake, mask) > 0

    def test_every_pixel_has_its_scores(self):
        D = UNetDiscriminator([4, 6, 8], 5)
        x = torch.rand(2, 3, 38, 64, requires_grad=True)
        ((*features, found),) = D(x)
        assert found.shape == (2, 6, 38, 64) and len(features) == 6
        # Of the pixel, and of what is far from it: through the skip and through the lowest resolution.
        (gradient,) = torch.autograd.grad(found[0, 0, 17, 30], x)
        assert gradient[0, :, 16:18, 30:32].abs().sum() > 0 and gradient[0, :, 17, 8:16].abs().sum() > 0
        assert not any(isinstance(m, torch.nn.ConvTranspose2d) for m in D.modules())

    @pytest.mark.parametrize("mixed", [0.0, 2.0])
    def test_a_step_s_losses(self, mixed):
        weights = {"lpips_weight": 0.5} if has_trunk("squeezenet1_1") else {}
        module = nano(discriminator="oasis", ignored="[sky]", D="[4,6]", label_mix_weight=mixed, **weights)
        module.D.eval()  # or spectral norms go on with every pass
        recorder, crops, c = Recorder(module), module.random_maps(batch(), 0), module.config.train
        torch.manual_seed(5)
        module.loss_step(crops)
        found = dict(recorder.logged)
        torch.manual_seed(5)
        x, t = module.pictures(crops), crops.semantic
        level = (torch.rand(2) * 3).long()
        output = module.system(x, level, crops.prepared, module.noise(x), c.rate_weight)
        real, fake = module.D(x)[0], module.D(output.picture)[0]
        loss_d = oasis_discriminator(real[-1], fake[-1], t, [0])
        if mixed:
            mask = label_mix(t, 12)
            mixture = torch.where(mask, x, output.picture)
            loss_d = loss_d + mixed * label_mix_distance(module.D(mixture)[0][-1], real[-1], fake[-1], mask)
        loss_g = oasis_generator(fake[-1], t, [0])
        matching = sum((a - b).abs().mean() for a, b in zip(real[:-1], fake[:-1], strict=True))
        heat = output.heat.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].expand_as(x)
        mse = (x - output.picture).square()[heat].mean() if heat.any() else torch.tensor(0.0)
        total = loss_g + 12 * matching + 12 * mse + output.rate.mean() / 64**2
        if weights:
            lpips = Lpips("squeeze")(crops.image, output.picture / 2 + 0.5).mean()
            assert found["loss/lpips"] == pytest.approx(lpips.item(), rel=1e-4)
            total = total + 0.5 * lpips
        expected = {"discriminator": loss_d, "adversarial": loss_g, "features": matching, "total": total}
        for name, value in expected.items():
            assert found[f"loss/{name}"] == pytest.approx(value.item(), rel=1e-4), name

    def test_a_codebook_stands_for_label_maps(self):
        module = nano(discriminator="oasis", labels="codebook", codes=6, D="[4,6]", frozen="[E.,H.]", **GC)
        assert not module.sees_labels and module.D.last[0].out_channels == 4 * 7
        x = batch().image
        module.make_codebook([x])
        found = module.codes(2 * x - 1)
        assert found.shape == (2, 64, 64) and 1 < found.unique().numel() <= 6
        # Each position has the nearest centre.
        u = module.system.E.pixels(x).permute(0, 2, 3, 1)[1, 3, 5]
        nearest = (module.codebook - u).square().sum(1).argmin()
        assert (found[1, 24:32, 40:48] == nearest).all()
        assert "codebook" in module.state_dict()
        recorder = Recorder(module)
        module.loss_step(batch()._replace(semantic=None))
        assert recorder.logged["loss/adversarial"] > 0
        with pytest.raises(ConfigError, match=r"train\.labels is 'codebook'"):
            nano(discriminator="oasis", labels="codebook", **GC)

    def test_label_maps_are_asked_for(self):
        module = nano(discriminator="oasis", conditional="false", **GC)
        Recorder(module)
        with pytest.raises(ConfigError, match="codebook"):
            module.loss_step(batch()._replace(semantic=None))
