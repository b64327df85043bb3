"""Two machines on one: started by torchrun on each, and by the example job under a SLURM of two lines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

from genic.experiments.training.checkpoint import PROCESSES_KEY, read_checkpoint
from tests.test_ranks import COMMON, assert_ranks_are_equal

ROOT = Path(__file__).resolve().parent.parent
SRUN = """#!/bin/bash
export SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=1 SLURM_NNODES=2 SLURM_JOB_ID=$$ SLURM_NODELIST=127.0.0.1
for k in 0 1; do SLURM_PROCID=$k SLURM_NODEID=$k SLURM_LOCALID=0 "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || failed=1; done
exit "${failed:-0}"
"""


def finished(commands: list[list[str]], **environment: str) -> list[str]:
    """What the commands, started together, write."""
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    try:
        written = [process.communicate(timeout=280)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert not any(process.returncode for process in running), "\n".join(written)
    return written


def assert_one_run(out: Path, written: list[str], processes: int) -> None:
    assert "".join(written).count("finished at batch 2") == 1
    assert os.listdir(out / "hyperprior") == ["nano"]
    assert read_checkpoint(out / "hyperprior/nano/last.ckpt")[PROCESSES_KEY] == processes
    assert_ranks_are_equal(out, 2)


@pytest.mark.conformance
def test_two_nodes_by_torchrun(tmp_path):
    """With W&B's logger, whose folder the first process makes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    launcher = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    program = ["--rdzv-endpoint", address, "-m", "tests.ranks", "hyperprior", *COMMON, "train.batches=2"]
    command = [
        sys.executable,
        "-m",
        *launcher,
        *program,
        "--cpus",
        "1",
        "--nodes",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert_one_run(
        tmp_path, finished([command] * 2, RANKS_FOLDER=str(tmp_path), WANDB_MODE="offline"), processes=2
    )


@pytest.mark.conformance
def test_the_example_job(tmp_path):
    """With the switches that touch gradients: they are exchanged once a step of two batches."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    job = (ROOT / "docs/train.slurm").read_text().replace("experiments.run", "tests.ranks")
    switches = ["train.accumulate=2", "train.average_weights=0.9", "train.checkpoint_activations=true"]
    arguments = ["hyperprior", *COMMON, "train.batches=2", *switches]
    arguments += ["--out", str(tmp_path), "--logger", "csv"]
    written = finished(
        [["bash", "-c", job, "train.slurm", *arguments]],
        PATH=f"{srun.parent}:{os.environ['PATH']}",
        RANKS_FOLDER=str(tmp_path),
        PYTHON=sys.executable,
        DEVICES="--cpus 1",
        SLURM_JOB_NUM_NODES="2",
        SLURM_JOB_NAME="genic",
    )
    assert_one_run(tmp_path, written, processes=2)
