"""The typed errors of the project. Each message says what is wrong and what to do about it."""


class GenicError(Exception):
    """Root of every error that genic raises on purpose."""


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


class DataError(GenicError, FileNotFoundError):
    """A data set, or a part of it, is not where it should be."""


class ToolError(GenicError, RuntimeError):
    """An outside library or program is missing or refused its input."""
