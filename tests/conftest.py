"""Fixtures of all tests."""

import pytest

from tests.toy_fixtures import toy, whole  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress", action="store_true", help="tests/stress at its full counts")
