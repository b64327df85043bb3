"""Pictures of the largest size there is, or near it: how much memory a fresh process takes for one, each way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from genic.eval.memory import measure
from tests.stress.conftest import Record

CASES: dict[str, tuple[int, list[str]]] = {
    "hyperprior": (8192, []),
    "gdae": (8192, []),
    "extreme_semantic": (8192, []),
    "ppgn_inpainting": (8192, []),
    "gan_reversal": (8192, ["effort=0"]),
    "gdae_sprc": (4096, ["level=2", "effort=ultrafast"]),
    # Their attention and norms take in the whole picture: memory grows with it.
    "selective_detail": (4096, []),
    "selective_detail:realistic": (4096, []),
}
"""Side and settings by codec. Searches are cut short: they take time, and no more memory."""
GIB = 8.0


@pytest.mark.timeout(10_000)
@pytest.mark.parametrize("codec", CASES)
def test_memory(codec: str, count: Callable[[int, int], int], record: Record) -> None:
    if not count(0, 1):
        pytest.skip("minutes; with --stress (test_eval_memory measures a small picture, test_tiling tiles)")
    side, settings = CASES[codec]
    encoding, decoding, size = measure(codec, side, side, settings)
    assert max(encoding.gib, decoding.gib) < GIB
    record(
        "large pictures",
        codec=codec,
        side=side,
        settings=" ".join(settings) or "–",
        bytes=size,
        encode_GiB=f"{encoding.gib:.2f}",
        encode_s=f"{encoding.seconds:.0f}",
        decode_GiB=f"{decoding.gib:.2f}",
        decode_s=f"{decoding.seconds:.0f}",
    )
