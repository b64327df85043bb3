"""Fixtures and options of all tests."""

import multiprocessing

import pytest

from genic.eval import runner
from tests.toy_fixtures import toy, whole  # noqa: F401

# Imported once by the server which the processes of all tests are forked from.
runner.PRELOADED += ["torchvision", "pytorch_lightning"]
multiprocessing.get_context("forkserver").set_forkserver_preload(runner.PRELOADED)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress", action="store_true", help="tests/stress at its full counts")
