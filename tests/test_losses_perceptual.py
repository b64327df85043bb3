"""Feature losses by hand, the frozen backbone, and weights that are absent or wrong."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from genic.datamodules.images import read_image
from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from genic.losses import pretrained
from genic.losses.perceptual import FrozenFeatures, Lpips, content_loss, feature_distance, style_loss
from genic.losses.pretrained import trunk_features

SHARED = Path(os.environ.get("GENIC_DATA", Path(__file__).parents[2] / "shared"))
CLASSIFIER = SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"
SMALL = "mobilenetv2_035"


def test_content_by_hand() -> None:
    f, p = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]]), torch.tensor([[[[3.0, 5.0]]], [[[1.0, 0.0]]]])
    assert content_loss([f], [p]).item() == pytest.approx(((4 + 9) / 2 + 1 / 2) / 2)
    assert content_loss([f, f], [p, p], [1, 0.5]).item() == pytest.approx(1.5 * 3.5)


def test_style_by_hand() -> None:
    # Two channels, two positions: G = F Fᵀ.
    f, a = torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    # G = [[5, 2], [2, 1]], A = [[1, 1], [1, 2]]; G − A = [[4, 1], [1, −1]], squares sum to 19.
    assert style_loss([f], [a]).item() == pytest.approx(19 / (4 * 2**2 * 2**2))
    shuffled = f[..., [1, 0]]
    assert style_loss([f], [shuffled]).item() == 0
    assert content_loss([f], [shuffled]).item() > 0


def test_feature_distance_by_hand() -> None:
    x, y = (
        [torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 2, 2)],
        [torch.full((1, 2, 1, 1), 3.0), torch.zeros(1, 1, 2, 2)],
    )
    assert feature_distance(x, y).item() == pytest.approx(4)
    assert feature_distance(x, y, [2, 0]).item() == pytest.approx(6)


@pytest.mark.parametrize("loss", [feature_distance, content_loss, style_loss])
def test_gradients_against_finite_differences(loss) -> None:
    generator = torch.Generator().manual_seed(0)
    x = [
        torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)
    ]
    y = [torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *features: loss(features, y, [0.3, 2.0]), x)


def test_gram_keeps_float32_under_autocast() -> None:
    x, y = ([torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(k))] for k in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = style_loss(x, y)
    assert torch.equal(inside, style_loss(x, y))


def test_mismatched_layers() -> None:
    one = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="as many of each"):
        content_loss([one], [one, one])
    with pytest.raises(ValueError, match="as many of each"):
        content_loss([one], [one], [1, 2])
    with pytest.raises(ValueError, match="differ in shape"):
        style_loss([one], [one[..., :1]])


def test_features_are_timm_s_frozen_and_differentiable() -> None:
    torch.manual_seed(0)
    features = FrozenFeatures(SMALL, None, layers=(0, 2))
    features.train()
    assert not any(module.training for module in features.modules())
    assert not any(p.requires_grad for p in features.parameters())
    x = torch.rand(2, 3, 64, 48, requires_grad=True)
    out = features(x)
    assert [tuple(f.shape[2:]) for f in out] == [(32, 24), (8, 6)]
    reference = timm.create_model(SMALL, features_only=True, out_indices=(0, 2)).eval()
    reference.load_state_dict(features.network.state_dict(), strict=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for ours, theirs in zip(out, reference((x - mean) / std), strict=True):
        torch.testing.assert_close(ours, theirs)
    feature_distance(out, [f.detach() + 1 for f in out]).backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() > 0


def test_normalisation_is_a_parameter() -> None:
    torch.manual_seed(0)
    half = (0.5, 0.5, 0.5)
    features = FrozenFeatures(SMALL, None, mean=half, std=half)
    x = torch.rand(1, 3, 32, 32)
    expected = features.network.forward_intermediates(2 * x - 1, intermediates_only=True)
    torch.testing.assert_close(features(x), expected)


def test_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = timm.create_model(SMALL).state_dict()
    save_file(state, tmp_path / "net.safetensors")
    features = FrozenFeatures(SMALL, tmp_path / "net.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in features.network.state_dict().items())


def test_missing_foreign_and_damaged_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"put a safetensors file there"):
        FrozenFeatures(SMALL, tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match=f"does not hold the weights of timm's {SMALL}"):
        FrozenFeatures(SMALL, tmp_path / "foreign.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(WeightsError, match="does not hold"):
        FrozenFeatures(SMALL, tmp_path / "damaged.safetensors")


def test_hub_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", _no_network)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", _no_network)
    with pytest.raises(WeightsError, match=r"give a safetensors file of the model \(weights=PATH\)"):
        FrozenFeatures("mobilenetv2_100", "hub")


def _no_network(*_: object, **__: object) -> dict[str, Tensor]:
    raise OSError("no network in tests")


def test_unknown_models() -> None:
    with pytest.raises(ConfigError, match="no model 'nonet'"):
        FrozenFeatures("nonet", None)


@pytest.mark.skipif(not CLASSIFIER.is_file(), reason=f"needs {CLASSIFIER} (GENIC_DATA)")
def test_shared_classifier_sees_degradation() -> None:
    from PIL import Image
    from torchvision.transforms.functional import gaussian_blur, pil_to_tensor

    half = (0.5, 0.5, 0.5)
    features = FrozenFeatures("mobilenetv2_100", CLASSIFIER, mean=half, std=half, pad_type="same")
    picture = pil_to_tensor(Image.open(SHARED / "kodak" / "kodim23.png"))[None, :, 100:324, 300:524] / 255
    with torch.no_grad():
        own = features(picture)
        mild, strong = (features(gaussian_blur(picture, [15, 15], [s, s])) for s in (0.8, 3.0))
    for loss in (feature_distance, content_loss, style_loss):
        assert loss(own, own).item() == 0
        assert 0 < loss(own, mild) < loss(own, strong)


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's hub folder, empty, without a network and without the shared files."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    monkeypatch.delenv("GENIC_DATA", raising=False)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def _random_trunk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    state = squeezenet1_1(weights=None).state_dict()
    torch.save(state, folder / "squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setattr(pretrained, "_sha256", lambda path: "b8a52dc0")
    return state


def _reference(net: str, trunk: dict[str, Tensor]) -> torch.nn.Module:
    """The package's own network on a trunk."""
    lpips = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks torchvision in a way of old
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    names = {key: re.sub(r"^slice\d+\.", "", key) for key in network.net.state_dict()}
    network.net.load_state_dict({key: trunk[name] for key, name in names.items()})
    return network


def test_lpips_without_its_trunk(hub_folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"alexnet-owt-7be5be79\.pth is missing .*: fetch it once from"):
        Lpips("alex")
    with pytest.raises(ConfigError, match="alex, squeeze, vgg"):
        Lpips("resnet")
    (hub_folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"not these")
    with pytest.raises(WeightsError, match="is damaged"):
        Lpips("squeeze")


def test_lpips_equals_the_package_on_one_trunk(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = _random_trunk(hub_folder, monkeypatch)
    ours = Lpips("squeeze")
    theirs = _reference("squeeze", {key.removeprefix("features."): t for key, t in state.items()})
    x, y = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    expected = theirs(2 * x - 1, 2 * y - 1).flatten()
    torch.testing.assert_close(ours(x, y), expected)
    assert (expected > 0).all() and (ours(x, x) == 0).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(x, y), expected, rtol=0.02, atol=1e-4)
    assert not any(module.training for module in ours.train().modules())
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_lpips_has_a_gradient_where_features_vanish(hub_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    _random_trunk(hub_folder, monkeypatch)
    network = Lpips("squeeze")
    with torch.no_grad():
        network.trunk[0].bias.fill_(-100.0)  # so that no feature is above zero
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(x, torch.rand(1, 3, 32, 32)).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("net", "trunk"), [("alex", "alexnet"), ("squeeze", "squeezenet1_1")])
def test_lpips_on_photographs_equals_the_package(
    net: str, trunk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (SHARED / "weights" / f"{trunk}_features_float16.safetensors").is_file():
        pytest.skip(f"{SHARED} has no {trunk}")
    monkeypatch.setenv("GENIC_DATA", str(SHARED))
    from torchvision.transforms.functional import gaussian_blur

    ours, theirs = Lpips(net), _reference(net, trunk_features(trunk))
    x = torch.from_numpy(read_image(SHARED / "kodak" / "kodim23.png")).permute(2, 0, 1)[None, :, :256, :384]
    x = x.float() / 255
    mild, strong = (gaussian_blur(x, [15, 15], [s, s]) for s in (0.8, 3.0))
    for y in (mild, strong):
        assert ours(x, y).item() == pytest.approx(theirs(x, y, normalize=True).item(), abs=1e-6)
    assert 0.01 < ours(x, mild) < ours(x, strong) < 1


def test_lpips_of_published_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics' documentation prints these. (The reference's own examples are in no archive of the package, only in
    its repository.)"""
    if not (SHARED / "weights" / "squeezenet1_1_features_float16.safetensors").is_file():
        pytest.skip(f"{SHARED} has no squeezenet1_1")
    monkeypatch.setenv("GENIC_DATA", str(SHARED))
    generator = torch.Generator().manual_seed(42)
    x, y = (torch.rand(2, 3, 100, 100, generator=generator) for _ in range(2))
    assert Lpips("squeeze")(x, y).tolist() == pytest.approx([0.1024, 0.0938], abs=1e-4)


@pytest.mark.parametrize(("net", "distances"), [("alex", (0.722, 0.138)), ("squeeze", (0.711, 0.148))])
def test_lpips_of_the_reference_s_examples(net: Any, distances, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SHARED / "lpips_examples"
    if not (folder / "ex_ref.png").is_file():
        pytest.skip(f"put ex_ref.png, ex_p0.png, ex_p1.png of richzhang/PerceptualSimilarity into {folder}")
    monkeypatch.setenv("GENIC_DATA", str(SHARED))
    ref, *others = (
        torch.from_numpy(read_image(folder / f"ex_{name}.png")).permute(2, 0, 1)[None] / 255
        for name in ("ref", "p0", "p1")
    )
    assert [Lpips(net)(ref, other).item() for other in others] == pytest.approx(distances, abs=1e-3)


def test_lpips_from_its_least_side(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _random_trunk(hub_folder, monkeypatch)
    network = Lpips("squeeze")
    side = network.min_side
    assert torch.isfinite(network(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side))).all()
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 3, side - 1, side - 1), torch.rand(1, 3, side - 1, side - 1))
