"""Fixtures of all tests."""

import multiprocessing

from genic.eval import runner
from tests.toy_fixtures import toy, whole  # noqa: F401

# Imported once by the server which the processes of all tests are forked from.
runner.PRELOADED += ["torchvision", "pytorch_lightning"]
multiprocessing.get_context("forkserver").set_forkserver_preload(runner.PRELOADED)
