"""Tools of `tests.test_conformance`: what is coded, under which arithmetic, and by which path."""
