"""Extreme semantic compression: networks, quantiser, entropy model, maps, a training step, the codec, the tables."""

from __future__ import annotations

import dataclasses
import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from genic.datamodules.batch import Batch
from genic.datamodules.images import read_image, write_png
from genic.eval.distances import frechet, kernel_distance, patches
from genic.eval.segmentation import Segmenter, scores
from genic.experiments import tables
from genic.experiments.config import load_config
from genic.experiments.paper_tables.extreme_semantic.gc import _rate_text
from genic.experiments.paper_tables.extreme_semantic.scenes import same_quality_rate
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    SymbolMismatchError,
    WeightsError,
)
from genic.lightning_modules.codec.weights import save_weights
from genic.lightning_modules.entropy import folded
from genic.lightning_modules.entropy.coder import EscapeReader
from genic.lightning_modules.entropy.grid import exact_copy
from genic.lightning_modules.entropy.latents import LatentCoder, channels_last
from genic.lightning_modules.entropy.range_coder import TOTAL
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel, ExtremeSemanticTraining
from genic.lightning_modules.extreme_semantic.map_coding import CODERS, decode_map, encode_map, map_sizes
from genic.lightning_modules.extreme_semantic.maps import (
    cells,
    class_numbers,
    heat_of,
    margin,
    merge,
    position_means,
    random_heat,
    wanted_positions,
)
from genic.lightning_modules.extreme_semantic.module import masked_mse, open_features
from genic.lightning_modules.extreme_semantic.networks import Discriminator, Residual
from genic.lightning_modules.extreme_semantic.networks import scores as d_scores
from genic.lightning_modules.extreme_semantic.system import Output, System, noise_of
from genic.lightning_modules.registry import open_codec
from genic.losses.gan import feature_matching, least_squares_discriminator, least_squares_generator
from tests import helpers
from tests.helpers import photograph
from tests.recorder import Recorder

nano = partial(helpers.nano, "extreme_semantic")


def scene_labels(height: int = 96, width: int = 128) -> np.ndarray:
    """Sky, building, road from top to bottom, and a car of 48×40 in the middle."""
    labels = np.full((height, width), 3, np.uint8)
    labels[: height // 3] = 0
    labels[height // 3 : height // 2, width // 2 :] = 1
    labels[32:80, 48:88] = 8
    return labels


def batch(count: int = 2, side: int = 64) -> Batch:
    images = np.stack([data.astronaut()[40 * k : 40 * k + side, 100 : 100 + side] for k in range(count)])
    labels = np.stack(
        [scene_labels(side, side) if k % 2 else scene_labels(side, side)[::-1] for k in range(count)]
    )
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return Batch(x, semantic=torch.from_numpy(labels.copy()).long())


@pytest.fixture(scope="module")
def codec() -> ExtremeSemanticCodec:
    """After some steps on one photograph."""
    module = nano()
    x, t = 2 * batch().image - 1, batch().semantic
    optimiser = torch.optim.Adam(module.system.parameters(), lr=4e-3)
    generator = np.random.default_rng(0)
    for _ in range(40):
        maps = module.random_maps.drawn(t, generator)
        output = module.system(x, torch.randint(3, (2,)), maps, module.noise(x), 0.1)
        loss = 12 * masked_mse(x, output, 16) + output.rate.mean() / x[0, 0].numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.codec()


def conv(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)


def notation(network: torch.nn.Module) -> list[str]:
    """The layers of a network on their way, as Johnson et al. write them."""
    layers, within = [], set()
    for module in network.modules():
        if isinstance(module, Residual):
            inner = [m for m in module.modules() if conv(m)]
            within |= set(inner)
            assert [(m.in_channels, m.kernel_size, m.stride) for m in inner] == 2 * [
                (inner[0].out_channels, (3, 3), (1, 1))
            ]
            layers.append(f"R{inner[0].out_channels}")
        elif conv(module) and module not in within:
            (k, _), (s, _) = module.kernel_size, module.stride
            up = isinstance(module, torch.nn.ConvTranspose2d)
            assert s == 1 or (k, s) == (3, 2)
            layers.append(("u" if up else "d" if s == 2 else f"c{k}s1-") + str(module.out_channels))
    return layers


class TestNetworks:
    def test_the_paper_preset_is_the_publication_s(self):
        """Agustsson et al., appendix: the layers in the notation of Johnson et al., by name, size and count."""
        config = load_config("extreme_semantic", ["preset=paper"]).paper()
        with torch.device("meta"):
            system = System(config.model)
            D = Discriminator(config.train.D, config.train.scales, len(config.model.classes))
        encoder = ["c7s1-60", "d120", "d240", "d480", "d960", "c3s1-8"]
        generator = ["c3s1-960", *9 * ["R960"], "u480", "u240", "u120", "u60", "c7s1-3"]
        assert (notation(system.E), notation(system.G)) == (encoder, generator)
        assert system.F is None and isinstance(system.after, torch.nn.Identity)
        assert config.model.latent_stride == config.model.stride == 16
        assert [round(c * math.log2(5) / 256, 3) for c in (2, 4, 8)] == [0.018, 0.036, 0.073]
        # pix2pixHD's multi-scale D.
        one = [
            (m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in D.scales[0].modules() if conv(m)
        ]
        two, widths = (2, 2), [15, 64, 128, 256, 512, 1]
        steps = [two, two, two, (1, 1), (1, 1)]
        assert one == [(a, b, (4, 4), s) for a, b, s in zip(widths, widths[1:], steps, strict=False)]
        assert len(D.scales) == 2
        c = config.train
        weights = (c.adversarial_weight, c.mse_weight, c.feature_weight, c.perceptual_weight, c.rate_weight)
        assert weights == (1, 12, 12, 12, 0)

    def test_the_selective_preset_is_the_publication_s(self):
        config = load_config("extreme_semantic", ["preset=paper_selective"]).paper()
        with torch.device("meta"):
            system = System(config.model)
        assert notation(system.E) == ["c7s1-60", "d120", "d240", "d480", "c3s1-8"]
        assert notation(system.after) == ["c3s1-480", "d960"]
        assert notation(system.F) == ["c7s1-60", "d120", "d240", "d480", "d960"]
        assert notation(system.G)[:2] == ["c3s1-960", "R960"] and system.G.first.conv.in_channels == 960 + 960
        assert config.model.latent_stride == 8 and config.model.stride == 16

    def test_nothing_between_the_last_convolution_and_the_quantiser_is_non_negative(self):
        module = nano()
        kinds = [type(m).__name__ for m in (module.system.E.last.conv, module.system.E.norm)]
        assert kinds == ["Conv2d", "BatchNorm2d"]
        w = module.system.latents(2 * batch().image - 1, torch.tensor([2, 2]))
        assert w.min() < -1.5 and w.max() > 1.5

    def test_every_centre_is_reached(self):
        module = nano()
        index = module.system.Q.index(module.system.latents(2 * batch(4).image - 1, torch.tensor([2] * 4)))
        shares = torch.tensor([(index == c).float().mean() for c in folded.CENTRES])
        assert (shares > 0.02).all() and shares.sum() == pytest.approx(1)

    @pytest.mark.parametrize("norm", ["instance", "channel"])
    def test_sizes(self, norm):
        system = nano(norm=norm).system.eval()
        for height, width in ((16, 16), (64, 112)):
            x = torch.zeros(1, 3, height, width)
            w = system.latents(x, torch.tensor([2]))
            assert w.shape == (1, 4, height // 16, width // 16)
            noise = torch.zeros(1, 1, *w.shape[2:])
            assert system.reconstruct(w, torch.tensor([2]), None, noise).shape == x.shape

    def test_what_does_not_fit_is_an_error(self):
        for change in (
            "model.C=[8,4]",
            "model.C=[]",
            "model.norm=batch",
            "model.fold_out=2",
            "model.F=[8]",
            "model.map_stride=5",
            "model.classes=[]",
            "model.skew=3",
            "train.layer_weights=[1.0]",
            "train.selective=0",
            "train.selective=1.5",
            "train.D=[]",
            "train.rate_weight=-1",
            "train.sigma=0",
        ):
            field = change.partition("=")[0]
            field = "model.F" if field == "model.map_stride" else "model.G" if "fold" in field else field
            with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
                load_config("extreme_semantic", ["preset=nano", change])


class TestFoldedGaussians:
    def test_probabilities_sum_to_one_and_agree_with_the_tables(self):
        mu = torch.tensor([-3.0, -0.5, 0.0, 0.875, 2.0])
        s = torch.tensor([-20.0, -6.0, 0.0, 7.5, 15.0])
        p = 2 ** -folded.folded_bits(mu[:, None], s[None])
        torch.testing.assert_close(p.sum(-1), torch.ones(5, 5), atol=3e-5, rtol=0)
        counts = folded.build_folded_tables()
        assert (counts.sum(1) == TOTAL).all() and counts.min() >= 1
        models = folded.FoldedModels(counts)
        centre, row = models.select(*(1024 * t.double() for t in torch.meshgrid(mu, s, indexing="ij")))
        assert not centre.any()
        np.testing.assert_allclose(models.probabilities(0, row), p.reshape(-1, 5).numpy(), atol=2e-5)

    def test_hand_computed(self):
        index = torch.tensor(63 * math.log(1.0 / 0.11) / math.log(64 / 0.11) - folded.START_INDEX)  # σ = 1
        p = 2 ** -folded.folded_bits(torch.tensor(0.0), index)
        expected = torch.tensor([0.0668, 0.2417, 0.3829, 0.2417, 0.0668])  # Φ(−1.5), Φ(−0.5) − Φ(−1.5), …
        torch.testing.assert_close(p, expected, atol=1e-4, rtol=0)

    def test_a_wide_gaussian_is_nearly_uniform(self):
        index = torch.tensor(63 * math.log(1.55 / 0.11) / math.log(64 / 0.11) - folded.START_INDEX)
        assert folded.folded_bits(torch.tensor(0.0), index).mean() < math.log2(5) + 0.02

    @pytest.mark.parametrize("size", [(1, 1), (5, 9)])
    def test_it_comes_back_and_only_what_is_wanted_is_coded(self, size):
        system = nano().system
        coder, level = coder_of(system), torch.tensor([1.0])
        generator = torch.Generator().manual_seed(1)
        w = torch.randint(-2, 3, (4, *size), generator=generator)
        labels = torch.randint(10, 13, (1, 2 * size[0], 2 * size[1]), generator=generator)
        psi = coder.activations(system.psi(labels, w[None].float()))
        sent = []
        for share in (0.0, 0.4, 1.0):
            wanted = torch.rand((4, *size), generator=generator) < share
            symbols, at = channels_last(w * wanted), channels_last(wanted)
            stream = coder.encode(symbols, psi, level, bytearray(), at)
            assert torch.equal(coder.decode(stream, psi, level, EscapeReader(b""), at), symbols)
            sent.append(len(stream))
        assert sent == sorted(sent) and sent[0] == 0

    def test_estimated_bits_are_the_stream_s(self):
        module = nano()
        system, x = module.system.eval(), 2 * batch(1, 256).image - 1
        level = torch.tensor([2])
        output = system(x, level, None, module.noise(x))
        w, coder = system.latents(x, level), coder_of(system)
        symbols = channels_last(system.hard(w, level, output.heat)[0])
        wanted = channels_last(system.wanted(level, output.heat)[0])
        stream = coder.encode(symbols, coder.activations(system.psi(None, w)), level, bytearray(), wanted)
        assert 8 * len(stream) == pytest.approx(float(output.rate.detach()), rel=0.02, abs=40)


def coder_of(system: System) -> LatentCoder:
    return LatentCoder(exact_copy(system.H), folded.FoldedModels(folded.build_folded_tables()))


def indexed(labels: np.ndarray, map_stride: int) -> np.ndarray:
    """A file's map that preserves cars."""
    return merge(labels, labels == 8, wanted_positions(labels == 8, 16), 12, map_stride)


class TestMaps:
    def test_cells_and_heat(self):
        labels = torch.tensor([[[0, 0, 3, 99], [0, 1, 3, 3]]])
        assert cells(labels, 4, 2).tolist() == [[[0, 3]]]
        assert cells(labels, 4, 1).tolist() == [[[0, 0, 3, 3], [0, 1, 3, 3]]]
        merged = torch.tensor([[[4, 4, 4, 1], [4, 4, 4, 4]]])
        assert heat_of(merged, 4, 2).tolist() == [[[True, False]]]

    def test_class_names(self):
        assert class_numbers("car, pedestrian", ExtremeSemanticModel().classes) == [8, 9]
        assert class_numbers("", ["a"]) == []
        with pytest.raises(ConfigError, match="there are"):
            class_numbers("cat", ["dog"])

    def test_merging_keeps_labels_where_synthesised_only(self):
        labels, preserved = np.zeros((32, 64), np.uint8), np.zeros((32, 64), bool)
        labels[:, 36:] = 5
        preserved[:, :20] = True  # the second column of positions is wanted by a quarter: synthesised
        heat = wanted_positions(preserved, 16)
        assert heat.tolist() == [[True, False, False, False]] * 2
        assert merge(labels, preserved, heat, 12, 16).tolist() == [[12, 0, 5, 5]] * 2
        fine = merge(labels, preserved, heat, 12, 8)
        assert fine.shape == (4, 8) and (fine[:, :2] == 12).all() and (fine[:, 2:4] == 0).all()
        # A wanted label does not become that of a synthesised position that holds others.
        labels[:, 16:22] = 8
        preserved[:] = labels == 8
        assert 8 not in merge(labels, preserved, wanted_positions(preserved, 16), 12, 16)

    def test_the_margin_lies_where_wanted_positions_suffer(self):
        wanted = np.zeros((4, 6), bool)
        wanted[:2, :2] = wanted[3, 5] = True
        harm = np.full((4, 6), 10.0)
        harm[1, 1], harm[3, 3] = 500.0, 9000.0  # the second is not wanted: no matter
        assert np.argwhere(margin(wanted, harm)).tolist() == [[1, 2], [2, 1]]
        harm[3, 5] = 900.0
        assert margin(wanted, harm)[2:, 4:].tolist() == [[True, True], [True, False]]

    def test_means_over_positions(self):
        error = np.arange(24.0).reshape(4, 2, 3)
        means = position_means(error, (3, 1), 2)
        assert means.tolist() == [[error[:2].mean()], [error[2:].mean()], [0.0]]

    def test_random_heat_keeps_a_quarter_of_the_instances(self):
        checker = torch.from_numpy(np.indices((16, 16)).sum(0) % 2)
        islands = checker * torch.arange(1, 257).reshape(16, 16)
        generator = np.random.default_rng(0)
        shares = [random_heat(islands, 0.25, 0.0, generator)[checker == 1].float().mean() for _ in range(20)]
        assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
        boxes = [random_heat(islands, 0.25, 1.0, generator) for _ in range(10)]
        for heat in boxes:
            rows, columns = heat.any(1).sum(), heat.any(0).sum()
            assert heat.sum() == rows * columns  # a box
        assert len({int(heat.sum()) for heat in boxes}) > 3

    def test_the_map_is_lossless_and_the_smallest_is_taken(self):
        generator = np.random.default_rng(0)
        smooth = indexed(scene_labels(240, 320), 16)
        for labels in (
            smooth,
            generator.integers(0, 13, (7, 5)).astype(np.uint8),
            np.zeros((1, 1), np.uint8),
        ):
            section = encode_map(labels, 13)
            np.testing.assert_array_equal(decode_map(section, labels.shape, 13), labels)
            found = map_sizes(labels, 13)
            assert set(found) == set(CODERS) and len(section) == min(found.values())
        assert len(encode_map(smooth, 13)) < smooth.size / 6

    @pytest.mark.parametrize("coder", CODERS)
    def test_each_coder(self, coder):
        from genic.lightning_modules.extreme_semantic import map_coding

        labels = indexed(scene_labels(), 8)
        stream = map_coding._streams(labels, 13)[coder]
        section = bytes([CODERS.index(coder)]) + stream
        np.testing.assert_array_equal(decode_map(section, labels.shape, 13), labels)
        with pytest.raises(DamagedFileError):
            decode_map(section, (labels.shape[0] + 3000, labels.shape[1]), 13)

    def test_no_map(self):
        for section in (b"", b"\xff123", b"\0" + bytes(range(200))):
            with pytest.raises(DamagedFileError):
                decode_map(section, (3, 4), 13)


class TestTraining:
    def test_the_losses_by_hand(self):
        module = nano(selective=0.6)
        recorder = Recorder(module)
        torch.manual_seed(3)
        crops = module.random_maps(batch(), 0)
        module.loss_step(crops)
        found = dict(recorder.logged)
        # The same draws, one step at a time.
        torch.manual_seed(3)
        c, x, t = module.config.train, 2 * batch().image - 1, batch().semantic
        level = (torch.rand(2) * 3).long()
        output = module.system(x, level, crops.prepared, module.noise(x), c.rate_weight)
        mask = output.heat.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].expand_as(x)
        mse = ((x - output.picture) ** 2)[mask].mean() if mask.any() else torch.tensor(0.0)
        real, fake = module.D(x, t), module.D(output.picture, t)
        lsgan_d = (
            sum(((r[-1] - 1) ** 2).mean() + (f[-1] ** 2).mean() for r, f in zip(real, fake, strict=True)) / 2
        )
        lsgan_g = sum(((f[-1] - 1) ** 2).mean() for f in fake) / 2
        matching = (
            sum(
                (a - b).abs().mean()
                for r, f in zip(real, fake, strict=True)
                for a, b in zip(r[:-1], f[:-1], strict=True)
            )
            / 2
        )
        phi_x, phi = (module.features(p / 2 + 0.5) for p in (x, output.picture))
        perceptual = sum(w * (a - b).abs().mean() for w, a, b in zip((0.5, 1.0), phi_x, phi, strict=True))
        bpp = output.rate.mean() / 64**2
        expected = {
            "loss/masked_mse": mse,
            "loss/discriminator": lsgan_d,
            "loss/adversarial": lsgan_g,
            "loss/features": matching,
            "loss/perceptual": perceptual,
            "rate/bpp_estimated": bpp,
            "loss/total": lsgan_g + 12 * mse + 12 * matching + 12 * perceptual + bpp,
        }
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(torch.as_tensor(value).detach()), rel=1e-4, abs=1e-6), (
                name
            )

    def test_every_scale_counts_in_the_generator_s_loss(self):
        module = nano()
        x, t = (2 * batch().image - 1).requires_grad_(), batch().semantic
        outputs = module.D(x, t)
        assert len(outputs) == 2 and outputs[0][-1].shape != outputs[1][-1].shape
        loss = least_squares_generator(d_scores(outputs))
        gradients = torch.autograd.grad(loss, [o[-1] for o in outputs], retain_graph=True)
        assert all((g != 0).any() for g in gradients)
        by_hand = [float(((o[-1].detach() - 1) ** 2).mean()) for o in outputs]
        assert float(loss.detach()) == pytest.approx(sum(by_hand) / 2)
        assert feature_matching([o[:-1] for o in outputs], [o[:-1] for o in outputs]).item() == 0

    def test_least_squares_by_hand(self):
        real, fake = [torch.tensor([1.0, 0.5])], [torch.tensor([0.0, 0.5])]
        assert float(least_squares_discriminator(real, fake)) == pytest.approx(0.125 + 0.125)
        assert float(least_squares_generator(fake)) == pytest.approx((1 + 0.25) / 2)

    def test_permuted_maps_change_the_discriminator_s_scores(self):
        """Each picture of a batch is judged with its own map."""
        module = nano()
        x, t = 2 * batch(3).image - 1, batch(3).semantic
        t[2] = 5
        scores_of = lambda labels: [s.mean((1, 2, 3)) for s in d_scores(module.D(x, labels))]  # noqa: E731
        own, permuted = scores_of(t), scores_of(t[[1, 2, 0]])
        for a, b in zip(own, permuted, strict=True):
            assert (a - b).abs().min() > 1e-5
        alone = [s.mean((1, 2, 3)) for s in d_scores(module.D(x[1:2], t[1:2]))]
        for a, b in zip(own, alone, strict=True):
            torch.testing.assert_close(a[1:2], b)
        with pytest.raises(ValueError, match="label map"):
            module.D(x, None)
        blind = nano(conditional="false")
        a, b = (d_scores(blind.D(x, labels)) for labels in (t, None))
        torch.testing.assert_close(a, b)

    def test_real_and_decoded_pictures_are_judged_under_the_same_map(self):
        module = nano()
        Recorder(module)
        seen = []
        forward = module.D.forward
        module.D.forward = lambda x, labels: seen.append(labels) or forward(x, labels)
        module.loss_step(module.random_maps(batch(), 0))
        assert len(seen) == 4 and all(torch.equal(labels, batch().semantic) for labels in seen)

    def test_a_picture_decoded_as_it_is_has_the_original_s_features(self):
        """D has made a step on these very pictures before it judges them."""
        module = nano(selective=0.0, F="[]")
        recorder, decode, x = Recorder(module), module.system.forward, module.pictures(batch())
        recorder.optimisers[module.optimiser_names.index("discriminator")].param_groups[0]["lr"] = 0.1
        before = module.D.scales[0].layers[-1].weight.clone()

        def perfect(*arguments: object) -> Output:
            output = decode(*arguments)
            return output._replace(picture=x + 0 * output.picture)

        module.system.forward = perfect
        module.loss_step(batch())
        assert (module.D.scales[0].layers[-1].weight != before).any()
        assert recorder.logged["loss/masked_mse"] == 0
        assert recorder.logged["loss/features"] == pytest.approx(0, abs=1e-6)

    def test_beta_0_is_selectable(self):
        module = nano()
        x = 2 * batch().image - 1
        last, learns = module.system.E.last.conv.weight, module.system.H.out.weight
        for beta in (0.0, 1.0):
            bits = module.system(x, torch.tensor([2, 2]), None, module.noise(x), beta).rate.sum()
            encoder, model = torch.autograd.grad(bits, [last, learns])
            assert (encoder.abs().max() > 0) == (beta > 0)
            assert model.abs().max() > 0

    def test_distortion_is_masked(self):
        x = torch.zeros(1, 3, 32, 32)
        x_hat = torch.ones_like(x)
        x_hat[..., 16:] = 3.0
        heat = torch.tensor([[[True, False], [True, False]]])
        assert float(masked_mse(x, Output(x_hat, torch.zeros(1), heat, torch.zeros(1)), 16)) == pytest.approx(
            1.0
        )
        assert float(
            masked_mse(x, Output(x_hat, torch.zeros(1), ~heat, torch.zeros(1)), 16)
        ) == pytest.approx(9.0)
        assert float(masked_mse(x, Output(x_hat, torch.zeros(1), heat & ~heat, torch.zeros(1)), 16)) == 0

    def test_labels_are_asked_for(self):
        module = nano()
        Recorder(module)
        with pytest.raises(ConfigError, match="semantic"):
            module.loss_step(Batch(batch().image))
        with pytest.raises(ConfigError, match="heat maps"):
            module.loss_step(batch())
        plain = nano(conditional="false", selective=0.0, F="[]")
        Recorder(plain)
        plain.loss_step(Batch(batch().image))

    def test_backbone_weights(self, monkeypatch):
        monkeypatch.delenv("GENIC_DATA", raising=False)
        with pytest.raises(WeightsError, match="GENIC_DATA"):
            open_features(ExtremeSemanticTraining(backbone="mobilenetv2_100", backbone_weights="shared"))


class TestCodec:
    def test_rates_ascend_with_c_and_a_quality_is_a_number_of_channels(self, codec):
        image = photograph()
        files = [codec.encode(image, q) for q in codec.qualities]
        assert [len(f) for f in files] == sorted(len(f) for f in files)
        assert codec.qualities == (1.0, 2.0, 4.0)
        assert codec.cap(4.0) == pytest.approx(4 * math.log2(5) / 256)
        with pytest.raises(ConfigError, match="channels C"):
            codec.encode(image, 3.0)

    def test_selective_compression(self, codec):
        image, labels = photograph(), scene_labels()
        whole = codec.encode(image)
        part = codec.encode(image, labels=labels, preserve="car,pedestrian")
        nothing = codec.encode(image, labels=labels, preserve="")
        ledgers = [Container.from_bytes(data).ledger() for data in (whole, part, nothing)]
        assert "semantic_map" not in ledgers[0]
        assert ledgers[1]["semantic_map"] > 0 and ledgers[2]["latents"] == 0
        assert ledgers[0]["latents"] > ledgers[1]["latents"] > 0
        assert all(
            sum(ledger.values()) == len(f) for ledger, f in zip(ledgers, (whole, part, nothing), strict=True)
        )
        assert codec.decode(part).shape == image.shape
        same = codec.encode(image, labels=labels, preserve=labels == 8)
        assert same == part
        others = ",".join(c for c in codec.config.classes if c != "car")
        assert codec.encode(image, labels=labels, synthesise=others) == part
        assert codec.encode(image, labels=labels, synthesise="") == whole  # nothing to synthesise: GC

    def test_what_is_synthesised_is_neither_coded_nor_counted(self, codec):
        """The latents of synthesised positions do not reach the file."""
        image, labels = photograph(), scene_labels()
        found = codec.semantic_map(codec.encode(image, labels=labels, preserve="car"))
        heat = heat_of(torch.from_numpy(found.astype(np.int64))[None], codec.system.classes, 2)
        assert 0 < heat.sum() < heat.numel()
        asked = []
        encode = codec.coder.encode
        codec.coder.encode = lambda *given: asked.append((given[0], given[-1])) or encode(*given)
        try:
            codec.encode(image, labels=labels, preserve="car")
        finally:
            del codec.coder.encode
        ((w, wanted),) = asked
        assert wanted.sum() == 4 * heat.sum() and (w[~wanted] == 0).all()
        assert (wanted.any(-1) == heat).all()

    def test_arguments_that_do_not_go_together(self, codec):
        image, labels = photograph(), scene_labels()
        for options, words in (
            ({"preserve": "car"}, "labels"),
            ({"labels": labels[:5], "preserve": "car"}, "labels"),
            ({"labels": labels, "preserve": "horse"}, "no class"),
            ({"labels": labels, "preserve": "car", "synthesise": "sky"}, "not both"),
            ({"labels": labels, "preserve": labels}, "bool"),
            ({"seed": 300}, "one byte"),
        ):
            with pytest.raises(ConfigError, match=words):
                codec.encode(image, **options)
        plain = nano(selective=0.0, F="[]").codec()
        with pytest.raises(ConfigError, match="semantic encoder"):
            plain.encode(image, labels=labels, preserve="car")
        assert plain.decode(plain.encode(image)).shape == image.shape

    def test_an_altered_map_is_refused(self, codec):
        data_ = codec.encode(photograph(), labels=scene_labels(), preserve="car")
        container = Container.from_bytes(data_)
        container.sections["semantic_map"] = container.sections["semantic_map"][:-1] + b"\x55"
        with pytest.raises(DamagedFileError):
            codec.decode(container.to_bytes())

    def test_symbols_that_are_not_the_encoder_s_are_refused(self, codec):
        """Whatever altered them, be it the arithmetic of another machine, behind intact bytes."""
        data_, predict = codec.encode(photograph()), codec.coder.context.predict
        try:
            codec.coder.context.predict = lambda *a, **k: predict(*a, **k) + 512 * (torch.arange(8) % 3 == 0)
            with pytest.raises(DamagedFileError):
                codec.decode(data_)
        finally:
            del codec.coder.context.predict
        decode = codec.coder.decode
        try:
            codec.coder.decode = lambda *a: decode(*a).neg()
            with pytest.raises(SymbolMismatchError):
                codec.decode(data_)
        finally:
            del codec.coder.decode

    def test_a_header_that_lies_about_the_size_is_refused_before_the_picture_is_made(
        self, codec, monkeypatch
    ):
        data_ = codec.encode(photograph(), labels=scene_labels(), preserve="car"), codec.encode(photograph())
        monkeypatch.setattr(codec, "_synthesise", lambda *_: pytest.fail("it was made"))
        for container in map(Container.from_bytes, data_):
            for size in ((97, 128), (95, 128), (8192, 8192), (1, 1), (128, 96)):
                with pytest.raises(DamagedFileError):
                    codec.decode(dataclasses.replace(container, height=size[0], width=size[1]).to_bytes())

    def test_the_seed_travels_in_the_file(self, codec):
        image = photograph()
        files = [codec.encode(image, seed=seed) for seed in (0, 0, 7)]
        assert files[0] == files[1]
        pictures = [codec.decode(f) for f in files]
        np.testing.assert_array_equal(pictures[0], pictures[1])
        assert (pictures[0] != pictures[2]).any()
        assert len(files[0]) == len(files[2])
        r = noise_of(3, 2, 64, 64)
        assert float(r.mean()) == pytest.approx(0, abs=0.05) and float(r.var()) == pytest.approx(1, abs=0.05)
        assert noise_of(3, 1, 1, 2).flatten().tolist() == pytest.approx(r.flatten()[:2].tolist())
        assert noise_of(0, 0, 5, 5) is None

    def test_full_hd(self, codec):
        image = np.ascontiguousarray(np.tile(data.astronaut(), (3, 4, 1))[:1080, :1920])
        data_ = codec.encode(image, codec.qualities[0])
        assert codec.decode(data_).shape == (1080, 1920, 3)

    def test_a_finer_stride_after_the_quantiser(self):
        """SC as published: ŵ at half of G's stride, a map of pixels."""
        changes = {"E": "[8,8]", "after": "[8,8]", "F": "[8,8,8,8,8]", "map_stride": 1}
        codec, image, labels = nano(**changes).codec(), photograph(70, 90), scene_labels(70, 90)
        assert (codec.config.latent_stride, codec.config.stride) == (8, 16)
        part = codec.encode(image, labels=labels, preserve="car")
        assert codec.decode(part).shape == image.shape
        assert codec.semantic_map(part).shape == (80, 96)
        assert len(part) != len(codec.encode(image))


class TestShippedWeights:
    def test_kodak_stays_under_the_cap(self):
        codec = open_codec("extreme_semantic:small")
        image = _shared("kodak/kodim23.png")
        assert codec.qualities == (2.0, 4.0, 8.0)
        for quality in codec.qualities:
            bpp = 8 * len(codec.encode(image, quality)) / image[..., 0].size
            assert bpp < codec.cap(quality) < 0.1

    def test_synthesis_saves_half_of_a_street_scene(self):
        from genic.datamodules.images import read_label

        codec, image = open_codec("extreme_semantic:small"), _shared("camvid/test/Seq05VD_f00540.png")
        labels = read_label(_root() / "camvid/testannot/Seq05VD_f00540.png")
        whole = codec.encode(image)
        part = codec.encode(image, labels=labels, synthesise="road,building,sky")
        assert len(part) <= len(whole) / 2


class TestTables:
    def test_distances(self):
        generator = np.random.default_rng(0)
        a, b = generator.normal(0, 1, (4000, 3)), generator.normal([1, 0, 0], 2, (4000, 3))
        assert frechet(a, a) == pytest.approx(0, abs=1e-8)
        # Of N(0, 1) and N(m, 4): m² + d·(1 + 4 − 2·2).
        assert frechet(a, b) == pytest.approx(1 + 3, rel=0.1)
        half = (a[:2000], a[2000:])
        assert abs(kernel_distance(*half)) < 0.05 < kernel_distance(a, b)
        assert len(list(patches(np.zeros((64, 96, 3), np.uint8), 32))) == 6 + 2

    def test_scores_by_hand(self):
        # True class by row, found by column: 3 1 / 1 5 and none of class 2; three pixels are of no class.
        truth = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 3, 3, 200]])
        found = torch.tensor([[0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 2]])
        network = lambda x: torch.nn.functional.one_hot(found, 3).permute(2, 0, 1)[None].float()  # noqa: E731
        measured = scores(network, [(np.zeros((1, 13, 3), np.uint8), truth)], 3)
        assert measured["miou"] == pytest.approx((3 / 5 + 5 / 7) / 2)
        assert measured["accuracy"] == pytest.approx(0.8)

    def test_the_same_quality(self):
        assert same_quality_rate([0.1, 0.4], [10.0, 5.0], 7.5) == (pytest.approx(0.2), False)
        assert same_quality_rate([0.1, 0.4], [10.0, 5.0], 4.0) is None

    def test_a_rate_below_the_coarsest_file_s_is_not_claimed(self):
        found = same_quality_rate([0.1, 0.4], [10.0, 5.0], 11.0)
        assert found == (0.1, True)
        assert _rate_text(found, 0.05) == "at most 0.1000 bpp, at most 2.00 times"
        assert _rate_text(found._replace(at_most=False), 0.05) == "0.1000 bpp, 2.00 times"

    def test_the_command(self, tmp_path, capsys):
        timm = pytest.importorskip("timm")
        from safetensors.torch import save_file

        root = tmp_path / "data"
        for part in ("train", "val", "test"):
            write_png(root / "camvid" / part / "0.png", photograph(208, 224))
            write_png(root / "camvid" / f"{part}annot" / "0.png", scene_labels(208, 224))
        model = timm.create_model("mobilenetv2_100", pad_type="same")
        save_file(model.state_dict(), tmp_path / "backbone.safetensors")
        weights, module = tmp_path / "nano.safetensors", nano(C="[1,4]")
        save_weights(weights, module.export_weights(), module.metadata())
        arguments = ["extreme_semantic", "--weights", str(weights), "--root", str(root), "--data", "camvid"]
        arguments += ["--backbone", str(tmp_path / "backbone.safetensors"), "--sweep", "51,40"]
        arguments += ["--segmenters", "scratch", "--segmenter-batches", "1", "--unconditional", str(weights)]
        assert tables.main([*arguments, "--out", str(tmp_path / "out")]) == 0
        text = (tmp_path / "out" / "table.md").read_text()
        for words in (
            "| GC C = 4 |",
            "unconditional",
            "HEVC ≤ C = 1",
            "road,building,sky",
            "N = ",
            "On the originals",
        ):
            assert words in text
        figure = ["extreme_semantic", "figure", "--weights", str(weights), "--root", str(root)]
        assert tables.main([*figure, "--out", str(tmp_path / "out")]) == 0
        drawn = read_image(tmp_path / "out" / "figure.png")
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 256  # true colour
        panels = [panel for row in np.array_split(drawn, 2) for panel in np.array_split(row, 3, axis=1)]
        assert min(panel.std() for panel in panels) > 10
        assert (tmp_path / "out" / "table.json").is_file()
        with pytest.raises(ConfigError, match="scratch"):
            Segmenter("other", 11)


def _root() -> Path:
    for root in (os.environ.get("GENIC_DATA"), Path(__file__).resolve().parents[2] / "shared"):
        if root is not None and (Path(root) / "camvid").is_dir() and (Path(root) / "kodak").is_dir():
            return Path(root)
    pytest.skip("neither $GENIC_DATA nor ../shared has camvid and kodak")


def _shared(path: str) -> np.ndarray:
    return read_image(_root() / path)
