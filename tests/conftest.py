"""Fixtures of all tests."""

from tests.toy_fixtures import toy, whole  # noqa: F401
