"""Thin Prefect tasks, one file a step: each translates a step of ``groupwise.pipeline`` into Prefect's terms, and does nothing else."""
