"""What ablative compression is measured by: one module a part of `experiments.tables`."""
