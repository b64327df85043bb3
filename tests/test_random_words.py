"""Random numbers of file formats: golden words, since a change of them would change what files mean."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from genic.lightning_modules.codec.random_words import (
    random_bytes,
    random_choice,
    random_normal,
    random_words,
)
from genic.lightning_modules.extreme_semantic.system import noise_of
from genic.lightning_modules.ppgn_inpainting import masks

# The first words of the published generator from state 0 (prng.di.unimi.it/splitmix64.c).
PUBLISHED = [
    0xE220A8397B1DCDAF,
    0x6E789E6AA1B965F4,
    0x06C45D188009454F,
    0xF88BB8A8724C81EC,
    0x1B39896A51A8749B,
]


def splitmix64(counter: int) -> int:
    """The publication's next() at state ``counter`` · γ, in Python's integers."""
    z = counter * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_words_are_the_published_generator_s():
    assert random_words(5, 0).tolist() == PUBLISHED
    for seed in (0, 7, 255, 2**24 - 1):
        assert random_words(3, seed).tolist() == [splitmix64((seed << 40) + k) for k in (1, 2, 3)]
    assert len(np.unique(random_words(10_000, 3))) == 10_000


def test_bytes_are_the_words_lowest_first():
    assert random_bytes(11, 0).tobytes().hex() == "afcd1d7b39a820e2f465b9"


def test_choices_are_fixed_and_a_prefix_of_more():
    assert random_choice(10, 4, 5).tolist() == [8, 3, 5, 0]
    few, many = random_choice(1000, 10, 5), random_choice(1000, 1000, 5)
    np.testing.assert_array_equal(few, many[:10])
    assert sorted(many) == list(range(1000)) and len(random_choice(7, 0, 1)) == 0


def test_normal_numbers():
    x = random_normal((200, 100), 4)
    assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.02
    assert abs((x**4).mean() - 3) < 0.15  # a Gaussian's kurtosis
    np.testing.assert_allclose(random_normal((3,), 5), [0.56808567, -0.10413104, 0.65581882], rtol=1e-6)


def test_what_files_draw_from_a_seed():
    """Masks and noise of one seed, as files mean them."""
    assert np.flatnonzero(masks.random_pixels(4, 5, 4, 9)).tolist() == [3, 4, 14, 18]
    near = np.zeros((6, 8), bool)
    near[:, 0] = True
    assert np.flatnonzero(masks.far_blocks(near, 4, 9)).tolist() == [5, 6, 26, 29]
    steps = noise_of(9, 2, 3, 4).numpy() / 3**0.5 * 127.5 + 127.5
    assert zlib.crc32(steps.round().astype(np.uint8).tobytes()) == 701569469


def test_no_library_s_distribution_is_asked(monkeypatch):
    """NumPy promises nothing of `Generator`'s methods between versions."""

    def refuse(*_: object) -> None:
        pytest.fail("numpy.random drew numbers that a file depends on")

    monkeypatch.setattr(np.random, "Generator", refuse)
    monkeypatch.setattr(np.random, "default_rng", refuse)
    assert noise_of(3, 1, 2, 2).shape == (1, 1, 2, 2)
    assert masks.random_pixels(5, 5, 3, 1).sum() == 3
