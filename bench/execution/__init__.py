"""Runs trials: a fork server that imported the backend (`server`), the trial itself (`trial`), the sweep (`sweep`)."""
