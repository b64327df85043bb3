"""What selective detail decoding is measured by, apart from its rate-distortion curve: one module a part of
`experiments.tables`."""
