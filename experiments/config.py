"""The typed configuration of a run: dataclass defaults < the preset's YAML < a file < ``key=value`` arguments."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from genic.datamodules.config import DataConfig
from genic.lightning_modules.codec.errors import ConfigError, did_you_mean, nearest
from genic.lightning_modules.codec.options import Option, options_of
from genic.lightning_modules.config import PaperConfig
from genic.lightning_modules.registry import find_paper

PRESETS = Path(__file__).resolve().parent / "presets"


@dataclass
class RunConfig:
    """Everything that a run depends on.

    Attributes:
        experiment: the paper, a key of `lightning_modules.registry.PAPERS`.
        preset: the YAML file that it started from: a name in `PRESETS`, or a path.
        seed: of the first weights and of all that is random in training; data.seed follows it unless set.
        data: see `datamodules.config.DataConfig`; ``data=NAME`` is short for ``data.name=NAME``.
        model, train, coding: the parts of the paper's configuration, see `lightning_modules.config`.
    """

    experiment: str
    preset: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = None
    train: Any = None
    coding: Any = None

    @property
    def name(self) -> str:
        """Of the preset, without folder and suffix."""
        return Path(self.preset).stem

    def paper(self) -> PaperConfig:
        """The paper's configuration, checked."""
        return find_paper(self.experiment).config_class()(self.model, self.train, self.coding)


def load_config(experiment: str, arguments: Sequence[str] = (), file: Path | None = None) -> RunConfig:
    """Resolve a configuration.

    Args:
        experiment: a paper's name.
        arguments: ``key=value``, e.g. ``preset=nano``, ``data=imagenet``, ``train.clip=5``.
        file: YAML of further settings, such as a run's config.yaml; its ``preset`` counts where no argument has one.

    Raises:
        ConfigError: an experiment, preset or key that does not exist (the nearest one is named), or a value
            of the wrong type or out of range.
    """
    from omegaconf import OmegaConf

    defaults = find_paper(experiment).config_class()()
    pairs = [_split(argument) for argument in arguments]
    own = {} if file is None else _load(file)
    preset = next((value for key, value in reversed(pairs) if key == "preset"), own.get("preset", "small"))
    path = _preset_path(experiment, preset)
    if own.get("experiment", experiment) != experiment:
        raise ConfigError(f"{file} is of {own['experiment']}, not of {experiment}")
    config = OmegaConf.structured(
        RunConfig(experiment, preset, model=defaults.model, train=defaults.train, coding=defaults.coding)
    )
    OmegaConf.update(config, "data.seed", "${seed}")
    config = _merge(config, _load(path), f"{path}: ")
    config = _merge(config, OmegaConf.create(own), f"{file}: ")
    for key, value in pairs:
        if key == "experiment" and value != experiment:
            raise ConfigError(f"the experiment is {experiment}: to run {value}, give its name first")
        key = "data.name" if key == "data" else key
        config = _merge(config, OmegaConf.from_dotlist([f"{key}={value}"]))
    resolved: Any = OmegaConf.to_object(config)
    for part in (resolved.data, resolved.paper()):
        if hasattr(part, "check"):
            part.check()
    return resolved


def to_yaml(config: RunConfig) -> str:
    """The resolved configuration as YAML; each of its keys can be given on the command line."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.structured(config))


def combinations(arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that have commas between; a list in brackets is one value."""
    choices = []
    for argument in arguments:
        key, value = _split(argument)
        choices.append([f"{key}={one}" for one in re.split(r",(?![^\[]*\])", value)])
    return [list(chosen) for chosen in itertools.product(*choices)]


def presets(experiment: str) -> dict[str, str]:
    """Names of a paper's presets, and what each file says about itself at its head."""
    found = {}
    for path in sorted(_preset_folder(experiment).glob("*.yaml")):
        lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
        found[path.stem] = " ".join(line.strip("# ") for line in lines)
    return found


def all_options(experiment: str) -> dict[str, Option]:
    """Every key of a paper's configuration, with the defaults that presets start from."""
    config = find_paper(experiment).config_class()()
    parts = {"data": DataConfig(), "model": config.model, "train": config.train, "coding": config.coding}
    own = {"seed": options_of(RunConfig)["seed"]}
    return own | {f"{part}.{key}": told for part in parts for key, told in options_of(parts[part]).items()}


def sweep(config: RunConfig, arguments: Sequence[str]) -> str:
    """A sweep of Weights & Biases, YAML, over learning rate and weights of the losses: each a third to three times its
    value in ``config``, drawn at random. What is best is a curve and no number, so no metric is named."""
    values = {
        key: value for key, value in asdict(config.train).items() if isinstance(value, float) and value > 0
    }
    swept = {key: value for key, value in values.items() if key.endswith("_weight") or key == "learning_rate"}
    command = ["${env}", "${interpreter}", "-m", "genic.experiments.run", config.experiment, *arguments]
    return yaml.safe_dump(
        {
            "name": f"{config.experiment} {config.name}",
            "program": "genic.experiments.run",
            "command": [*command, "${args_no_hyphens}"],
            "method": "random",
            "parameters": {
                f"train.{key}": {"distribution": "log_uniform_values", "min": value / 3, "max": 3 * value}
                for key, value in swept.items()
            },
        },
        sort_keys=False,
    )


def _split(argument: str) -> tuple[str, str]:
    key, equals, value = argument.partition("=")
    if not equals or not key:
        raise ConfigError(
            f"{argument!r} is not of the form key=value, e.g. preset=nano or train.batches=1000"
        )
    return key, value


def _preset_folder(experiment: str) -> Path:
    """Of a paper of another package, beside its modules."""
    own = PRESETS / experiment
    return own if own.is_dir() else find_paper(experiment).folder / "presets"


def _preset_path(experiment: str, preset: str) -> Path:
    if Path(preset).suffix in (".yaml", ".yml") or Path(preset).name != preset:
        return Path(preset)
    folder = _preset_folder(experiment)
    path = folder / f"{preset}.yaml"
    if path.is_file():
        return path
    there = sorted(p.stem for p in folder.glob("*.yaml"))
    raise ConfigError(f"{experiment} has no preset {preset!r}; {did_you_mean(preset, there)}")


def _load(path: Path) -> Any:
    from omegaconf import DictConfig, OmegaConf

    try:
        found = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"no settings in {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{path} has no keys with values")
    return found


def _merge(config: Any, update: Any, where: str = "") -> Any:
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

    known = list(_keys(config))
    try:
        for key in _keys(update):
            old, new = OmegaConf.select(config, key), OmegaConf.select(update, key)
            if isinstance(old, DictConfig) and not isinstance(new, DictConfig):
                inside = [name for name in known if name.startswith(f"{key}.")]
                raise ConfigError(f"{where}{key} is a group of keys: {', '.join(inside)}")
            if isinstance(old, ListConfig) and not isinstance(new, ListConfig):
                raise ConfigError(f"{where}{key}={new}: a list is needed, e.g. [1,2]")
        return OmegaConf.merge(config, update)
    except ConfigKeyError as error:
        # The error names the first unknown part only; the hint should look at the whole key.
        key = next(key for key in _keys(update) if key.startswith(str(error.full_key)))
        raise ConfigError(f"{where}no key {key!r}; {_nearest(key, known)}") from None
    except OmegaConfBaseException as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"{where}{error.full_key}: {reason}") from None
    except TypeError as error:  # of a key that goes on below a list
        raise ConfigError(f"{where}{', '.join(_keys(update))}: {error}") from None


def _nearest(key: str, known: list[str]) -> str:
    """A hint at what may have been meant: by the whole key, else by its last part."""
    leaves = {name.rpartition(".")[2]: name for name in known}
    near = nearest(key, known, 0.75) or leaves.get(nearest(key.rpartition(".")[2], leaves) or "")
    return f"did you mean {near!r}?" if near else f"the keys are {', '.join(known)}"


def _keys(config: Any, prefix: str = "") -> Iterable[str]:
    """Dotted names of all leaves."""
    from omegaconf import DictConfig

    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig) and len(node):
            yield from _keys(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
