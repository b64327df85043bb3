"""What is said of a paper in one line, in the ``__init__.py`` of its package: `PAPER`."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Paper:
    """A published system: a package with the modules ``config``, ``module`` and ``codec``.

    Attributes:
        package: full name of the package, its ``__name__``; the last part is the paper's name, on the command line
            and in weights files.
        stem: of its classes: ``<stem>`` (the LightningModule), ``<stem>Config``, ``<stem>Codec``.
        id: of its codec in files; short, since it counts as rate.
        variants: further codecs of the same weights: name -> (id in files, class).
        publication: authors and year, for tables.
    """

    package: str
    stem: str
    id: str
    variants: dict[str, tuple[str, str]] = field(default_factory=dict)
    publication: str = ""

    @property
    def name(self) -> str:
        """The paper's name."""
        return self.package.rpartition(".")[2]

    @property
    def folder(self) -> Path:
        """The package's, with its ``weights`` and, outside genic, its ``presets``."""
        spec = find_spec(self.package)
        assert spec is not None and spec.submodule_search_locations, (
            f"{self.package} is a package: it made the paper"
        )
        return Path(next(iter(spec.submodule_search_locations)))

    def module_class(self) -> type:
        """Its `lightning_modules.base.CompressionModule`; imported here and not before."""
        return pkgutil.resolve_name(f"{self.package}.module:{self.stem}")

    def config_class(self) -> type:
        """Its configuration, in parts ``model``, ``train`` and ``coding``."""
        return pkgutil.resolve_name(f"{self.package}.config:{self.stem}Config")

    def codecs(self) -> dict[str, tuple[str, str]]:
        """Name -> (id in files, "module:class") of each codec."""
        named = {self.name: (self.id, f"{self.stem}Codec"), **self.variants}
        return {
            name: (identifier, f"{self.package}.codec:{target}")
            for name, (identifier, target) in named.items()
        }
