"""No test tells anybody anything: Prefect's and Great Expectations' telemetry is off before either is imported."""

import os

os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
