"""Train a paper's system.

::

    python -m experiments.run selective_detail preset=small data=imagenet
    python -m experiments.run selective_detail preset=nano --cpus 2 train.clip=3
    python -m experiments.run selective_detail preset=small --resume auto --max-time 01:30
    python -m experiments.run selective_detail --multirun train.learning_rate=1e-4,4e-4 seed=0,1     # four runs
    python -m experiments.run selective_detail --sweep-file > sweep.yaml                     # for wandb sweep

The run's folder (``runs/<experiment>/<preset>``, numbered from the second on) holds the resolved
``config.yaml``, ``metrics.jsonl``, ``last.ckpt`` to resume from, weights, image panels, and the
rate-distortion result of the final weights.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from genic.datamodules import make_datamodule
from genic.datamodules.base import PhotoDataModule
from genic.datamodules.images import ImageItem, manifest_hash
from genic.eval.curves import curve_of, find_reference, published_curves
from genic.eval.provenance import provenance
from genic.eval.runner import WorkerPairs, codec_result, evaluate
from genic.eval.schema import CodecResult
from genic.experiments import dashboard
from genic.experiments.codecs import option_lines
from genic.experiments.command import command, make_parser
from genic.experiments.config import (
    RunConfig,
    all_options,
    combinations,
    load_config,
    presets,
    sweep,
    to_yaml,
)
from genic.experiments.evaluate import pictures
from genic.experiments.training.callbacks import (
    FINISHED,
    AveragedWeights,
    Checkpoints,
    Clock,
    Meters,
    Overview,
    Panels,
)
from genic.experiments.training.checkpoint import (
    PROCESSES_KEY,
    SafeCheckpointIO,
    batches_of,
    check_same_model,
    read_checkpoint,
)
from genic.experiments.training.devices import STRATEGIES, Placement, choose_devices, cluster_plugins
from genic.experiments.training.folder import WEIGHTS, choose_folder
from genic.experiments.training.health import Health
from genic.experiments.training.loggers import BatchLogger, JsonlLogger
from genic.experiments.training.networks import checkpoint_activations, compile_networks
from genic.experiments.training.precision import lightning_precision
from genic.experiments.training.progress import ProgressDisplay
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import ConfigError, ToolError
from genic.lightning_modules.codec.weights import find_weights, load_weights, weights_identity
from genic.lightning_modules.config import PRECISIONS
from genic.lightning_modules.registry import find_paper, open_codec, papers


@dataclass(frozen=True)
class Run:
    """What `train` did.

    Attributes:
        folder: of the run.
        batches: trained since the run's start, earlier sessions included.
        reason: why it ended: ``finished``, ``out of time``, or a signal's name.
        module: as it is after the last batch.
    """

    folder: Path
    batches: int
    reason: str
    module: CompressionModule


def train(
    config: RunConfig,
    *,
    out: str | Path = "runs",
    name: str | None = None,
    placement: Placement | None = None,
    resume: str | Path | None = None,
    max_time: timedelta | None = None,
    logger: str = "csv",
) -> Run:
    """Train, or go on training.

    Resuming repeats exactly what the uninterrupted run would have done, given the same devices.

    Args:
        config: from `load_config`.
        out: folder of all runs.
        name: of the run's folder; by default the preset's.
        placement: devices, from `choose_devices`.
        resume: ``auto`` for the newest run of this experiment and preset, or a run's folder or checkpoint.
        max_time: stop, with a checkpoint, after this time.
        logger: ``wandb`` or ``csv``; the JSONL file is written in any case.

    Raises:
        GenicError: a setting, file or device is not as needed; the subclasses say which.
    """
    placement = placement or choose_devices()
    folder, checkpoint_path = choose_folder(Path(out), config.experiment, name or config.name, resume)
    pl.seed_everything(config.seed, verbose=False)
    module = find_paper(config.experiment).module_class()(config.paper(), config.seed)
    datamodule = make_datamodule(config.data)
    # What is wrong with the data is better said now, before there is a folder or a logger.
    datamodule.train_dataloader()
    assert isinstance(datamodule, PhotoDataModule), "what is for evaluation alone has just said so"
    if config.train.validate_every:
        datamodule.val_dataloader()
    module.check_data(datamodule)
    placement.check(module, config.train)
    start_batch = 0
    if checkpoint_path is not None:
        checkpoint = read_checkpoint(checkpoint_path)
        check_same_model(checkpoint, to_yaml(config), checkpoint_path)
        start_batch = batches_of(checkpoint, checkpoint_path)
        if checkpoint[PROCESSES_KEY] != placement.processes:
            rank_zero_warn(
                f"{checkpoint_path} was written by {checkpoint[PROCESSES_KEY]} processes: on {placement.processes} "
                "the run goes on with other batches than it would have had"
            )
        if "averaging_state" in checkpoint and not config.train.average_weights:
            raise ConfigError(f"{checkpoint_path} has averaged weights: give train.average_weights, too")
        del checkpoint
    elif config.train.initialise_from is not None:
        package = find_paper(config.experiment).folder
        weights = find_weights(config.experiment, config.train.initialise_from, package)
        taken, parameters = module.initialise_from(*load_weights(weights))
        _say(f"{taken} of {parameters} parameters start from {weights}")
    datamodule.start_batch = start_batch
    if config.train.channels_last:
        module.to(memory_format=torch.channels_last)
    if config.train.checkpoint_activations:
        checkpoint_activations(module)
    if config.train.compile:
        compile_networks(module)
    # Missing pictures are better missed now than at the end of the run.
    measured = pictures(config.train.evaluate, config.data.root, None)[1] if config.train.evaluate else []
    _announce(config, folder, start_batch, placement)
    if config.train.validate_every and module.validation_lpips is None:
        _say("validation without LPIPS: alexnet's weights are not at hand (docs/training.md)")
    if checkpoint_path is not None and start_batch >= config.train.batches:
        checkpoint = read_checkpoint(checkpoint_path)
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        return Run(folder, start_batch, FINISHED, module)

    loggers: list = [JsonlLogger(folder, start_batch, as_csv=logger == "csv")]
    if logger == "wandb":
        loggers.append(BatchLogger(folder, asdict(config), start_batch))
    clock, meters = Clock(config.train.batches, max_time), Meters()
    average = AveragedWeights(config.train.average_weights) if config.train.average_weights else None
    notes = {"preset": config.preset, "data": config.data.name, "seed": str(config.seed)}
    trainer = pl.Trainer(
        **placement.trainer_arguments(),
        precision=lightning_precision(config.train.precision, placement.accelerator),
        # The clock ends the run: Lightning's steps are optimisers' steps, and the stream of data is endless.
        max_epochs=-1,
        check_val_every_n_epoch=None,
        val_check_interval=config.train.validate_every or 1,
        limit_val_batches=1.0 if config.train.validate_every else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=config.train.log_every,
        logger=loggers,
        callbacks=[
            *([average] if average else []),
            clock,
            meters,
            Health(),
            Checkpoints(folder, config.train, to_yaml(config), notes, average),
            Overview(),
            Panels(folder, config.train.panels_every, average),
            ProgressDisplay(config.train.batches, meters, max_time),
        ],
        plugins=[SafeCheckpointIO(), *cluster_plugins()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        benchmark=placement.accelerator == "gpu",
    )
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint_path)
    if trainer.is_global_zero:
        run = loggers[1].experiment if logger == "wandb" else None
        if run is not None and clock.reason == FINISHED:
            _log_weights(run, config, folder, datamodule)
        if measured and clock.reason == FINISHED:
            networks = ["lpips_alex"] if module.validation_lpips is not None else []
            _measure(config, folder, measured, networks, run)
        if run is not None:
            dashboard.finish(run, folder)
    return Run(folder, module.batches_seen, clock.reason or FINISHED, module)


def _measure(
    config: RunConfig, folder: Path, items: list[ImageItem], networks: list[str], run: Any | None
) -> None:
    """The final weights as a codec: its result in the run's folder and, where there is a W&B run, in it, against HEVC
    as published on these pictures, else as measured now."""
    codec, data = f"{config.experiment}:{folder / WEIGHTS}", config.train.evaluate
    manifest = manifest_hash(items)
    print(f"measuring {codec} on {data}: {len(items)} pictures", flush=True)
    with tempfile.TemporaryDirectory() as saved, WorkerPairs() as workers:
        how = {"networks": networks, "save_decoded": Path(saved) if run is not None else None}

        def measured(name: str, every: int = 1) -> CodecResult:
            opened = open_codec(name)
            points = evaluate(name, items, opened.qualities[::every], workers, **how)
            return codec_result(name, opened, data, manifest, points, provenance(1, 1), {})

        result = measured(codec)
        result.save(folder / "rd" / f"{data}.json")
        if run is None:
            return
        anchors = published_curves(data, find_reference() if data == "kodak" else None)
        if not any(curve.name in dashboard.HEVC for curve in anchors):
            anchors.append(curve_of(measured("hevc", every=2)))
        own = replace(curve_of(result), name=f"{config.experiment}/{folder.name}")
        dashboard.log_data(run, data, {"manifest": manifest}, items)
        dashboard.log_result(run, result, anchors, own, items, Path(saved))


def _log_weights(run: Any, config: RunConfig, folder: Path, datamodule: Any) -> None:
    """The weights, and what they were trained on, in Weights & Biases."""
    about: dict[str, Any] = {"shards": config.data.shards}
    if config.data.shards is None:
        names = [item.name for item in datamodule.items("train")]
        about = {"pictures": len(names), "names": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    dashboard.log_data(run, f"{config.data.name}-training", about, [])
    about = {"weights": weights_identity(*load_weights(folder / WEIGHTS)).hex(), "preset": config.preset}
    dashboard.log_weights(run, f"{config.experiment}/{folder.name}", folder / WEIGHTS, about, made=True)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(arguments).parse_intermixed_args(arguments)
    quieten()
    pairs = [*options.settings, *([f"train.precision={options.precision}"] if options.precision else [])]
    if options.multirun:
        taken = {"--multirun", *options.settings}
        return _multirun(options, [argument for argument in arguments if argument not in taken])
    config = load_config(options.experiment, pairs, options.config)
    if options.sweep_file:
        print(sweep(config, pairs), end="")
        return 0
    started = time.monotonic()
    run = train(
        config,
        out=options.out,
        name=options.name,
        placement=choose_devices(options.gpus, options.cpus, options.nodes, options.strategy),
        resume=options.resume,
        max_time=_parse_time(options.max_time),
        logger=options.logger,
    )
    _report(run, config, time.monotonic() - started)
    return 0


def _multirun(options: argparse.Namespace, others: list[str]) -> int:
    """A run after another for each combination of settings, each a program of its own, as its processes and its memory
    want it; ``others`` are the remaining arguments. 2 where one failed."""
    commands = {}
    for pairs in combinations(options.settings):
        config = load_config(options.experiment, pairs, options.config)
        varied = [pair for pair in pairs if pair not in options.settings]
        if options.name is None:  # it begins with the preset's
            varied = [pair for pair in varied if not pair.startswith("preset=")]
        name = re.sub(r"[^\w.,=+-]+", "-", ",".join([options.name or config.name, *varied]))
        commands[name] = [sys.executable, "-m", "genic.experiments.run", *others, *pairs, "--name", name]
    failed = []
    for number, (name, program) in enumerate(commands.items(), 1):
        print(f"run {number} of {len(commands)}: {name}", flush=True)
        if subprocess.call(program):
            failed.append(name)
    if failed:
        raise ToolError(f"{len(failed)} of {len(commands)} runs failed: {'; '.join(failed)}")
    return 0


def _parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = make_parser("run", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", metavar="PAPER", help="with --help: its presets and keys")
    keys = "preset=NAME, data=NAME, model.…=, train.…=, coding.…="
    parser.add_argument("settings", nargs="*", metavar="key=value", help=keys)
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs a node")
    parser.add_argument("--cpus", type=int, metavar="N", help="CPU processes a node")
    parser.add_argument("--nodes", type=int, default=1, metavar="M", help="machines, under torchrun or SLURM")
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="ddp",
        help="whole networks on each process, or a share of them (trainings of one optimiser)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="short for train.precision=")
    parser.add_argument("--resume", metavar="auto|PATH", help="go on with the newest run, or with this one")
    parser.add_argument("--max-time", metavar="HH:MM", help="stop with a checkpoint after this time")
    parser.add_argument("--logger", choices=["wandb", "csv"], default="wandb", help="besides metrics.jsonl")
    parser.add_argument("--out", default="runs", metavar="DIR", help="folder of all runs")
    parser.add_argument("--name", help="of the run's folder below PAPER (default: the preset's)")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML of settings, between preset and key=value"
    )
    parser.add_argument(
        "--multirun",
        action="store_true",
        help="a run for each combination of values with commas between, key=1,3,5",
    )
    parser.add_argument("--sweep-file", action="store_true", help="print a sweep of Weights & Biases instead")
    if {"-h", "--help"} & set(arguments):
        named = [argument for argument in arguments if argument in papers()]
        parser.epilog = _keys(named[0]) if named else _papers()
    return parser


def _papers() -> str:
    lines = [f"  {paper}: {', '.join(presets(paper))}" for paper in papers()]
    return "\n".join(["papers and their presets:", *lines, "", "PAPER --help lists a paper's keys."])


def _keys(paper: str) -> str:
    told = [
        textwrap.fill(f"{name}: {text}", 106, initial_indent="  ", subsequent_indent=" " * 6)
        for name, text in presets(paper).items()
    ]
    keys = option_lines(all_options(paper))
    return "\n".join(
        [f"presets of {paper}, or preset=FILE.yaml:", *told, "", "keys before any preset:", *keys]
    )


def _parse_time(text: str | None) -> timedelta | None:
    if text is None:
        return None
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdigit() and minutes.isdigit()):
        raise ConfigError(f"--max-time {text}: give hours and minutes, e.g. 01:30")
    return timedelta(hours=int(hours), minutes=int(minutes))


def quieten() -> None:
    """Leave out Lightning's greetings, and advice that does not apply here."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # a setting, data.workers
        ".*your dataloader is not resumable.*",  # the stream starts at the right batch by itself
        ".*infer the `batch_size` from an ambiguous collection.*",  # of a value that is logged once a step
        ".*treespec, LeafSpec.*",  # torch's, about Lightning's own code
        ".*in eval mode at the start of training.*",  # frozen networks, on purpose
    ):
        warnings.filterwarnings("ignore", message)


@rank_zero_only
def _say(text: str) -> None:
    print(text, flush=True)


@rank_zero_only
def _announce(config: RunConfig, folder: Path, start_batch: int, placement: Placement) -> None:
    devices = f"{placement.processes} × {placement.accelerator.upper()}"
    print(
        f"{config.experiment}, preset {config.preset}, on {config.data.name}: {devices}, {folder}", flush=True
    )
    if start_batch:
        print(f"resumed at batch {start_batch} of {config.train.batches}", flush=True)


@rank_zero_only
def _report(run: Run, config: RunConfig, seconds: float) -> None:
    elapsed = timedelta(seconds=round(seconds))
    print(f"{run.reason} at batch {run.batches} of {config.train.batches} after {elapsed}")
    print(f"weights: {run.folder / WEIGHTS}")
    if run.reason != FINISHED:
        print(f"go on with: --resume {run.folder}")


if __name__ == "__main__":
    sys.exit(main())
