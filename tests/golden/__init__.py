"""Golden files: `make` says what they are and how they were made; `tests.test_entropy_golden` tests them."""
