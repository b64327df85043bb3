"""The prior N(0, 1) of z, its quantiser, and coding under the prior's own CDF.

Component z_c is coded as k = round(z_c / Δ_c). In units of the step the prior is N(0, σ_c²) with σ_c = 1/Δ_c, so a
symbol's distribution is a row of the stored integer tables of `entropy.gaussian`. All quantisers are therefore on the
tables' grid: channel c has an integer index s_c, a file adds one shift to all of them, and σ_c = σ(s_c + shift), finer
with higher indices by a factor of 1.106 each. b bits for the box of ±4 are the index with 8·σ = 2^b.
Everything between bytes and symbols is integers: no network takes part.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.entropy.coder import (
    EscapeReader,
    GaussianModels,
    SymbolDecoder,
    SymbolEncoder,
)
from genic.lightning_modules.entropy.gaussian import SCALES, GaussianTables, gaussian_bits, sigma_of
from genic.lightning_modules.entropy.grid import STEPS

SHIFTS = range(-40, 41)
STRIP_SYMBOLS = 1 << 16
INDEX_PER_NEPER = 9.896
"""Indices by which σ grows by e: 63 / ln(64 / 0.11)."""
_UNIT = 50.0  # indices a unit of the parameter, so that one learning rate suits it and the networks


class Prior(nn.Module):
    """The quantiser's scale indices s [latents], trained with the generator where there is a rate term.

    Args:
        latents: number of channels.
        start: where all of them start.
    """

    def __init__(self, latents: int, start: int) -> None:
        super().__init__()
        self.start = float(start)
        self.offset = nn.Parameter(torch.zeros(latents))

    def forward(self) -> Tensor:
        """s as real numbers, [latents]."""
        return self.start + _UNIT * self.offset

    @torch.no_grad()
    def exported(self) -> Tensor:
        """s as a file has it: int32 within the tables."""
        return self().round().clamp(0, SCALES - 1).to(torch.int32)

    def offset_of(self, exported: Tensor) -> Tensor:
        """The parameter's value of an exported s."""
        return (exported.float() - self.start) / _UNIT


def shifted(index: Tensor, shift: Tensor) -> Tensor:
    """s + shift within the tables: [latents] and [B] to [B, latents, 1, 1]."""
    return (index[None] + shift[:, None]).clamp(0, SCALES - 1)[..., None, None]


def step_of(index: Tensor) -> Tensor:
    """Δ, in prior deviations, of indices."""
    return 1 / sigma_of(index)


def bits(k: Tensor, index: Tensor) -> Tensor:
    """−log2 P(k) under the prior, summed over each picture: [B, latents, h, w] to [B]; differentiable in k."""
    return gaussian_bits(k, torch.zeros((), device=k.device), index).sum((1, 2, 3))


class PriorCoder:
    """Symbols to sections and back, exactly, on any machine.

    Args:
        index: s, int32 [latents].
        tables: the integer tables stored with the weights.
    """

    def __init__(self, index: Tensor, tables: GaussianTables) -> None:
        self.index = index.to(torch.int64)
        self.models = GaussianModels(tables)

    def encode(self, k: Tensor, shift: int, height: int, width: int) -> dict[str, bytes]:
        """Sections ``parameters``, ``latents`` and, where there are any, ``escapes``.

        Args:
            k: integers [latents, h, w] within ±511.
            shift: of the quantiser, one of `SHIFTS`.
            height, width: of the picture.
        """
        escapes = bytearray()
        encoder = SymbolEncoder(self.models, escapes)
        for strip in _strips(*k.shape):
            symbols = k[:, strip].detach().cpu().to(torch.int64).permute(1, 2, 0).contiguous()
            encoder.put(symbols, torch.zeros_like(symbols), self._rows(shift, *symbols.shape[:2]))
        stream = encoder.finish()
        body = bytes([shift - SHIFTS.start])
        sections = {"parameters": body + _check(body, stream, height, width), "latents": stream}
        return sections | ({"escapes": bytes(escapes)} if escapes else {})

    def decode(self, container: Container, grid: tuple[int, int]) -> tuple[Tensor, int]:
        """k, float32 [latents, h, w], and the shift; ``grid`` is (h, w).

        Raises:
            DamagedFileError: the sections are not those of an encoder, or not of a picture of this size.
        """
        parameters, stream = container.section("parameters"), container.section("latents")
        if len(parameters) != 3 or parameters[0] >= len(SHIFTS):
            raise DamagedFileError("the parameters are not a shift of the quantiser and a check of two bytes")
        # Before anything is allocated for the size that the header claims.
        if parameters[1:] != _check(parameters[:1], stream, container.height, container.width):
            raise DamagedFileError(
                "the latents are not those of a picture of this size: fetch the file again"
            )
        shift = parameters[0] + SHIFTS.start
        escapes = EscapeReader(container.sections.get("escapes", b""))
        decoder = SymbolDecoder(self.models, stream, escapes)
        k = torch.empty(len(self.index), *grid)
        for strip in _strips(*k.shape):
            rows = self._rows(shift, strip.stop - strip.start, grid[1])
            k[:, strip] = decoder.get(torch.zeros_like(rows), rows).permute(2, 0, 1).float()
        decoder.close()
        escapes.close()
        return k, shift

    def _rows(self, shift: int, h: int, w: int) -> Tensor:
        row = (self.index + shift).clamp(0, SCALES - 1) * STEPS
        return row.expand(h, w, len(row)).contiguous()


def _strips(latents: int, h: int, w: int) -> Iterator[slice]:
    """Rows of the grid that are coded together: part of the format. Bounds the memory that the tables' rows take."""
    rows = max(1, STRIP_SYMBOLS // (latents * w))
    for start in range(0, h, rows):
        yield slice(start, min(start + rows, h))


def _check(parameters: bytes, stream: bytes, height: int, width: int) -> bytes:
    """Binds the stream to the picture's size; damage as such is the container's CRC's to find."""
    size = height.to_bytes(2, "little") + width.to_bytes(2, "little")
    return zlib.crc32(size + parameters + stream).to_bytes(4, "little")[:2]
