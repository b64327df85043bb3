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
import logging
import re
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from genic.datamodules import make_datamodule
from genic.datamodules.files import EvaluationOnly
from genic.datamodules.images import manifest_hash
from genic.eval.provenance import provenance
from genic.eval.runner import codec_result, evaluate
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
from genic.experiments.training.callbacks import FINISHED, Checkpoints, Clock, Meters, Panels
from genic.experiments.training.checkpoint import (
    PROCESSES_KEY,
    SafeCheckpointIO,
    batches_of,
    check_same_model,
    read_checkpoint,
)
from genic.experiments.training.devices import Placement, choose_devices, cluster_plugins
from genic.experiments.training.folder import WEIGHTS, choose_folder
from genic.experiments.training.loggers import JsonlLogger, finish_wandb, log_table, make_wandb_logger
from genic.experiments.training.precision import lightning_precision
from genic.experiments.training.progress import ProgressDisplay
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import ConfigError, ToolError
from genic.lightning_modules.codec.weights import find_weights, load_weights
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
    if isinstance(datamodule, EvaluationOnly):
        datamodule.train_dataloader()
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
        del checkpoint
    elif config.train.initialise_from is not None:
        package = find_paper(config.experiment).folder
        weights = find_weights(config.experiment, config.train.initialise_from, package)
        taken, parameters = module.initialise_from(*load_weights(weights))
        _say(f"{taken} of {parameters} parameters start from {weights}")
    datamodule.start_batch = start_batch
    if config.train.channels_last:
        module.to(memory_format=torch.channels_last)
    # Missing pictures are better missed now than at the end of the run.
    measured = pictures(config.train.evaluate, config.data.root, None)[1] if config.train.evaluate else []
    _announce(config, folder, start_batch, placement)
    if checkpoint_path is not None and start_batch >= config.train.batches:
        checkpoint = read_checkpoint(checkpoint_path)
        module.load_state_dict(checkpoint["state_dict"])
        module.on_load_checkpoint(checkpoint)
        return Run(folder, start_batch, FINISHED, module)

    loggers: list = [JsonlLogger(folder, start_batch, as_csv=logger == "csv")]
    if logger == "wandb":
        loggers.append(make_wandb_logger(folder, asdict(config)))
    clock, meters = Clock(config.train.batches, max_time), Meters()
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
            clock,
            meters,
            Checkpoints(folder, config.train, to_yaml(config), notes),
            Panels(folder, config.train.panels_every),
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
    if measured and clock.reason == FINISHED and trainer.is_global_zero:
        codec, data = f"{config.experiment}:{folder / WEIGHTS}", config.train.evaluate
        print(f"measuring {codec} on {data}: {len(measured)} pictures", flush=True)
        opened = open_codec(codec)
        points = evaluate(codec, measured, list(opened.qualities))
        result = codec_result(codec, opened, data, manifest_hash(measured), points, provenance(1, 1), {})
        result.save(folder / "rd" / f"{data}.json")
        if logger == "wandb":
            log_table(loggers[1], result)
    if logger == "wandb":
        finish_wandb(loggers[1])
    return Run(folder, module.batches_seen, clock.reason or FINISHED, module)


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
        placement=choose_devices(options.gpus, options.cpus, options.nodes),
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
