"""A sweep as a person describes it: `make_sweep` turns a file, or the command line, or both, into combinations.

docs/sweeps.md is the description for those who write one; `sweep.schema.json` is the same for their editors.
"""
