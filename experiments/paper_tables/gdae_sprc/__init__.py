"""What GDAE + SPRC is measured by, apart from its rate-distortion curve: one module a part of `experiments.tables`."""
