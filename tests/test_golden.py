"""Golden files of every learned codec decode for ever to the committed symbols and pictures (`tests.golden.every`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genic.lightning_modules.codec.container import SECTIONS, Container
from genic.lightning_modules.registry import learned, open_codec
from tests.coded import decoded, latent_calls
from tests.conformance.arithmetic import Arithmetic
from tests.golden.every import (
    FOLDER,
    OPTIONS,
    golden_codec,
    golden_files,
    golden_restored,
    paper_of,
    procedural,
    restoring_codec,
)
from tests.test_conformance import PIXEL_BOUND, REDUCED

CODECS = sorted(learned())


def check(codec_name: str, device: str = "cpu") -> None:
    """All files of a codec decode to what lies beside them."""
    codec = golden_codec(codec_name, device)
    for case, (data, columns, picture) in golden_files(codec_name, codec.weights_id).items():
        with decoded() as found:
            image = codec.decode(data)
        assert np.array_equal(found.all(), columns), case
        assert np.abs(image.astype(int) - picture).max() <= PIXEL_BOUND, case


@pytest.mark.parametrize("name", CODECS)
def test_files_decode_for_ever(name: str) -> None:
    paper = paper_of(name).name
    assert (FOLDER / paper).is_dir(), (
        f"run python -m tests.golden.every {paper}, once, and commit what it makes"
    )
    check(name)


@pytest.mark.parametrize("name", CODECS)
def test_files_decode_to_the_same_symbols_under_any_arithmetic(name: str) -> None:
    for arithmetic in REDUCED:
        with arithmetic():
            check(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", CODECS)
def test_files_decode_to_the_same_symbols_on_a_gpu(name: str) -> None:
    check(name, "cuda")


@pytest.mark.parametrize("name", CODECS)
def test_latents_encode_to_the_same_bytes_under_any_arithmetic(name: str) -> None:
    """What a context network predicts decides over every byte behind it, on the encoder's side as well."""
    codec = golden_codec(name)
    with Arithmetic()(), latent_calls() as calls:
        codec.encode(procedural(48, 64), codec.qualities[-1], **OPTIONS.get(name, {}))
    for arithmetic in REDUCED:
        with arithmetic():
            for coder, (symbols, psi, level, wanted), stream in calls:
                assert coder.encode(symbols, psi, level, bytearray(), wanted) == stream, arithmetic
    with_network = any(calls) or name in ("gan_reversal", "ppgn_inpainting")
    assert with_network, f"{name} has no context network: name it here"


def test_every_part_of_the_format_is_in_a_golden_file() -> None:
    found = {
        section
        for name in CODECS
        for data, *_ in golden_files(name, bytes(4)).values()
        for section in Container.from_bytes(data).sections
    }
    # Of classical codecs; and `tests/golden` has files of their own for escapes, transparency and restoration.
    assert set(SECTIONS) - found <= {"payload", "palette", "escapes", "alpha", "restoration"}


def test_a_restored_file_decodes_for_ever() -> None:
    """Under any arithmetic to the same picture but for rounding: no symbol depends on the restoration."""
    codec = restoring_codec()
    data, picture = golden_restored(codec.weights_id)
    assert set(Container.from_bytes(data).sections) == {"residual", "restoration"}
    pictures = [codec.decode(data)]
    for arithmetic in REDUCED:
        with arithmetic():
            pictures.append(codec.decode(data))
    assert max(np.abs(image.astype(int) - picture).max() for image in pictures) <= PIXEL_BOUND


def test_transparency_decodes_for_ever() -> None:
    """Beside a codec's own sections, here JPEG's; the plane is `procedural` red."""
    data = (FOLDER / "alpha.gnc").read_bytes()
    decoded_picture = open_codec("jpeg").decode(data, alpha=True)
    assert np.array_equal(decoded_picture[..., 3], procedural(17, 33)[..., 0])
    assert set(Container.from_bytes(data).sections) == {"payload", "alpha"}
