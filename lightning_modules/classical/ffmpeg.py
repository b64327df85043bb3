"""Single pictures as bare video streams, through PyAV (FFmpeg's libraries)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext

from genic.lightning_modules.codec.errors import DamagedFileError, ToolError

_FORMAT = "yuv444p"
_SLACK = 256  # pixels a side by which FFmpeg may round a frame up


class Region(NamedTuple):
    """A region of interest, in pixels, and its offset to the quantisation parameter, −51 to 51, negative is better."""

    x: int
    y: int
    width: int
    height: int
    offset: int


def encode_planes(
    planes: np.ndarray, encoder: str, options: dict[str, str], regions: Sequence[Region] = ()
) -> bytes:
    """The stream of one 4:4:4 frame.

    Args:
        planes: uint8, 3×H×W.
        encoder: name in FFmpeg, such as ``libx265``.
        options: the encoder's own.
        regions: where quality differs; x265 wants ``aq-mode`` on for them to count.

    Raises:
        ToolError: this build of PyAV lacks the encoder, or it refuses the frame.
    """
    try:
        context = av.CodecContext.create(encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.height, context.width = planes.shape[1:]
        context.pix_fmt = _FORMAT
        context.time_base, context.framerate = Fraction(1), Fraction(1)
        context.options = options
        frame = av.VideoFrame(context.width, context.height, _FORMAT)
        for target, plane in zip(frame.planes, planes, strict=True):
            padding = target.line_size - plane.shape[1]
            target.update(np.pad(plane, ((0, 0), (0, padding))).tobytes())
        frame = _with_regions(frame, regions)
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    except (FFmpegError, ValueError) as error:
        raise ToolError(
            f"{encoder} through PyAV failed: {error}; install a build of av that has it"
        ) from error


def _with_regions(frame: av.VideoFrame, regions: Sequence[Region]) -> av.VideoFrame:
    """The frame with regions of interest, by a chain of FFmpeg's ``addroi``; PyAV cannot set them itself."""
    if not regions:
        return frame
    graph = Graph()
    last = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format.name,  # pyright: ignore[reportArgumentType]  # PyAV takes names, too
        time_base=Fraction(1),
    )
    frame.pts = 0
    for region in regions:
        x, y, width, height, offset = region
        link = graph.add("addroi", f"x={x}:y={y}:w={width}:h={height}:qoffset={offset}/51")
        last.link_to(link)
        last = link
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    found = graph.pull()
    assert isinstance(found, av.VideoFrame)
    return found


def decode_planes(stream: bytes, decoder: str, height: int, width: int) -> np.ndarray:
    """The uint8 3×height×width planes of a stream of one 4:4:4 frame.

    The decoder is told the size, so that it allocates little more (FFmpeg rounds sides up), and to report
    every error instead of concealing it.

    Raises:
        DamagedFileError: not exactly one such frame.
    """
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.options = {
        "max_pixels": str((height + _SLACK) * (width + _SLACK)),
        "err_detect": "explode+crccheck+bitstream+buffer",
    }
    try:
        frames = [*context.decode(av.Packet(stream)), *context.decode(None)]
    except MemoryError as error:
        # FFmpeg says so of sizes that make no sense, too; it is those where there is room for the picture.
        np.empty((8, height + _SLACK, width + _SLACK), np.uint8)
        raise DamagedFileError(f"{decoder} cannot make room for what the payload claims: {error}") from error
    if len(frames) != 1 or frames[0].is_corrupt:
        raise DamagedFileError(f"the payload has {len(frames)} whole frames, 1 is needed")
    frame = frames[0]
    if (frame.height, frame.width) != (height, width) or frame.format.name not in (_FORMAT, "yuvj444p"):
        raise DamagedFileError(
            f"the payload is {frame.height}×{frame.width} {frame.format.name}, not {height}×{width} 4:4:4"
        )
    return np.stack(
        [
            np.frombuffer(bytes(plane), np.uint8).reshape(height, plane.line_size)[:, :width]
            for plane in frame.planes
        ]
    )
