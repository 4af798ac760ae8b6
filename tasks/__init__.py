"""The steps of a run: plain functions, and thin Prefect tasks around them (``steps.py``)."""
