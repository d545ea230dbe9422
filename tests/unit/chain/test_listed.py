"""Lists name the rows that nobody can believe, and go on after them."""

import json

import pytest

from tests.unit.chain.world import PAYMENTS, World
from worker.chain.approvals import approval_paging
from worker.chain.clients import client_paging
from worker.chain.keys import key_paging
from worker.chain.links import link_paging
from worker.chain.plan import Conclusion
from worker.model.bodies import AnyBody, ClientListBody, KeyListBody
from worker.model.control import ApprovalListBody
from worker.model.effects import Leaf
from worker.model.fields import Page
from worker.model.linking import LinkListBody
from worker.model.operations import Operation
from worker.model.outcomes import Commanded
from worker.model.rows import RowRef, Table

NAMES = ["01936120-0000-7000-8000-00000000a001", "01936120-0000-7000-8000-00000000a002"]


def listed(where: World, operation: Operation, body: AnyBody) -> tuple[Page, Conclusion]:
    done = where.run(where.request(operation, body, "ann"))
    (outcome,) = done.outcomes
    assert isinstance(outcome, Commanded)
    assert isinstance(outcome.result, Page)
    return outcome.result, done


@pytest.mark.parametrize(
    ("operation", "body", "table"),
    [
        (Operation.LINK_LIST, LinkListBody(limit=1), Table.LINKS),
        (Operation.APPROVAL_LIST, ApprovalListBody(limit=1), Table.APPROVALS),
    ],
)
def test_a_page_of_rows_that_nobody_believes_says_so_and_where_it_goes_on(
    operation: Operation, body: LinkListBody | ApprovalListBody, table: Table
) -> None:
    where = World()
    paging = link_paging(body) if isinstance(body, LinkListBody) else approval_paging(body)
    where.pages[paging] = tuple(RowRef(table, name) for name in NAMES)
    page, done = listed(where, operation, body)
    assert (page.tampered, page.next_after) == (NAMES[:1], NAMES[0])
    (leaf,) = [json.loads(effect.body) for effect in done.settlement.effects if isinstance(effect, Leaf)]
    assert leaf["counts"] == {"INTEGRITY": 1}


def test_keys_and_clients_too() -> None:
    where = World()
    keys = KeyListBody(tenant="acme")
    where.key_pages[key_paging(keys)] = (PAYMENTS,)
    assert listed(where, Operation.KEY_LIST, keys)[0].tampered is None
    where.tamper(where.key(PAYMENTS).ref)
    page, _ = listed(where, Operation.KEY_LIST, keys)
    assert (page.tampered, page.next_after) == ([str(PAYMENTS)], None)
    clients = ClientListBody(tenant="acme")
    where.client_pages[client_paging(clients)] = ("billing", "gone")
    assert listed(where, Operation.CLIENT_LIST, clients)[0].tampered == ["gone"]
