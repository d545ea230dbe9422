"""`keyriver officer`: who commands the fleet. Each of these takes two who are there already."""

from cyclopts import App

from worker.cli import client
from worker.cli.client import IdentityFile, PublicKey
from worker.cli.officer import As, Json
from worker.model.rows import FLEET_TENANT

FOR_LONG_DAYS = 100 * 365
"""An officer's enrolment ends by removal."""
officer = App(name="officer", help="The officers of the fleet: who may command it.", help_format="markdown")


@officer.command
async def add(
    name: str,
    /,
    *,
    public_key: PublicKey = None,
    identity_file: IdentityFile = None,
    signs: As = None,
    json: Json = False,
) -> None:
    """Enrol an officer and write the identity file. A second officer, whom the first did not enrol alone, approves it.

    ```
    keyriver officer add cara
    keyriver officer add dan --public-key dan.pem      # whose private key stays where it is
    keyriver approval approve ID --as .keyriver/identities/bob.json
    ```

    Args:
        name: The officer's name, unique among all clients of the fleet; it is never given again.
    """
    await client.add(
        FLEET_TENANT,
        name,
        allow="",
        days=FOR_LONG_DAYS,
        public_key=public_key,
        identity_file=identity_file,
        signs=signs,
        json=json,
    )


@officer.command
async def remove(name: str, /, *, signs: As = None, json: Json = False) -> None:
    """Refuse everything that an officer signs from now on. A second one approves it, and at least two must remain.

    What the officer had asked for, and waits for approval, is void then.

    ```
    keyriver officer remove cara
    ```

    Args:
        name: The officer's name.
    """
    await client.revoke(FLEET_TENANT, name, signs=signs, json=json)


@officer.command(name="list")
async def list_officers(*, signs: As = None, json: Json = False) -> None:
    """List the officers, those who were removed among them.

    ```
    keyriver officer list
    ```
    """
    await client.list_clients(FLEET_TENANT, signs=signs, json=json)
