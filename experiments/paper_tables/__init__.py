"""The tables and figures of the publications, regenerated: one module a paper, run by `experiments.tables`."""
