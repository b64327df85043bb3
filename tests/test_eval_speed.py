"""`python -m eval.speed` runs, its stages add up, its JSON says what was measured. Nothing is timed against a bound."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from genic.eval import speed
from genic.eval.speed_stages import watch
from tests.helpers import nano


class Clock:
    """Advances by one second a reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Worker:
    def step(self, x: int) -> int:
        return x + 1

    def fail(self) -> None:
        raise ValueError


def test_stages_are_timed_and_left_as_they_were() -> None:
    worker, step = Worker(), Worker.step
    stages = [(Worker, "step", "a"), (worker, "fail", "b")]
    with watch(stages, Clock()) as seconds:
        assert [worker.step(k) for k in range(3)] == [1, 2, 3]
        with pytest.raises(ValueError):
            worker.fail()
    assert seconds == {"a": 3.0, "b": 1.0}
    assert Worker.step is step and "fail" not in vars(worker)


def test_coding_of_a_tiny_picture(tmp_path, capsys) -> None:
    threads = torch.get_num_threads()
    names = ["selective_detail:small", "mbt2018-mean"]
    code = speed.main(
        ["--size", "64", "48", "--repeats", "2", "--threads", "1", "--out", str(tmp_path), "--only", *names]
    )
    assert code == 0 and torch.get_num_threads() == threads
    content = json.loads((tmp_path / "speed.json").read_text())
    assert content["size"] == [64, 48] and content["provenance"]["threads"] == 1
    left_out = {note.split(": ")[0] for note in content["notes"] if "left out" in note}
    assert set(content["seconds"]) | left_out == set(names)
    shown = capsys.readouterr().out
    for name, rounds in content["seconds"].items():
        assert len(rounds) == 2 and name in shown
        for times in rounds:
            assert 0 < times["transform"] < times["encode"] and 0 < times["pixels"] < times["decode"]
    for times in content["seconds"]["selective_detail:small"]:
        assert 0 < times["encode_coder"] < times["encode"] - times["transform"]
        assert 0 < times["decode_coder"] < times["decode"] - times["pixels"]


@pytest.fixture(scope="module")
def steps():
    from genic.eval import speed_training

    return speed_training.ours("selective_detail:nano", 176, 1, 2, bf16=False)


def test_training_steps_are_real(steps) -> None:
    """And the parts of a step are the whole, each network's backward pass that of its own layers."""
    seconds, parts = steps
    assert len(seconds) == 2 and min(seconds) > 0
    assert {"E", "G_m", "G_s", "H", "D"} <= set(parts.networks)
    for forward, backward in (parts.networks[name] for name in ("E", "G_m", "G_s", "H", "D")):
        assert forward > 0 and backward > 0
    assert parts.losses > 0 and parts.optimisers > 0 and 0 < parts.convolutions < parts.step
    whole = sum(map(sum, parts.networks.values())) + parts.losses + parts.optimisers
    assert whole == pytest.approx(parts.step)


def test_a_backward_pass_is_its_network_s() -> None:
    """Two networks of which one has all the work."""
    from genic.eval.speed_training import _parts

    little, much = torch.nn.Linear(4, 4), torch.nn.Conv2d(4, 4, 9)
    x = torch.rand(8, 4, 60, 60)
    for _ in range(2):
        with _parts({"little": little, "much": much}) as found:
            (much(x).mean() + little(x[0, 0, :, :4]).mean()).backward()
    networks = found[0].networks
    assert (
        networks["much"][1] > 5 * networks["little"][1] > 0
        and found[0].convolutions > networks["much"][0] / 2
    )


def test_training_tables(tmp_path, monkeypatch, steps, capsys) -> None:
    from genic.eval import speed_training

    monkeypatch.setattr(speed_training, "ours", lambda *_: ([0.5, 0.25], steps[1]))
    monkeypatch.setattr(speed_training, "compressai", lambda *_: ([1.0, 2.0], steps[1]))
    exchanged = speed_training.Communication(4_000_000, 3, 2.0, 50.0)
    monkeypatch.setattr(speed_training, "communication", lambda *_: exchanged)
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["--train", "--only", "mbt2018-mean", "gdae_sprc:nano", "--repeats", "2", "--batch", "2"]
    assert speed.main([*arguments, "--compile", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "speed_train.json").read_text())
    assert content["seconds"]["mbt2018-mean, fp32"] == [1.0, 2.0] and len(content["seconds"]) == 6
    assert content["communication"] == {"gdae_sprc:nano": asdict(exchanged)}
    reader = content["reader_images_per_second"]["gdae_sprc:nano"]
    row = next(
        line for line in capsys.readouterr().out.splitlines() if "gdae_sprc:nano, bf16, compiled" in line
    )
    # Four times CompressAI's speed: 1.5 s against 0.375 s, in which a reader makes its images.
    assert [cell.strip() for cell in row.split("│")[2:7]] == [
        "5.33", "0.38", "4.00", f"{reader:.0f}", f"{reader * 0.375 / 2:.0f}"
    ]  # fmt: skip


@pytest.mark.conformance
def test_two_processes_exchange_their_gradients() -> None:
    """Each gradient once, and with each network's gradients which of its parameters took part."""
    from genic.eval import speed_training

    found = speed_training.communication("hyperprior:nano", 64, 1, 1)
    parameters = list(nano("hyperprior").parameters())
    assert found.bytes == 4 * (sum(p.numel() for p in parameters) + len(parameters)) and found.calls == 2
    assert 0 < found.milliseconds < found.step_milliseconds


def test_settings_are_checked(capsys) -> None:
    for wrong, expected in {
        "--repeats=0": "at least 1",
        "--only=hyperprior:nano": "there are selective",
    }.items():
        with pytest.raises(SystemExit):
            speed.main([wrong])
        assert expected in capsys.readouterr().err
