"""The assistant losses, and what they compare with in sampling as bytes in the file.

The publication swaps the names of content and style, leaves out content's square, and repeats style in its total
where content belongs. The right ones (Gatys, Ecker, Bethge 2016) are used here. It counts no bytes; a decoder has not
the original, so the losses' targets are sent:

- edge: the Laplacian of Gaussian of the picture at a quarter of its size, an AV1 layer (section ``edges``);
- style: the Gram matrix of one early layer of the classifier, roots of its entries in 8 bits;
- content: h1 averaged over cells of 4×4 positions, quantised by each channel's deviation, range coded.

Style and content share the section ``latents``. Edge and content are sums over positions, as the sampler's context is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.codec.container import read_varint, write_varint
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.entropy.coder import EscapeReader, GaussianModels, SymbolDecoder, SymbolEncoder
from genic.lightning_modules.entropy.grid import ACTIVATION_BITS
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingModel
from genic.lightning_modules.ppgn_inpainting.networks import Encoder
from genic.lightning_modules.ppgn_inpainting.pixel_coding import Av1Layer
from genic.losses.perceptual import content_loss

LOG_SIGMA = 1.4
EDGE_POOL = 4
CONTENT_POOL = 4
_RADIUS = 4
_EDGE_QUALITY, _EDGE_GAIN = 30, 2.0
_BOUND = 7  # of content's symbols: within the narrowest tables, so that nothing escapes
_SIGMA_ONE = 22  # scale index of σ ≈ 1


def laplacian_of_gaussian(x: Tensor, sigma: float = LOG_SIGMA) -> Tensor:
    """Luma of pictures [B, 3, H, W] in [0, 1] filtered by σ²·∇²G (Marr and Hildreth 1980): [B, 1, H, W]."""
    luma = x[:, 0:1] * 0.299 + x[:, 1:2] * 0.587 + x[:, 2:3] * 0.114
    t = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    r2 = (t[:, None].square() + t.square()) / sigma**2
    kernel = (r2 - 2) * torch.exp(-r2 / 2) / (2 * torch.pi * sigma**2)
    kernel = kernel - kernel.mean()  # a flat picture has no edge
    padded = F.pad(luma, (_RADIUS,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None])


def edge_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """‖LoG(x) − LoG(x̂)‖₂², a mean over positions and pictures [B, 3, H, W] (the publication's is a norm over one)."""
    return (laplacian_of_gaussian(x_hat) - laplacian_of_gaussian(x)).square().mean()


def boundary_loss(x_hat: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """Mean |x̂ − x| on the kept pixels that touch a hole, of the picture before the kept pixels are pasted in.

    What the publication asks for: where the generated picture meets the kept one, pasting leaves no step. 0 where
    there is no border.

    Args:
        x_hat, kept: [B, 3, H, W]. mask: [B, 1, H, W], 1 where kept.
    """
    border = mask * F.max_pool2d(1 - mask, 3, 1, 1)
    return (border * (x_hat - kept).abs()).sum() / (3 * border.sum()).clamp_min(1)


def pooled(x: Tensor, cell: int) -> Tensor:
    """Means over cells; border cells over what they have."""
    return x if cell == 1 else F.avg_pool2d(x, cell, ceil_mode=True, count_include_pad=False)


class Assistants:
    """Targets of the losses of one picture.

    Args:
        config: its weights of the losses.
        E: the classifier, over pictures of any size.
        models: of the range coder.
    """

    def __init__(self, config: PpgnInpaintingModel, E: Encoder, models: GaussianModels) -> None:
        self.config, self.E, self.models = config, E, models

    @torch.no_grad()
    def encode(self, x: Tensor, names: Sequence[str]) -> dict[str, bytes]:
        """Sections for a picture [1, 3, H, W] in [0, 1]."""
        sections, streams = {}, []
        if "edge" in names:
            sections["edges"] = self._encode_edge(x)
        if "style" in names:
            streams.append(_encode_gram(_gram(self.E.style(x))[0].cpu().numpy()))
        if "content" in names:
            streams.append(self._encode_content(pooled(self.E(x).h1, CONTENT_POOL)[0].cpu().numpy()))
        if streams:
            sections["latents"] = b"".join(write_varint(len(stream)) + stream for stream in streams)
        return sections

    @torch.no_grad()
    def loss(
        self, names: Sequence[str], sections: Mapping[str, bytes], x: Tensor, mask: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """L_A as a function of the composite and the generated picture; ``x`` and ``mask`` are what is kept.

        Raises:
            DamagedFileError: a section is missing or no such target.
        """
        c, terms, data = self.config, [], sections.get("latents", b"")
        if "edge" in names:
            target = self._decode_edge(sections.get("edges", b""), *x.shape[2:]).to(x)
            terms.append(lambda shown, _: c.edge_weight * (_small_edges(shown) - target).square().sum())
        if "style" in names:
            stream, data = _taken(data)
            gram = torch.from_numpy(_decode_gram(stream, self.E.style(x).shape[1]))[None].to(x)
            terms.append(
                lambda shown, _: c.style_weight * (_gram(self.E.style(shown)) - gram).square().sum() / 4
            )
        if "content" in names:
            stream, data = _taken(data)
            like = pooled(self.E(x).h1, CONTENT_POOL)
            features = torch.from_numpy(self._decode_content(stream, tuple(like.shape[1:])))[None].to(x)
            terms.append(
                lambda shown, _: (
                    c.content_weight * content_loss([pooled(self.E(shown).h1, CONTENT_POOL)], [features])
                )
            )
        if "boundary" in names:
            terms.append(lambda _, generated: c.boundary_weight * boundary_loss(generated, x, mask))
        if data:
            raise DamagedFileError("assistant information is left over")
        return lambda shown, generated: sum((term(shown, generated) for term in terms), x.new_zeros(()))

    def _encode_edge(self, x: Tensor) -> bytes:
        edges = _small_edges(x)[0, 0].cpu().numpy()
        grey = np.clip(np.rint(128 + 255 * _EDGE_GAIN * edges), 0, 255).astype(np.uint8)
        return Av1Layer().compress(np.repeat(grey[..., None], 3, 2), _EDGE_QUALITY)

    def _decode_edge(self, stream: bytes, height: int, width: int) -> Tensor:
        size = (-(-height // EDGE_POOL), -(-width // EDGE_POOL))
        grey = Av1Layer().decompress(stream, *size)[..., 1].astype(np.float32)
        return torch.from_numpy((grey - 128) / (255 * _EDGE_GAIN))[None, None]

    def _encode_content(self, features: np.ndarray) -> bytes:
        mean, step = features.mean((1, 2)), features.std((1, 2)) + 1e-3
        header = np.stack((mean, step)).astype("<f2")
        k = np.rint((features - header[0, :, None, None]) / header[1, :, None, None].astype(np.float32))
        symbols = torch.from_numpy(np.clip(k, -_BOUND, _BOUND).astype(np.int64)).flatten()
        encoder = SymbolEncoder(self.models, bytearray())
        encoder.put(symbols, *_unit(len(symbols)))
        return header.tobytes() + encoder.finish()

    def _decode_content(self, stream: bytes, shape: tuple[int, ...]) -> np.ndarray:
        header = np.frombuffer(stream[: 4 * shape[0]], "<f2").astype(np.float32).reshape(2, shape[0])
        decoder = SymbolDecoder(self.models, stream[4 * shape[0] :], EscapeReader(b""))
        symbols = decoder.get(*_unit(int(np.prod(shape)))).numpy().reshape(shape)
        decoder.close()
        if not np.isfinite(header).all():
            raise DamagedFileError("the content's scales are no numbers")
        return symbols.astype(np.float32) * header[1, :, None, None] + header[0, :, None, None]


def _small_edges(x: Tensor) -> Tensor:
    return laplacian_of_gaussian(pooled(x, EDGE_POOL))


def _gram(features: Tensor) -> Tensor:
    """Gram matrices over channels and positions' number: the publication's 1/(4N²M²) is this and the ¼ later."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def _encode_gram(gram: np.ndarray) -> bytes:
    upper = gram[np.triu_indices(len(gram))]
    roots = np.sign(upper) * np.sqrt(np.abs(upper))
    largest = np.float16(np.abs(roots).max() + 1e-6)
    return (
        largest.astype("<f2").tobytes()
        + np.rint(roots / largest * 127).clip(-127, 127).astype(np.int8).tobytes()
    )


def _decode_gram(stream: bytes, channels: int) -> np.ndarray:
    if len(stream) != 2 + channels * (channels + 1) // 2:
        raise DamagedFileError("the style's Gram matrix is not of the classifier's size")
    roots = np.frombuffer(stream[2:], np.int8).astype(np.float32) / 127
    roots = roots * np.frombuffer(stream[:2], "<f2").astype(np.float32)
    gram = np.zeros((channels, channels), np.float32)
    rows, columns = np.triu_indices(channels)
    gram[rows, columns] = gram[columns, rows] = np.sign(roots) * roots**2
    return gram


def _unit(count: int) -> tuple[Tensor, Tensor]:
    """Centres 0 and deviations of about 1 as the range coder takes them."""
    return torch.zeros(count, dtype=torch.int64), torch.full((count,), _SIGMA_ONE << ACTIVATION_BITS)


def _taken(data: bytes) -> tuple[bytes, bytes]:
    length, start = read_varint(data, 0)
    if start + length > len(data):
        raise DamagedFileError("assistant information is cut short")
    return data[start : start + length], data[start + length :]
