"""Evaluation of extreme semantic compression."""
