"""The three operations on DEKs: wrap (generate or the caller's), unwrap, rewrap."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.chain import blob, context, lifecycle
from worker.chain.lifecycle import Use
from worker.chain.outcomes import recall
from worker.chain.plan import Case, Decision, Plan, Refused
from worker.chain.resolve import Usable
from worker.chain.work import Refreshing, Replaying, Rewrapping, Step, Unwrapping, Wrapping
from worker.model.bodies import DekItem, RewrapBody, RewrapItem, UnwrapBody, WrapBody
from worker.model.codes import Code
from worker.model.effects import Seen
from worker.model.fields import Context
from worker.model.hsm import Kek, Purpose, RewrapDek, UnwrapDek, WrapDek
from worker.model.ids import NO_ID, derived_ids, moment_of
from worker.model.operations import Permission
from worker.model.outcomes import Failed, Outcome, Rewrapped, Wrapped
from worker.model.requests import LedgerKey, Recipient, Request
from worker.model.rows import Suite
from worker.seal.errors import BadKey
from worker.seal.hpke import check_public_key

_DEK_BYTES = range(16, 65)


def plan(case: Case) -> Decision:
    """Plan a request on DEKs; refuse it whole when its answer could not be sealed."""
    body = case.request.body
    match body:
        case WrapBody():
            wants_plaintext, steps_of = body.return_dek, _wrap
        case UnwrapBody():
            wants_plaintext, steps_of = True, _unwrap
        case _:
            wants_plaintext, steps_of = False, _rewrap
    recipient = _recipient(case) if wants_plaintext else None
    if isinstance(recipient, Code):
        return Refused(case.request, recipient)
    if isinstance(case.unsealed, Code) and case.opened is None:
        return Refused(case.request, case.unsealed)
    trail = _Trail(case, _suites(case, recipient))
    steps = steps_of(case, trail)
    return Plan(case.request, tuple(steps), trail.seen(), case.opened, recipient)


_Asked = tuple[Permission, UUID, int | None, Use | None, frozenset[str] | None]


class _Trail:
    """Collects the rows that the items of one request rest on, each once."""

    def __init__(self, case: Case, suites: frozenset[Suite]) -> None:
        self._case = case
        self._suites = suites
        self._seen: dict[Seen, None] = {}
        self._known: dict[_Asked, Usable | Failed] = {}

    def usable(
        self,
        permission: Permission,
        key: UUID,
        version: int | None,
        use: Use | None = None,
        context: Context | None = None,
    ) -> Usable | Failed:
        """As `Chains.for_client`, for a key that wraps DEKs; what it rests on is noted. Asked once for many items."""
        memo = permission, key, version, use, None if context is None else frozenset(context)
        found = self._known.get(memo)
        if found is None:
            found = self._known[memo] = self._usable(*memo)
        return found

    def _usable(
        self, permission: Permission, key: UUID, version: int | None, use: Use | None, context: frozenset[str] | None
    ) -> Usable | Failed:
        chains, client = self._case.chains, self._case.client
        found = chains.for_client(client, permission, key, version, use, context=context, suites=self._suites)
        if isinstance(found, Code):
            return Failed(found, self._why(found, key), key)
        if found.key.purpose is not Purpose.WRAPS_DEKS:
            return Failed(Code.WRONG_PURPOSE, key=key)
        self._seen.update(dict.fromkeys(found.seen))
        return found

    def named(self, permission: Permission, name: str, context: Context | None = None) -> Usable | Failed:
        """The active version of the key with this alias or id."""
        key = self._case.chains.key_id(self._case.client, name)
        if isinstance(key, Code):
            return Failed(key, self._why(key, name))
        return self.usable(permission, key, None, context=context)

    def _why(self, code: Code, name: str | UUID) -> str:
        return self._case.chains.why_not_found(self._case.client, name) if code is Code.NOT_FOUND else ""

    def seen(self) -> tuple[Seen, ...]:
        """Every row once."""
        return tuple(self._seen)


def _recipient(case: Case) -> Recipient | Code:
    """Whom the plaintext is sealed to: the key signed in the request, else the registered one (S4)."""
    client, request = case.client, case.request
    recipient = request.recipient
    if recipient is None and client.recipient_suite is not None:
        recipient = Recipient(client.recipient_suite, client.recipient_key)
    if recipient is None:
        return Code.RECIPIENT_REQUIRED
    tenant = case.facts.tenants.get(client.tenant)
    if tenant is None:
        return Code.INTEGRITY  # the client's row names it
    if not recipient.suite.at_least(tenant.minimum_suite):
        return Code.SUITE_TOO_WEAK
    try:
        check_public_key(recipient.suite, recipient.public_key)
    except BadKey:
        return Code.MALFORMED
    return recipient


def _suites(case: Case, recipient: Recipient | None) -> frozenset[Suite]:
    """The suites of all seals that plaintext travels under in this request: the answer's and its own."""
    suites = set() if recipient is None else {recipient.suite}
    body = case.request.body
    if isinstance(body, WrapBody) and body.sealed is not None:
        key = case.facts.intake_keys.get(body.sealed.sequence)
        suites |= set() if key is None else {key.suite}  # without it nothing can be unsealed either
    return frozenset(suites)


def _resumed(
    kept: Sequence[Outcome | None],
    fresh: Callable[[Sequence[int]], Iterable[Step]],
    again: Callable[[int, Outcome], Step],
) -> list[Step]:
    """Steps for all items: those that the ledger has an outcome for are told again, the open ones are done now."""
    todo = [index for index, outcome in enumerate(kept) if outcome is None]
    done = iter(fresh(todo)) if todo else iter(())
    return [next(done) if outcome is None else again(index, outcome) for index, outcome in enumerate(kept)]


def _wrap(case: Case, trail: _Trail) -> list[Step]:
    body = case.request.body
    assert isinstance(body, WrapBody)  # noqa: S101 - `plan` chose this function by the body's type

    def fresh(todo: Sequence[int]) -> Iterable[Step]:
        if isinstance(case.unsealed, Code):
            target = trail.named(Permission.WRAP, body.key)
            return [target if isinstance(target, Failed) else Failed(case.unsealed) for _ in todo]
        return _wrappings(case, body, _targets(body, trail, todo), todo)

    def again(index: int, kept: Outcome) -> Step:
        if not (body.return_dek and isinstance(kept, Wrapped)):
            return kept
        return _replayed(case.request, trail, index, kept, body.items[index].context)

    return _resumed(recall(case.opened, len(body.items), Wrapped), fresh, again)


def _targets(body: WrapBody, trail: _Trail, todo: Sequence[int]) -> Sequence[Usable | Failed]:
    """What each item is wrapped under: one for all, unless a rule is needed that looks at contexts."""
    target = trail.named(Permission.WRAP, body.key)
    if isinstance(target, Usable) or target.code is not Code.NOT_FOUND:
        return [target] * len(todo)
    return [trail.named(Permission.WRAP, body.key, body.items[index].context) for index in todo]


def _wrappings(case: Case, body: WrapBody, targets: Sequence[Usable | Failed], todo: Sequence[int]) -> list[Step]:
    ids = dek_ids(case.request.key, case.request.time_ms, todo) if body.store else [NO_ID] * len(todo)
    brought = case.unsealed
    steps: list[Step] = []
    for index, dek_id, target in zip(todo, ids, targets, strict=True):
        if isinstance(target, Failed):
            steps.append(target)
            continue
        item = body.items[index]
        dek = brought[index] if isinstance(brought, tuple) else b""
        if isinstance(brought, tuple) and len(dek) not in _DEK_BYTES:
            steps.append(Failed(Code.DEK_LENGTH))
            continue
        header = blob.header(target.key.id, target.version.number, dek_id)
        size = len(dek) or item.bits // 8
        op = WrapDek(target.kek, blob.aad(header, target.key.tenant), context.digest(item.context), size, dek)
        steps.append(Wrapping(op, header, dek_id))
    return steps


def dek_ids(key: LedgerKey, unix_ms: int, indexes: Iterable[int]) -> list[UUID]:
    """The ids of the DEKs that a request stores: its own and nobody else's, as the blob's header then says for ever."""
    return derived_ids(unix_ms, indexes, key.tenant, key.client, key.source, key.id, "dek")


def _replayed(request: Request, trail: _Trail, index: int, kept: Wrapped, shown: Context) -> Step:
    """Plaintext of something wrapped before: what is allowed now decides, the DEK is the same.

    The ledger carries no MAC, so its blob must prove to be this request's: by the DEK id that only this item of this
    request has, or, if it was not stored, by the context at least.
    """
    source = trail.usable(Permission.WRAP, kept.key, kept.version, Use.UNWRAP, shown)
    if isinstance(source, Failed):
        return source
    parsed = blob.parse(kept.blob)
    ids = {NO_ID, *dek_ids(request.key, moment_of(kept.id), (index,))}
    if (parsed.key, parsed.version, parsed.dek) != (kept.key, kept.version, kept.id) or kept.id not in ids:
        return Failed(Code.INTEGRITY)
    aad = blob.aad(parsed.header, source.key.tenant)
    return Replaying(UnwrapDek(source.kek, aad, parsed.nonce, parsed.ciphertext), kept, context.digest(shown))


def _unwrap(case: Case, trail: _Trail) -> list[Step]:
    body = case.request.body
    assert isinstance(body, UnwrapBody)  # noqa: S101 - `plan` chose this function by the body's type
    return [_unwrapped(case, trail, item, refresh=body.rewrap) for item in body.items]


def _unwrapped(case: Case, trail: _Trail, item: DekItem, *, refresh: bool) -> Step:
    found = _source(case, trail, item, Permission.UNWRAP, None)
    if isinstance(found, Failed):
        return found
    parsed, source = found
    aad = blob.aad(parsed.header, source.key.tenant)
    op = UnwrapDek(source.kek, aad, parsed.nonce, parsed.ciphertext)
    plain = Unwrapping(op, context.digest(item.context))
    return _refreshed(trail, parsed, source, plain) if refresh and item.blob is not None else plain


def _refreshed(trail: _Trail, parsed: blob.Blob, source: Usable, plain: Unwrapping) -> Step:
    """The same, with the blob wrapped anew, for whoever may rewrap. Where states forbid that, only the DEK comes."""
    target = trail.usable(Permission.REWRAP, source.key.id, None)
    if isinstance(target, Failed):
        return target if target.code is Code.NOT_FOUND else plain
    if target.version.number == parsed.version or not lifecycle.allows(source.version.state, Use.REWRAP_FROM):
        return plain
    header = blob.header(target.key.id, target.version.number, NO_ID)
    aad = blob.aad(header, target.key.tenant)
    op = RewrapDek(source.kek, plain.op.aad, parsed.nonce, parsed.ciphertext, target.kek, aad, reveal=True)
    return Refreshing(op, header, plain)


def _source(
    case: Case, trail: _Trail, item: DekItem | RewrapItem, permission: Permission, use: Use | None
) -> tuple[blob.Blob, Usable] | Failed:
    """The parsed blob behind an item and the version it stands under. A stored row must agree with its own blob."""
    raw, row = item.blob, None
    if item.id is not None:
        row = case.facts.deks.get(item.id)
        if row is None:
            return Failed(Code.NOT_FOUND, "unknown DEK")
        raw = row.blob
    try:
        parsed = blob.parse(raw or b"")
    except blob.BadBlob:
        return Failed(Code.UNWRAP_FAILED, "form") if row is None else Failed(Code.INTEGRITY, "stored blob", row.key)
    shown = item.context if isinstance(item, DekItem) else None
    source = trail.usable(permission, parsed.key, parsed.version, use, shown)
    if isinstance(source, Failed):
        return source
    if row is not None and (parsed.key, parsed.version, parsed.dek) != (row.key, row.version, row.id):
        return Failed(Code.INTEGRITY, "stored row", row.key)
    return parsed, source


def _rewrap(case: Case, trail: _Trail) -> list[Step]:
    body = case.request.body
    assert isinstance(body, RewrapBody)  # noqa: S101 - `plan` chose this function by the body's type
    to = None if body.to is None else trail.named(Permission.REWRAP_TO, body.to)
    ways: dict[bytes, _Way] = {}

    def fresh(todo: Sequence[int]) -> Iterable[Step]:
        return [_rewrapped(case, trail, body.items[index], to, ways) for index in todo]

    return _resumed(recall(case.opened, len(body.items), Rewrapped), fresh, lambda _, kept: kept)


@dataclass(frozen=True, slots=True)
class _Way:
    """From one key version to another, for blobs that are not stored: most of a request go the way of the first."""

    source: Kek
    source_end: bytes
    target: Kek
    header: bytes
    aad: bytes

    def step(self, raw: bytes) -> Step:
        """What becomes of a blob that begins as the one whose way this is."""
        try:
            head, nonce, ciphertext = blob.split(raw)
        except blob.BadBlob:
            return Failed(Code.UNWRAP_FAILED, "form")
        op = RewrapDek(self.source, head + self.source_end, nonce, ciphertext, self.target, self.aad)
        return Rewrapping(op, self.header, NO_ID)


def _rewrapped(
    case: Case, trail: _Trail, item: RewrapItem, to: Usable | Failed | None, ways: dict[bytes, _Way]
) -> Step:
    if isinstance(to, Failed):
        return to
    whose = b"" if item.blob is None else item.blob[: blob.WHOSE_BYTES]
    if whose in ways:
        return ways[whose].step(item.blob or b"")
    from_permission = Permission.REWRAP if to is None else Permission.REWRAP_FROM
    found = _source(case, trail, item, from_permission, Use.REWRAP_FROM)
    if isinstance(found, Failed):
        return found
    parsed, source = found
    target = to if to is not None else trail.usable(Permission.REWRAP, source.key.id, None)
    if isinstance(target, Failed):
        return target
    raw = parsed.header + parsed.nonce + parsed.ciphertext
    if (target.key.id, target.version.number) == (parsed.key, parsed.version):
        return Rewrapped(parsed.dek if item.id is not None else NO_ID, parsed.key, parsed.version, raw, unchanged=True)
    dek_id = parsed.dek if item.id is not None else NO_ID
    header = blob.header(target.key.id, target.version.number, dek_id)
    aad_from, aad_to = blob.aad(parsed.header, source.key.tenant), blob.aad(header, target.key.tenant)
    op = RewrapDek(source.kek, aad_from, parsed.nonce, parsed.ciphertext, target.kek, aad_to)
    if item.id is None:
        ways[whose] = _Way(source.kek, blob.aad_end(source.key.tenant), target.kek, header, aad_to)
    return Rewrapping(op, header, dek_id, raw if item.id is not None else b"")
