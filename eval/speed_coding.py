"""Encoding and decoding times of our learned codecs and of CompressAI's models, by stage."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from genic.eval.speed_stages import watch
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ToolError, WeightsError
from genic.lightning_modules.codec.learned import LevelCodec
from genic.lightning_modules.codec.weights import as_stored
from genic.lightning_modules.entropy.coder import SymbolDecoder, SymbolEncoder
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.external.compressai import RANDOM, CompressAi
from genic.lightning_modules.registry import open_codec
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from genic.lightning_modules.selective_detail.system import System

QUALITY = 4
"""Of CompressAI's models."""
ANCHOR = "mbt2018"
OURS = (
    "selective_detail:small",
    "selective_detail:realistic",
    "selective_detail:paper",
    "hyperprior",
    "gdae",
)
"""Codecs whose time is that of networks and a range coder; the others search, or wait for HEVC and AV1."""
BASELINES = (ANCHOR, "cheng2020-attn", "mbt2018-mean")


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one picture's way to bytes and back.

    Attributes:
        encode, decode: the whole calls.
        transform: the encoder's networks. pixels: the decoder's.
        encode_coder, decode_coder: the range coder alone; None where it cannot be told from what surrounds it.
    """

    encode: float
    decode: float
    transform: float
    pixels: float
    encode_coder: float | None = None
    decode_coder: float | None = None

    @property
    def entropy_encode(self) -> float:
        """All of encoding but the transform."""
        return self.encode - self.transform

    @property
    def entropy_decode(self) -> float:
        """All of decoding but the pixel decoder."""
        return self.decode - self.pixels


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something that is measured: ``run`` takes a picture to bytes and back once."""

    name: str
    run: Callable[[Image], Times]


def ours(name: str, codec: LevelCodec) -> Subject:
    """One of ours at its default quality; the contract's `encode` and `decode` are timed, container included."""

    def run(image: Image) -> Times:
        encoding = [
            (codec, "_latents", "transform"),
            (SymbolEncoder, "put", "coder"),
            (SymbolEncoder, "finish", "coder"),
        ]
        with watch(encoding) as encoder:
            data, encode = _seconds(codec.encode, image)
        with watch([(codec, "_synthesised", "pixels"), (SymbolDecoder, "get", "coder")]) as decoder:
            _, decode = _seconds(codec.decode, data)
        return Times(
            encode, decode, encoder["transform"], decoder["pixels"], encoder["coder"], decoder["coder"]
        )

    return Subject(name, run)


def compressai(name: str) -> Subject:
    """One of CompressAI's models with random weights, through the contract as well; `ToolError` where it is not
    installed."""
    codec = CompressAi(name, QUALITY, RANDOM)

    def run(image: Image) -> Times:
        with watch([(codec.net.g_a, "forward", "transform")]) as encoder:
            data, encode = _seconds(codec.encode, image)
        with watch([(codec.net.g_s, "forward", "pixels")]) as decoder:
            _, decode = _seconds(codec.decode, data)
        return Times(encode, decode, encoder["transform"], decoder["pixels"])

    return Subject(name, run)


def subjects(names: Sequence[str] | None = None) -> tuple[list[Subject], list[str]]:
    """Our presets and the baselines, or those of ``names``; and notes on what is left out or random."""
    made, notes = [], []
    for name in OURS:
        if names is None or name in names:
            trained, preset = True, name.removeprefix("selective_detail:")
            if preset == name:
                codec = open_codec(name)
                assert isinstance(codec, LevelCodec)
            else:
                codec, trained = preset_codec(preset)
            made.append(ours(name, codec))
            if not trained:
                notes.append(f"{name}: random weights")
    for name in BASELINES:
        if names is None or name in names:
            try:
                made.append(compressai(name))
            except ToolError as error:
                notes.append(f"{name}: left out ({error})")
    return made, notes


def preset_codec(preset: str) -> tuple[SelectiveDetailCodec, bool]:
    """The shipped codec of a preset and True; where none is shipped, one of random weights and False."""
    try:
        return SelectiveDetailCodec.load(preset), True
    except WeightsError:
        from genic.experiments.config import load_config

        return random_codec(load_config("selective_detail", [f"preset={preset}"]).model), False


def random_codec(config: SelectiveDetailModel) -> SelectiveDetailCodec:
    """A codec of untrained networks."""
    torch.manual_seed(0)
    state = System(config).state_dict() | build_tables().state()
    metadata = {"paper": "selective_detail", "config": json.dumps(dataclasses.asdict(config))}
    return SelectiveDetailCodec(as_stored(state), metadata)


def measure(
    chosen: Sequence[Subject], image: Image, repeats: int, progress: Callable[[], None]
) -> dict[str, list[Times]]:
    """Times of ``repeats`` rounds, in each of which every subject runs once, so that a busy machine slows all alike.

    A round on a small crop comes before, for what is done once a process.
    """
    for subject in chosen:
        subject.run(np.ascontiguousarray(image[:64, :64]))
    times: dict[str, list[Times]] = {subject.name: [] for subject in chosen}
    for _ in range(repeats):
        for subject in chosen:
            times[subject.name].append(subject.run(image))
            progress()
    return times


def median(times: Sequence[Times], of: Callable[[Times], float | None]) -> float | None:
    """The median of a figure; None where there is none."""
    values = [value for t in times if (value := of(t)) is not None]
    return statistics.median(values) if len(values) == len(times) else None


def _seconds(call: Callable, *args: object) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call(*args)
    return result, time.perf_counter() - start
