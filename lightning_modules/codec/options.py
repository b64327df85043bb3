"""Options by name, read off what takes them: a function's keywords or a dataclass's fields, and their docstrings."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from genic.lightning_modules.codec.errors import ConfigError, did_you_mean

REQUIRED = inspect.Parameter.empty


class MapFile(NamedTuple):
    """How text stands for a map of H×W values: as the path of a picture."""

    what: str
    read: Callable[[Path], np.ndarray]


def _labels(path: Path) -> np.ndarray:
    from genic.datamodules.images import read_label

    return read_label(path)


def _heat(path: Path) -> np.ndarray:
    from genic.datamodules.images import read_image

    return read_image(path).mean(2, dtype=np.float32) / 255


LabelMap = Annotated[np.ndarray, MapFile("label map, PNG", _labels)]
"""Class numbers H×W."""
HeatMap = Annotated[np.ndarray, MapFile("grey picture", _heat)]
"""Numbers H×W from 0 to 1; in a picture black to white."""
Mask = Annotated[np.ndarray, MapFile("black and white picture", lambda path: _heat(path) >= 0.5)]
"""bool H×W."""


class Option(NamedTuple):
    """A keyword or field.

    Attributes:
        kind: its annotation.
        default: `REQUIRED` where there is none.
        meaning: of the docstring, in one line; perhaps empty.
    """

    kind: Any
    default: Any
    meaning: str

    @property
    def type_name(self) -> str:
        """Kinds that text can stand for; empty where there are none."""
        return " | ".join(name for kind in _members(self.kind) if (name := _kind_name(kind)))

    @property
    def from_text(self) -> bool:
        """Whether text can stand for a value."""
        return self.type_name not in ("", "null")

    @property
    def is_map(self) -> bool:
        """Whether text is the path of a picture."""
        return any(_map_file(kind) for kind in _members(self.kind))

    @property
    def shown_default(self) -> str:
        """As it is typed on a command line."""
        return "" if self.default is REQUIRED else shown(self.default)


def options_of(source: Any) -> dict[str, Option]:
    """What a function takes by keyword, or a dataclass has as fields; values of an instance are its defaults."""
    if is_dataclass(source):
        kind = source if isinstance(source, type) else type(source)
        hints = get_type_hints(kind, include_extras=True)
        found = {field.name: (hints[field.name], _default(source, field)) for field in fields(kind)}
        # A dataclass without a docstring is given one, its signature.
        docs = [c.__doc__ for c in reversed(kind.__mro__) if not str(c.__doc__).startswith(f"{c.__name__}(")]
    else:
        taken = inspect.signature(source, eval_str=True).parameters.values()
        keywords = [p for p in taken if p.kind is p.KEYWORD_ONLY or p.default is not REQUIRED]
        found = {p.name: (p.annotation, p.default) for p in keywords}
        docs = [source.__doc__]
    told = {name: text for doc in docs if doc for name, text in _meanings(inspect.cleandoc(doc), found)}
    return {name: Option(kind, default, told.get(name, "")) for name, (kind, default) in found.items()}


def check_known(names: Iterable[str], known: Collection[str], of: str) -> None:
    """Raise `ConfigError` where one of the names is none of the ``known`` options ``of`` something."""
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{of} has no option {name!r}; {did_you_mean(name, known) if known else 'it has none'}"
            )


def parsed(name: str, text: str, kind: Any) -> Any:
    """The value that ``text`` stands for: lists have commas between, maps are paths of pictures.

    Raises:
        ConfigError: it is nothing of that kind; the message has the ``name``.
        DataError, ImageError: of a map's file.
    """
    kinds, word = _members(kind), text.lower()
    maps = [map_file for known in kinds if (map_file := _map_file(known))]
    if type(None) in kinds and word in ("null", "none"):
        return None
    if maps and (str not in kinds or Path(text).is_file()):
        return maps[0].read(Path(text))
    if bool in kinds and word in ("true", "false"):
        return word == "true"
    for number in (int, float):
        if number in kinds:
            with suppress(ValueError):
                return number(text)
    if str in kinds:
        return text
    for known in kinds:
        if get_origin(known) in (list, tuple, Sequence):
            return [parsed(name, item, get_args(known)[0]) for item in text.strip("[]()").split(",") if item]
    raise ConfigError(f"{name}={text}: {Option(kind, None, '').type_name} is needed")


def shown(value: object) -> str:
    """A setting as it is typed on a command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _members(kind: Any) -> tuple[Any, ...]:
    """Of a union; else the kind itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _map_file(kind: Any) -> MapFile | None:
    return kind.__metadata__[0] if get_origin(kind) is Annotated else None


def _kind_name(kind: Any) -> str:
    if map_file := _map_file(kind):
        return map_file.what
    if kind is type(None):
        return "null"
    if kind in (bool, int, float, str):
        return kind.__name__
    listed = get_origin(kind) in (list, tuple, Sequence)
    return f"list[{_kind_name(get_args(kind)[0])}]" if listed else ""


def _default(source: Any, field: Field) -> Any:
    if not isinstance(source, type):
        return getattr(source, field.name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return REQUIRED if field.default is MISSING else field.default


def _meanings(doc: str, names: Iterable[str]) -> Iterable[tuple[str, str]]:
    """What stands behind ``name:`` or ``name, name:`` in a docstring, up to the next such or an empty line."""
    word = "|".join(map(re.escape, names))
    if not word:
        return
    for paragraph in doc.split("\n\n"):
        paragraph = " ".join(paragraph.partition("**")[0].replace("`", "").split())
        parts = re.split(rf"(?:^|(?<= ))((?:{word})(?:, (?:{word}))*): ", paragraph)
        for heads, text in zip(parts[1::2], parts[2::2], strict=True):
            for name in heads.split(", "):
                yield name, text.strip().rstrip(".;")
