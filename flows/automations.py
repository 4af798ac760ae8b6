"""``groupwise automations``: what a Prefect server does about runs that died, written to it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import httpx
import yaml

from multilevel.errors import GroupwiseError

FILE = "automations.yaml"


class ServerError(GroupwiseError):
    """Prefect's server is not set, does not answer, or refuses."""


def write_automations() -> list[str]:
    """Make every automation of ``flows/automations.yaml`` that the server does not have, update every one that it has; a line for each.

    Raises
    ------
    ServerError : no server is set, it does not answer, or it refuses.
    """
    from prefect.client.orchestration import SyncPrefectClient, get_client
    from prefect.events.schemas.automations import AutomationCore
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import get_current_settings

    def write(client: SyncPrefectClient, wanted: AutomationCore) -> str:
        there = client.read_automations_by_name(wanted.name)
        for automation in there:
            client.update_automation(automation.id, wanted)
        if not there:
            client.create_automation(wanted)
        return f"{wanted.name}: {'updated' if there else 'made'}"

    api = get_current_settings().api.url
    if api is None:
        raise ServerError(
            "automations: no Prefect server is set. Start one (`prefect server start`) and set PREFECT_API_URL to its address."
        )
    try:
        with get_client(sync_client=True) as client:
            return [write(client, AutomationCore.model_validate(entry)) for entry in _shipped()]
    except PrefectHTTPStatusError as error:
        raise ServerError(f"automations: the Prefect server at {api} refuses: {error}") from error
    except httpx.TransportError as error:
        raise ServerError(f"automations: the Prefect server at {api} (PREFECT_API_URL) does not answer: {error}") from error


def _shipped() -> list[dict[str, Any]]:
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    return list(yaml.safe_load(text)["automations"])
