"""The typed errors of the project. Each message says what is wrong and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown ``word``: the nearest known one, or all of them."""
    known = list(known)
    near = nearest(word, known)
    return f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word most like ``word``, or None where none is at least ``cutoff`` alike (0 to 1)."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)


class GenicError(Exception):
    """Root of every error that genic raises on purpose."""


class PictureWarning(UserWarning):
    """What a picture's file holds beyond 8-bit sRGB is not coded; it was converted as a viewer shows it."""


class ImageError(GenicError, ValueError):
    """The picture is not uint8 H×W×3, or its sides are out of bounds."""


class BitstreamError(GenicError, ValueError):
    """A file cannot be decoded. The subclasses say why."""


class ForeignFileError(BitstreamError):
    """The bytes are not a genic container, or name a codec that is not installed."""


class NewerFormatError(BitstreamError):
    """The container or a section was written by a later version of the format."""


class DamagedFileError(BitstreamError):
    """Truncated, altered or inconsistent bytes."""


class SymbolMismatchError(DamagedFileError):
    """The entropy decoder's symbols fail the check that the encoder stored."""


class WeightsError(GenicError, LookupError):
    """The weights that a codec or file names are missing, altered or of another shape."""


class ConfigError(GenicError, ValueError):
    """A configuration key or value is unknown, of the wrong type or out of range."""


class TargetError(ConfigError):
    """No file of the picture is as small, or as good, as it was asked to be.

    Attributes:
        best: the least size in bytes, or the highest measure, that was found.
    """

    def __init__(self, message: str, best: float) -> None:
        super().__init__(message, best)  # both, so that it can be pickled on its way out of another process
        self.best = best

    def __str__(self) -> str:
        return self.args[0]


class OutOfMemoryError(GenicError, MemoryError):
    """The machine or its GPU lacks the memory for a picture; nothing is known to be wrong with the file."""


class DataError(GenicError, FileNotFoundError):
    """A data set, or a part of it, is not where it should be."""


class DivergedError(GenicError, ArithmeticError):
    """A training has come to NaN or infinity; the message names the batch, the terms and the layers."""


class ToolError(GenicError, RuntimeError):
    """An outside library or program is missing or refused its input."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the import of a package that one of the extras in ``pyproject.toml`` installs.

    Raises:
        ToolError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ToolError(f"{error.name} is not installed: pip install 'genic[{extra}]'") from error
