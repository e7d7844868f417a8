"""Reads a ledger as a power loss left it, with Python's own SQLite, and judges it.

I1: what was sent is covered by a lease. I8: what is settled stays as it was settled.
I14: every total equals what it counts.
"""

import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from harness import require

STATES = ("created", "recovered", "linked", "updated", "merged", "skipped", "failed", "parked")
MEMBERSHIPS = ("created", "recovered", "existing", "reactivated", "failed")
# STRICT tables.
SQLITE_AT_LEAST = (3, 37, 0)


def require_sqlite():
    require(
        sqlite3.sqlite_version_info >= SQLITE_AT_LEAST,
        f"this Python has SQLite {sqlite3.sqlite_version}, 3.37 is needed",
    )


@dataclass
class Image:
    """What a ledger says. Sets of rows are bits of a number: bit n is row n."""

    rows: int
    chunks: dict
    settled: int = 0
    covered: int = 0
    outcomes: dict = field(default_factory=dict)
    orgs: dict = field(default_factory=dict)
    leases: set = field(default_factory=set)
    totals: dict = field(default_factory=dict)


def read_image(path):
    """Opens a ledger the way the next run would; raises sqlite3.Error when it is damaged."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        # Nobody else looks: no shared memory, no file of it.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        found = [row[0] for row in db.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError(f"integrity_check: {found[:3]}")
        return load(db)
    finally:
        db.close()


def load(db):
    (rows,) = db.execute("SELECT rows FROM job").fetchone()
    chunks = {
        number: (first, count, settled)
        for number, first, count, settled in db.execute(
            "SELECT id, first_row, rows, settled FROM chunk"
        )
    }
    image = Image(rows, chunks)
    for row, *rest in db.execute(
        "SELECT o.row, o.state, o.step, o.user_id, o.user_origin, g.id, o.membership,"
        " o.membership_id, o.membership_repeat, o.attempts, o.code, o.message, o.http_status,"
        " o.request_id FROM outcome AS o LEFT JOIN org_id AS g ON g.code = o.org"
    ):
        image.outcomes[row] = tuple(rest)
        image.settled |= 1 << row
    image.covered = image.settled
    for lease, chunk, covered in db.execute("SELECT id, chunk, rows FROM lease"):
        first, count, _ = chunks[chunk]
        bits = (1 << count) - 1 if covered is None else int.from_bytes(covered, "little")
        image.covered |= bits << first
        image.leases.add(lease)
    for kind, key, intent, made, origin, code in db.execute(
        "SELECT kind, key, intent_ms, id, origin, code FROM org"
    ):
        image.orgs[(kind, key)] = (intent, made, origin, code)
    image.totals = dict(db.execute("SELECT name, n FROM tally"))
    return image


def accounting(image):
    """I14: the faults of its totals, as words."""
    faults = []
    counted = Counter()
    for outcome in image.outcomes.values():
        state, membership, repeat = outcome[0], outcome[5], outcome[7]
        counted[f"rows.{STATES[state - 1]}"] += 1
        if membership is not None and not repeat:
            counted[f"memberships.{MEMBERSHIPS[membership - 1]}"] += 1
    for _, made, origin, code in image.orgs.values():
        if made is not None:
            counted["organizations.created" if origin else "organizations.found"] += 1
        counted["organizations.failed"] += code is not None
    for name in set(counted) | set(image.totals):
        if counted[name] != image.totals.get(name, 0):
            faults.append(f"I14 {name} is {image.totals.get(name)}, counted {counted[name]}")
    if sum(count for _, count, _ in image.chunks.values()) != image.rows:
        faults.append("I14 the chunks do not hold as many rows as the job")
    for number, (first, count, settled) in image.chunks.items():
        bits = (image.settled >> first) & ((1 << count) - 1)
        if bits.bit_count() != settled:
            faults.append(f"I14 chunk {number} says {settled} settled, has {bits.bit_count()}")
    # A row outside every chunk would be counted nowhere above.
    if image.settled >> (image.rows + 1) or image.settled & 1:
        faults.append("I14 a row is settled that the file does not have")
    return faults


def rows_of(bits):
    """The rows of a set, as a short list for people."""
    rows = [row for row in range(bits.bit_length()) if bits >> row & 1]
    return f"{rows[:8]}{' …' if len(rows) > 8 else ''}"
