"""Structural similarity (SSIM), its multi-scale form (MS-SSIM), and MS-SSIM weighted by an annotation map.

SSIM: Wang, Bovik, Sheikh, Simoncelli 2004, equation 13; MS-SSIM: Wang, Simoncelli, Bovik 2003, equation 7.
Gaussian window of 11×11, σ = 1.5, K = (0.01, 0.03), no sample-variance correction; only windows that lie
wholly inside the picture count; each channel on its own, then the mean over channels. Scales are made by
2×2 means, odd sides padded by a zero row as the common implementations do.

Everything is computed in float32 (float64 for float64 input) with autocast off: E[x²] − E[x]² cancels,
bfloat16 has not the digits for it. First derivatives only.

Where it departs from the common implementations: below `FLOOR`, a scale's contrast term c is continued as
FLOOR · exp(c/FLOOR − 1), which joins smoothly. The published power of a negative number has no value, a
ReLU in its place has gradient 0 or NaN, while this leads a picture back from anti-correlation. A mean
contrast below 0.01 does not occur in measurements; ``floor=0`` gives the ReLU there.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.codec.errors import ImageError
from genic.losses._similarity import gaussian, similarity, smooth

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
MIN_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1
"""161: the shortest side whose fifth scale still holds one whole window."""
FLOOR = 0.01
BACKGROUND = 0.1


def ssim(
    x: Tensor,
    y: Tensor,
    data_range: float = 1.0,
    window: int = WINDOW,
    sigma: float = SIGMA,
    reduction: Literal["none", "mean"] = "none",
) -> Tensor:
    """Structural similarity, −1 to 1, 1 for equal pictures.

    Args:
        x, y: [B, C, H, W], sides of ``window`` or more.
        data_range: largest minus smallest possible value.
        window, sigma: side (odd) and standard deviation of the Gaussian window, in pixels.
        reduction: ``none`` for [B], ``mean`` for a scalar.

    Raises:
        ImageError: shapes differ, or a side is below the window.
    """
    x, y = _prepare(x, y, window, "SSIM")
    with torch.autocast(x.device.type, enabled=False):
        (per_channel,) = similarity(x, y, [None], gaussian(window, sigma), data_range, luminance=True)
    return _reduce(per_channel.mean(1), reduction)


def ssim_loss_ics(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """GDAE's L_SSIM = −I·C·S (slide "SSIM loss"), a scalar, −1 at best.

    With C3 = C2 / 2, which the slides leave open, the product is SSIM as in Wang et al. 2004, equation 13;
    window and mean over windows are likewise theirs.
    """
    return -ssim(x, y, data_range, reduction="mean")


def ms_ssim(x: Tensor, y: Tensor, data_range: float = 1.0, floor: float = FLOOR) -> Tensor:
    """Multi-scale structural similarity, 0 to 1, of every picture of a batch.

    Args:
        x, y: [B, C, H, W], sides of at least 161.
        data_range: largest minus smallest possible value.
        floor: see the module; 0 for measurements.

    Returns:
        [B].

    Raises:
        ImageError: shapes differ, or a side is below 161.
    """
    return _ms_ssim(x, y, [None], data_range, floor)[0]


def weighted_ms_ssim(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    background: float = BACKGROUND,
    data_range: float = 1.0,
    floor: float = FLOOR,
) -> Tensor:
    """MS-SSIM that looks at the annotated places first: the wMSSSIM of selective detail's equation 3.

    The publication refers to Akutsu and Naruko 2019 for its definition, which was not found; this form is
    ours. At every scale the mean over windows becomes Σ w·cs / Σ w (at the last, Σ w·l·cs / Σ w), where w =
    background + (1 − background)·t_a is averaged down to the scale like the picture and then by the
    window, so that each window has the mean weight of the pixels it sees. The rest is `ms_ssim`, and with
    a constant map the two are equal.

    Args:
        x, y: [B, C, H, W], sides of at least 161.
        weight: t_a, [B, 1, H, W], 0 to 1 (bool allowed); no gradient flows to it.
        background: weight where t_a = 0, 0 to 1; 1 ignores the map. The publication gives none. 0.1
            leaves the rest of a picture enough say that the detail decoder is defined there too; with 0 a picture
            of which no whole window sees t_a has NaN.
        data_range: largest minus smallest possible value.
        floor: see the module; 0 for measurements.

    Returns:
        [B], 0 to 1.

    Raises:
        ImageError: shapes do not match, or a side is below 161.
    """
    return _ms_ssim(x, y, [_weight(x, weight, background)], data_range, floor)[0]


def ms_ssim_pair(
    x: Tensor, y: Tensor, weight: Tensor, background: float = BACKGROUND, data_range: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(`ms_ssim`, `weighted_ms_ssim`) of the same pictures from one set of window statistics; each [B]."""
    plain, weighted = _ms_ssim(x, y, [None, _weight(x, weight, background)], data_range, FLOOR)
    return plain, weighted


def _ms_ssim(
    x: Tensor, y: Tensor, weights: list[Tensor | None], data_range: float, floor: float
) -> list[Tensor]:
    """MS-SSIM [B] for each map of pixel weights (None: uniform)."""
    x, y = _prepare(x, y, MIN_SIDE, "MS-SSIM")
    window = gaussian(WINDOW, SIGMA)
    logs = [x.new_zeros(())] * len(weights)
    with torch.autocast(x.device.type, enabled=False):
        for k, exponent in enumerate(SCALE_WEIGHTS):
            last = k == len(SCALE_WEIGHTS) - 1
            on_windows = [None if w is None else smooth(w, window) for w in weights]
            terms = similarity(x, y, on_windows, window, data_range, luminance=last)
            logs = [
                total + exponent * _floored_log(term, floor) for total, term in zip(logs, terms, strict=True)
            ]
            if not last:
                odd = [side % 2 for side in x.shape[2:]]
                x, y = (F.avg_pool2d(t, 2, padding=odd) for t in (x, y))
                # Padding has no weight of its own; counted as 0 it would bend a constant map.
                weights = [
                    w if w is None else F.avg_pool2d(w, 2, padding=odd, count_include_pad=False)
                    for w in weights
                ]
        return [log.exp().mean(1) for log in logs]


def _floored_log(term: Tensor, floor: float) -> Tensor:
    if floor == 0:
        return term.clamp_min(0).log()
    return term.clamp_min(floor).log() + (term.clamp_max(floor) / floor - 1)


def _weight(x: Tensor, weight: Tensor, background: float) -> Tensor:
    if not 0 <= background <= 1:
        raise ValueError(f"background is a weight in [0, 1], not {background}")
    if weight.shape != (x.shape[0], 1, *x.shape[2:]):
        raise ImageError(
            f"the weight of pictures {tuple(x.shape)} has shape {(x.shape[0], 1, *x.shape[2:])}, not "
            f"{tuple(weight.shape)}: give one map a picture, at the picture's size"
        )
    weight = weight.detach().to(_dtype(x))
    return background + (1 - background) * weight


def _prepare(x: Tensor, y: Tensor, min_side: int, name: str) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape or x.ndim != 4:
        raise ImageError(
            f"{name} compares batches of one shape [B, C, H, W], not {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if min(x.shape[2:]) < min_side:
        raise ImageError(
            f"{name} needs sides of at least {min_side} pixels, not {x.shape[2]}×{x.shape[3]}: "
            "use larger crops or pictures" + (", or ssim, which needs 11" if name == "MS-SSIM" else "")
        )
    dtype = torch.promote_types(_dtype(x), _dtype(y))
    return x.to(dtype), y.to(dtype)


def _dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction not in ("none", "mean"):
        raise ValueError(f"reduction is 'none' or 'mean', not {reduction!r}")
    return values.mean() if reduction == "mean" else values
