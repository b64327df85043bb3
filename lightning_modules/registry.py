"""Everything that has a name: the papers, whose codecs are learned, the classical codecs, CompressAI's, and what
installed packages add.

::

    jpeg    selective_detail    selective_detail:small    selective_detail:runs/selective_detail/small
    compressai:mbt2018:4:checkpoint.pth.tar    folder:reconstructions    mypackage.codecs:Mine

A paper says its own line, `PAPER`, in the ``__init__.py`` of its package, see ``docs/add_a_paper.md``. Another package
adds codecs and papers by the entry points ``genic.codecs`` and ``genic.experiments``, see ``docs/plugins.md``; they are
looked at when a name is not one of genic's own. Imports are lazy, so that a broken or heavy dependency of one codec
does not touch the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import warnings
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import (
    ConfigError,
    ForeignFileError,
    GenicError,
    ToolError,
    did_you_mean,
)
from genic.lightning_modules.paper import Paper

CODECS, EXPERIMENTS = "genic.codecs", "genic.experiments"
"""Groups of entry points."""


def _own_papers() -> dict[str, Paper]:
    folder = [str(Path(__file__).parent)]
    names = [module.name for module in pkgutil.iter_modules(folder) if module.ispkg]
    packages = [importlib.import_module(f"genic.lightning_modules.{name}") for name in names]
    return {package.PAPER.name: package.PAPER for package in packages if hasattr(package, "PAPER")}


PAPERS = _own_papers()
"""Genic's own, by name."""

# name -> (id in files, "module:class").
CLASSICAL = {
    "jpeg": ("jpeg", "genic.lightning_modules.classical.jpeg:Jpeg"),
    "jpeg2000": ("jp2", "genic.lightning_modules.classical.jpeg2000:Jpeg2000"),
    "webp": ("webp", "genic.lightning_modules.classical.webp:WebP"),
    "avif": ("avif", "genic.lightning_modules.classical.avif:Avif"),
    "avif-default": ("avid", "genic.lightning_modules.classical.avif:AvifDefault"),
    "hevc": ("hevc", "genic.lightning_modules.classical.hevc:Hevc"),
    "bpg": ("bpg", "genic.lightning_modules.classical.bpg:Bpg"),
    "jxl": ("jxl", "genic.lightning_modules.classical.jxl:JpegXl"),
    "kmeans": ("kmn", "genic.lightning_modules.classical.kmeans:KMeans"),
}

# Networks from elsewhere, always with a checkpoint: name -> (id in files, "module:class" with `load` and `of_file`).
EXTERNAL = {"compressai": ("cai", "genic.lightning_modules.external.compressai:CompressAi")}

FOLDER = "genic.lightning_modules.external.folder:Folder"


def learned() -> dict[str, tuple[str, str]]:
    """Genic's own learned codecs: name -> (id in files, "module:class" with the class method `load(which)`)."""
    return {name: target for paper in PAPERS.values() for name, target in paper.codecs().items()}


def paper_of(codec: str) -> str | None:
    """Genic's own paper whose codec this is, as `open_codec` takes it; None for any other."""
    name = codec.partition(":")[0]
    return next((paper for paper, entry in PAPERS.items() if name in entry.codecs()), None)


def papers() -> dict[str, Paper]:
    """All papers by name: genic's own and those of installed packages; one that cannot be imported is warned of."""
    found = dict(PAPERS)
    for name in plugins(EXPERIMENTS):
        try:
            found[name] = _plugin_paper(name)
        except GenicError as error:
            warnings.warn(str(error), stacklevel=2)
    return found


def list_codecs() -> list[str]:
    """Names for `open_codec`: classical, learned, external, then those that installed packages add."""
    added = [name for paper in papers().values() if paper.name not in PAPERS for name in paper.codecs()]
    return [*CLASSICAL, *learned(), *EXTERNAL, "folder", *added, *plugins(CODECS)]


def find_paper(name: str) -> Paper:
    """The paper of that name; `ConfigError` names the nearest one otherwise."""
    if name in PAPERS:
        return PAPERS[name]
    if name in plugins(EXPERIMENTS):
        return _plugin_paper(name)
    raise ConfigError(f"no experiment {name!r}; {did_you_mean(name, [*PAPERS, *plugins(EXPERIMENTS)])}")


def open_codec(name: str, device: str | None = None) -> Codec:
    """The codec ``name`` or ``name:which``.

    What is set on one codec does not touch another, though their networks are shared.

    Args:
        name: of `list_codecs`, learned ones with ``:PRESET``, a weights file or a run's folder; or a class of your
            own as ``module:Class``, which other processes can import, too.
        device: of a learned codec's networks: ``cpu``, ``cuda``, ``cuda:1``; by default a GPU if there is one.

    Raises:
        ConfigError: no such codec, and the nearest known name; no such device.
        WeightsError: no such weights, or of another paper.
        ToolError: a package that adds the codec cannot be imported.
    """
    if not isinstance(name, str):
        raise ConfigError(f"a codec's name is text, not {type(name).__name__}")
    base, _, which = name.partition(":")
    if base in CLASSICAL and not which:
        return _made(_resolve(CLASSICAL[base][1]), "", device)
    for own in (learned(), EXTERNAL):
        if base in own:
            return _made(_resolve(own[base][1]), which, device)
    if base == "folder":
        return _made(_resolve(FOLDER), which, device)
    if base in plugins(CODECS):
        return _made(_plugin_codec(base), which, device)
    for paper in papers().values() if plugins(EXPERIMENTS) else ():
        if base in paper.codecs():
            return _made(_resolve(paper.codecs()[base][1]), which, device)
    if "." in base or which.partition(":")[0].isidentifier():
        kind = _class_of(base, which.partition(":")[0])
        if kind is not None:
            return _made(kind, which.partition(":")[2], device)
    raise ConfigError(
        f"no codec {name!r}: {did_you_mean(base, list_codecs())} (a codec of your own, here and in other processes: "
        "module:Class of a module that can be imported, or an entry point, see docs/plugins.md)"
    )


def codec_for(data: bytes, weights: Path | None = None, device: str | None = None) -> Codec:
    """The codec that wrote a file; a learned one with the weights of the file's identity, or ``weights``.

    Raises:
        BitstreamError: no file of genic's, damaged, or of a codec that no installed package has.
        ConfigError, WeightsError: see `open_codec`.
    """
    container = Container.from_bytes(data)
    which = container.weights if weights is None else weights
    for identifier, target in (*CLASSICAL.values(), *learned().values()):
        if identifier == container.codec:
            return _made(_resolve(target), which, device)
    for identifier, target in EXTERNAL.values():
        if identifier == container.codec:
            return _resolve(target).of_file(container, weights)
    for paper in papers().values():
        for identifier, target in paper.codecs().values():
            if identifier == container.codec:
                return _made(_resolve(target), which, device)
    for name in plugins(CODECS):
        kind = _plugin_codec(name)
        if kind.id == container.codec:
            return _made(kind, which, device)
    raise ForeignFileError(
        f"the file names codec {container.codec!r}, which neither this genic nor an installed package has: upgrade "
        "genic, or install the package that wrote it (a class of no package decodes with open_codec('module:Class'))"
    )


def plugins(group: str) -> dict[str, EntryPoint]:
    """Of a group, what installed packages add, by name.

    Raises:
        ConfigError: a name is taken twice, or one of genic's own.
    """
    return _plugins(group, tuple(sys.path))


@lru_cache(maxsize=8)
def _plugins(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    del path  # part of the cache's key: where packages are looked for
    found: dict[str, EntryPoint] = {}
    own = {*PAPERS} if group == EXPERIMENTS else {*CLASSICAL, *learned(), *EXTERNAL, "folder"}
    for entry in entry_points(group=group):
        if entry.name in own or found.get(entry.name, entry).value != entry.value:
            raise ConfigError(
                f"{_package(entry)} adds {entry.name!r} to {group}, a name that is taken: rename it there"
            )
        found[entry.name] = entry
    return found


def _package(entry: EntryPoint) -> str:
    return "a package" if entry.dist is None else f"the package {entry.dist.name}"


def _loaded(group: str, name: str) -> Any:
    entry = plugins(group)[name]
    try:
        return entry.load()
    except Exception as error:  # whatever its import raises
        raise ToolError(
            f"{name} of {_package(entry)} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _plugin_paper(name: str) -> Paper:
    paper = _loaded(EXPERIMENTS, name)
    if not isinstance(paper, Paper) or paper.name != name:
        raise ConfigError(
            f"the entry point {name} of {EXPERIMENTS} is no Paper of that name: let a package's __init__.py say "
            "PAPER = Paper(__name__, …)"
        )
    return paper


def _plugin_codec(name: str) -> type[Codec]:
    kind = _checked(_loaded(CODECS, name), f"the entry point {name} of {CODECS}")
    own = {identifier for identifier, _ in (*CLASSICAL.values(), *learned().values(), *EXTERNAL.values())}
    if kind.id in own:
        raise ConfigError(
            f"{name} writes {kind.id!r} into files, which is a codec of genic's: give it another id"
        )
    return kind


def _class_of(module: str, name: str) -> type[Codec] | None:
    """A codec's class named ``module:Class``; None where there is no such module."""
    if module == "__main__":
        raise ConfigError(
            f"{module}:{name}: other processes cannot import the program itself: move the class into a module of its "
            "own and name it module:Class, or add it as an entry point (docs/plugins.md)"
        )
    try:
        if (
            not all(part.isidentifier() for part in module.split("."))
            or importlib.util.find_spec(module) is None
        ):
            return None
    except ModuleNotFoundError:
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever its import raises
        raise ToolError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    return _checked(found, f"{module}:{name}")


def _checked(found: object, called: str) -> type[Codec]:
    if not isinstance(found, type) or not issubclass(found, Codec):
        raise ConfigError(f"{called} is no class derived from genic.Codec")
    return found


def _resolve(target: str) -> Any:
    return pkgutil.resolve_name(target)


def _made(kind: Any, which: str | bytes | Path, device: str | None) -> Codec:
    """A codec of a class, by its ``load`` where it has one."""
    if device is not None and not kind.has_networks:
        if str(device) != "cpu":
            raise ConfigError(f"{kind.id} runs on the CPU: leave out device={device!r}")
        device = None
    if not hasattr(kind, "load"):
        if isinstance(which, str) and which:
            raise ConfigError(f"{kind.__name__} has nothing to be loaded from {which!r}: leave it out")
        return kind()
    chosen = {} if device is None else {"device": device}
    return kind.load(which or ("small" if kind.has_networks else ""), **chosen)
