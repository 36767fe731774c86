"""Experiments that do harm to a sweep, and look at what is left: scripts for large counts, tests for small ones."""
