"""What of a batch may be written together is decided without asking the database."""

from dataclasses import replace

from tests.unit.store.builders import bumped, chain, command, dek, entry_of, wrap
from worker.edges.store.batch import arrange, fates
from worker.edges.store.settling import Batch
from worker.model.effects import Lost, Moved, MoveDek, Settled, Settlement


def test_requests_that_only_look_stand_in_nobodys_way() -> None:
    acme = chain()
    assert arrange([wrap(acme), wrap(acme), wrap(acme)]).free == (0, 1, 2)


def test_a_twin_stands_behind_the_first_of_its_key() -> None:
    acme = chain()
    order = arrange([wrap(acme, "a"), wrap(acme, "b"), wrap(acme, "a"), wrap(acme, "a")])
    assert (order.free, order.behind) == ((0, 1), {2: 0, 3: 0})


def test_who_rests_on_what_an_earlier_one_changes_yields() -> None:
    acme = chain()
    rotate = command(bumped(acme.kek))
    locks = Settlement(None, None, (), (acme.kek.ref,), ())
    assert arrange([wrap(acme), rotate, wrap(acme), locks, rotate]).free == (0, 1)


def test_of_two_moves_of_one_dek_the_later_yields() -> None:
    one, other = dek(chain().kek), dek(chain().kek)
    moves = [Settlement(None, None, (), (), (MoveDek(moved, b""),)) for moved in (one, other, one)]
    assert arrange(moves).free == (0, 1)


def test_who_yields_holds_nobody_back() -> None:
    acme = chain()
    both = command(bumped(acme.kek), bumped(acme.keys[0]))
    top = command(bumped(acme.keys[0]))
    assert arrange([command(bumped(acme.kek)), both, top]).free == (0, 2)


def test_a_twin_shares_the_fate_of_the_first() -> None:
    acme = chain()
    batch = [wrap(acme, "a"), wrap(acme, "a"), wrap(acme, "b"), wrap(acme, "b"), wrap(acme, "c"), wrap(acme, "c")]
    winner = entry_of(wrap(acme, "b"))
    answers = fates(batch, arrange(batch), {2: winner, 4: None})
    assert answers == [Settled(), Lost(entry_of(batch[0])), Lost(winner), Lost(winner), Moved(), Moved()]


def test_a_row_that_several_rest_on_is_locked_once_and_as_strongly_as_anyone_needs() -> None:
    acme = chain()
    batch = Batch()
    batch.add(0, wrap(acme))
    batch.add(1, replace(wrap(acme), changes=(acme.kek.ref,)))
    arguments = batch.arguments()
    tables, names, exclusive, fresh = arguments[1:5]
    assert isinstance(names, list)
    assert isinstance(exclusive, list)
    assert isinstance(tables, list)
    assert len(names) == len(acme.seen)
    assert [name for name, strong in zip(names, exclusive, strict=True) if strong] == [str(acme.kek.id)]
    assert fresh == [False] * len(names)


def test_a_batch_of_nothing_has_empty_arguments() -> None:
    assert all(argument in ([], None) for argument in Batch().arguments())
