"""The `keyriver` command: one file per noun. It asks the fleet by signed messages."""

import logging
import os
import resource
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from worker.cli import (
    approval,
    audit,
    campaign,
    client,
    doctor,
    fleet,
    grant,
    importing,
    init,
    link,
    local,
    moving,
    officers,
    policy,
    region,
    rewrap,
    run,
    topics,
    trigger,
)
from worker.cli.errors import Usage, plain
from worker.cli.output import complain, say
from worker.client import Pending

app = App(
    name="keyriver",
    help="""Wrap, unwrap and rewrap data keys over Kafka, with an HSM and Postgres.

    On one machine, from nothing to a key:

    ```
    keyriver local up                  # Kafka, Postgres and a soft token
    keyriver init ann bob              # schema, topics, fleet keys, two officers
    keyriver doctor                    # is everything as it has to be?
    keyriver run                       # the workers; leave it running
    keyriver tenant create acme
    keyriver key create acme/eu
    keyriver key create acme/eu/payments
    keyriver client add acme billing --keys 'acme/eu/*' --allow wrap,unwrap
    keyriver approval approve ID --as .keyriver/identities/bob.json
    ```

    Settings: KEYRIVER_… in the environment, over the TOML file that KEYRIVER_CONFIG names (else
    .keyriver/keyriver.toml).
    Exit codes: 0 done, 1 refused or failed, 2 the command line was wrong, 3 it waits for a second officer,
    4 done, but some records were rejected.""",
    help_format="markdown",
    version_flags=["--version"],
)
for _place, _noun in enumerate(
    (
        local.local,
        init.init,
        doctor.doctor,
        topics.topics,
        run.run,
        moving.tenant,
        importing.key,
        region.region,
        link.link,
        client.client,
        officers.officer,
        policy.policy,
        grant.grant,
        approval.approval,
        campaign.campaign,
        trigger.trigger,
        fleet.fleet,
        audit.audit,
    )
):
    _noun.sort_key = _place
    app.command(_noun)
app.command(rewrap.rewrap, sort_key=11)
app.command("worker.cli.demo:demo", name="demo", help="A file of customer records, and a worker killed on the way.")

FAILED, USAGE, PENDING, INTERRUPTED, CUT_SHORT = 1, 2, 3, 130, 141


def main() -> None:
    """The console entry."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # PINs and keys must not get into a core file (S17)
    sys.exit(obey(sys.argv[1:]))


def obey(words: Sequence[str]) -> int:
    """One command; the exit code. What a user or an operator can mend is a plain sentence, never a stack trace."""
    logging.getLogger().addHandler(logging.NullHandler())  # libraries' complaints; `run` sets up real logs
    try:
        result = app(words, exit_on_error=False, print_error=True, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError:
        return USAGE
    except Usage as mistake:
        complain(str(mistake))
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Pending as waiting:
        say(approval.teach(waiting.approval))
        return PENDING
    except BrokenPipeError:
        # Who read the output has seen enough (`| head`). What is left goes nowhere, lest Python complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT_SHORT
    except Exception as error:
        text = plain(error)
        if text is None:
            raise
        complain(text)
        return FAILED
    return result if isinstance(result, int) else 0
