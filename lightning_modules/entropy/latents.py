"""The latent coder: symbols on a grid to bytes, each under what a context network predicts of it.

::

    earlier diagonals of ẑ ──┐
    ψ, level ────────────────┴─ context network ──> (μ, s) ── symbol model ──> row of a table ── range coder

The context network evaluates by diagonals (`wavefront`) and exactly (`grid`); the symbol model (`coder.SymbolModel`)
turns its whole steps into a row of integers. So both sides have the same probabilities on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from genic.lightning_modules.entropy.coder import EscapeReader, SymbolDecoder, SymbolEncoder, SymbolModel
from genic.lightning_modules.entropy.context import CausalNetwork
from genic.lightning_modules.entropy.wavefront import Wavefront

ENCODE_BLOCK = 8
"""Diagonals that the encoder evaluates at once; bounds its memory, cannot change its result."""
_LARGE, _CORNER = 128 * 128, 48
"""Positions beyond which a decoder first tries the corner of this side: its first diagonals are the whole's."""


class LatentCoder:
    """Integers to bytes and back.

    Args:
        context: an exact network (`grid.exact_copy`) on ``device`` with the methods ``wavefront``, ``predict`` and
            ``observe`` of `context.ContextModel`.
        models: what it predicts.
        device: where it runs; the symbols do not depend on it.
    """

    def __init__(self, context: CausalNetwork, models: SymbolModel, device: str = "cpu") -> None:
        self.context, self.models, self.device = context, models, device
        self.dtype = next(context.parameters()).dtype

    def encode(
        self, symbols: Tensor, psi: Tensor, level: Tensor, escapes: bytearray, wanted: Tensor | None = None
    ) -> bytes:
        """The range coder's bytes; what lies beyond the tables is appended to ``escapes``.

        Args:
            symbols: int64 [1, H, W, ch] on the CPU, 0 where not ``wanted``.
            psi: what else the network is told, `activations` [1, H, W, ψ]. The decoder has it, too.
            level: [1].
            wanted: bool of the symbols' shape: what is coded; everything where it is None.
        """
        return self.encode_batch(symbols, psi, level, [escapes], wanted)[0]

    @torch.inference_mode()
    def encode_batch(
        self,
        symbols: Tensor,
        psi: Tensor,
        level: Tensor,
        escapes: Sequence[bytearray],
        wanted: Tensor | None = None,
    ) -> list[bytes]:
        """`encode` of pictures of one size, [B, …] each, in one pass of the network: the same bytes for each."""
        front = self._wavefront(psi, level)
        front.write("z_hat", front.to_rows(self.activations(symbols)), front.whole)
        symbols = self._rows(front, symbols)
        wanted = None if wanted is None else self._rows(front, wanted)
        encoders, batch = [SymbolEncoder(self.models, each) for each in escapes], len(escapes)
        for t0 in range(0, front.diagonals, ENCODE_BLOCK):
            t1 = min(t0 + ENCODE_BLOCK, front.diagonals)
            rows, lengths = front.block(t0, t1), front.lengths(t0, t1)
            coded = (symbols[rows], *self.context.predict(front, rows, known=True).cpu().chunk(2, -1))
            parts = [_by_picture(x, lengths, batch) for x in coded]
            at = [None] * batch if wanted is None else _by_picture(wanted[rows], lengths, batch)
            for encoder, mine, *found in zip(encoders, at, *parts, strict=True):
                own = [length // batch for length in lengths]
                if mine is not None:
                    own = [int(part.sum()) for part in mine.split(own)]
                    found = [x[mine] for x in found]
                encoder.put(*found, own)
        return [encoder.finish() for encoder in encoders]

    def decode(
        self, stream: bytes, psi: Tensor, level: Tensor, escapes: EscapeReader, wanted: Tensor | None = None
    ) -> Tensor:
        """The inverse of `encode`: int64 [1, H, W, ch] on the CPU.

        Raises:
            DamagedFileError: the stream is none of an encoder's, or holds fewer symbols.
        """
        return self.decode_batch([stream], psi, level, [escapes], wanted)

    @torch.inference_mode()
    def decode_batch(
        self,
        streams: Sequence[bytes],
        psi: Tensor,
        level: Tensor,
        escapes: Sequence[EscapeReader],
        wanted: Tensor | None = None,
    ) -> Tensor:
        """`decode` of pictures of one size, [B, …] each, in one pass of the network: the same symbols for each."""
        if psi.shape[1] * psi.shape[2] > _LARGE:
            # A size that the header only claims: before memory is taken for it, a corner must decode.
            corner = (slice(None), slice(_CORNER), slice(_CORNER))
            part = None if wanted is None else wanted[corner]
            trial = [
                SymbolDecoder(self.models, *each) for each in zip(streams, map(copy, escapes), strict=True)
            ]
            self._decode(trial, psi[corner], level, part, _CORNER)
        decoders = [SymbolDecoder(self.models, *each) for each in zip(streams, escapes, strict=True)]
        front = self._decode(decoders, psi, level, wanted)
        for decoder in decoders:
            decoder.close()
        grid = front.to_grid(front.read("z_hat", front.whole))
        return (grid / self.context.unit).to("cpu", torch.int64)

    def _decode(
        self,
        decoders: Sequence[SymbolDecoder],
        psi: Tensor,
        level: Tensor,
        wanted: Tensor | None,
        diagonals: int | None = None,
    ) -> Wavefront:
        """The maps after the first ``diagonals``, or all."""
        front = self._wavefront(psi, level)
        wanted = None if wanted is None else self._rows(front, wanted)
        for t in range(front.diagonals if diagonals is None else diagonals):
            rows = front.block(t, t + 1)
            predicted = self.context.predict(front, rows, known=False).cpu()
            # A diagonal's rows are those of one picture after another.
            parts = predicted.chunk(len(decoders))
            if wanted is None:
                found = [d.get(*part.chunk(2, -1)) for d, part in zip(decoders, parts, strict=True)]
            else:
                found = []
                for decoder, part, at in zip(decoders, parts, wanted[rows].chunk(len(decoders)), strict=True):
                    found.append(torch.zeros(at.shape, dtype=torch.int64))
                    found[-1][at] = decoder.get(*(x[at] for x in part.chunk(2, -1)))
            self.context.observe(front, self.activations(torch.cat(found)), rows)
        return front

    def activations(self, symbols: Tensor) -> Tensor:
        """Integers as inputs of exact networks."""
        return symbols.to(self.device, self.dtype) * self.context.unit

    def _wavefront(self, psi: Tensor, level: Tensor) -> Wavefront:
        return self.context.wavefront(psi, level.to(self.device), incremental=True)

    def _rows(self, front: Wavefront, grid: Tensor) -> Tensor:
        return front.to_rows(grid.to(self.device)).cpu()


def _by_picture(rows: Tensor, lengths: Sequence[int], batch: int) -> Sequence[Tensor]:
    """The rows of each picture. A diagonal, of which ``lengths`` are given, has one picture's after another's."""
    if batch == 1:
        return [rows]
    diagonals = [diagonal.chunk(batch) for diagonal in rows.split(list(lengths))]
    return [torch.cat(mine) for mine in zip(*diagonals, strict=True)]


def channels_last(x: Tensor) -> Tensor:
    """[ch, H, W] -> [1, H, W, ch] on the CPU, int64, or bool as it is."""
    x = x.detach().cpu() if x.dtype == torch.bool else x.detach().cpu().to(torch.int64)
    return x.permute(1, 2, 0)[None].contiguous()
