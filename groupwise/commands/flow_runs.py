"""The one door from the commands to Prefect: what runs a flow or speaks to a server is loaded by its entry point, a string.

Whether Prefect has a server is looked up without importing it, which takes seconds that a run in its own process need not wait for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

PUBLISH_GROUP_ESTIMATES = "flows.publish_group_estimates:publish_group_estimates"
RUN_AS_FLOW = "flows.command_run:run_as_flow"
WRITE_AUTOMATIONS = "flows.automations:write_automations"
CONFIGURED_API = "flows.prefect_api:configured_api"

SETTING = "PREFECT_API_URL"
WRITTEN_SIGNS = ("api", "cloud")
"""Every file that sets the address of an API contains one of these words."""


def load(entry_point: str) -> Any:
    """What an entry point such as ``flows.automations:write_automations`` names."""
    module, _, name = entry_point.partition(":")
    return getattr(import_module(module), name)


if not TYPE_CHECKING:  # to the type checker, a name that is not here stays an error

    def __getattr__(name: str) -> Any:
        """``publish_group_estimates``, the flow: the public name for deployments. Prefect is imported when it is asked for."""
        if name == "publish_group_estimates":
            return load(PUBLISH_GROUP_ESTIMATES)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def has_api() -> bool:
    """Whether Prefect is configured to use a server: by the environment, a profile, or a file in the working directory."""
    if os.environ.get(SETTING):
        return True
    if not any(_may_set_api(file) for file in _setting_files()):
        return False
    # a profile may be there and not be the active one: Prefect itself knows
    return load(CONFIGURED_API)() is not None


def _setting_files() -> Iterator[Path]:
    """Where Prefect looks for settings besides the environment."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    yield Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    yield from (Path(name) for name in (".env", "prefect.toml", "pyproject.toml"))


def _may_set_api(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:  # no such file, or one that Prefect cannot read either
        return False
    return (file.name == "prefect.toml" or "prefect" in text) and any(sign in text for sign in WRITTEN_SIGNS)
