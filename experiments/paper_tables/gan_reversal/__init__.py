"""What GAN reversal is measured by: one module a part of `experiments.tables`."""
