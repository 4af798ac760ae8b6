"""How close parity came: after a run, the worst deviation of every quantity, in its tolerance's unit."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    worst: dict[tuple[str, float], tuple[float, str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "deviation":
                    quantity, tolerance, deviation = value
                    here = deviation, report.nodeid.rsplit("::", 1)[-1]
                    worst[quantity, tolerance] = max(worst.get((quantity, tolerance), (0.0, "")), here)
    if worst:
        terminalreporter.section("worst deviations")
        for (quantity, tolerance), (deviation, where) in sorted(worst.items()):
            terminalreporter.write_line(f"{quantity:45s} {deviation:9.2e} of {tolerance:g} allowed, {where}")
