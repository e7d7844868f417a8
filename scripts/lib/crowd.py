"""A file of people of every kind, who of them is there already, and what must become of each row.

Owns the expectations: they follow from how the file was made, never from what userferry does.
"""

import csv
import json
import urllib.request
from dataclasses import dataclass, field

from checker import Fate
from harness import KEY

COLUMNS = (
    "email",
    "first_name",
    "last_name",
    "email_verified",
    "external_id",
    "metadata",
    "org_external_id",
    "org_name",
    "role_slugs",
)
NAMES = (("Ann", "Ann"), ("Łukasz", "Lukasz"), ("O'Brien", "OBrien+x"), ("Zoë", "Zoe"), ("=1+1", "One"))

MADE = Fate(frozenset({"created", "recovered"}))
MERGED = Fate(frozenset({"merged"}))
INVALID = Fate(frozenset({"failed"}), "validation")
CONFLICT = Fate(frozenset({"failed"}), "user")
NO_MEMBER = Fate(frozenset({"failed"}), "membership")
# What `--on-existing` makes of somebody who was there.
THERE = {
    "link": Fate(frozenset({"linked"})),
    "skip": Fate(frozenset({"skipped"})),
    "fail": Fate(frozenset({"failed"}), "user"),
}


@dataclass
class Shape:
    """How many of what kind; shares of the rows."""

    rows: int
    orgs: int
    again: float = 0.0
    bad: float = 0.0
    there: float = 0.0
    policy: str = "link"


@dataclass
class Person:
    """Somebody of the file."""

    cells: dict
    # What the next usable row of this person becomes.
    next: Fate = MADE
    after: Fate = MERGED


@dataclass
class Crowd:
    """The file and everything known of it beforehand."""

    rng: object
    shape: Shape
    records: list = field(default_factory=list)
    fates: dict = field(default_factory=dict)
    # Users to be made beforehand: (body, organization or None, status of the membership).
    there: list = field(default_factory=list)
    orgs_there: list = field(default_factory=list)
    people: list = field(default_factory=list)

    def __post_init__(self):
        if self.shape.there and self.shape.orgs:
            share = self.rng.sample(range(self.shape.orgs), (self.shape.orgs + 2) // 3)
            self.orgs_there = sorted(share)
        while len(self.records) < self.shape.rows:
            self.one_more()

    def one_more(self):
        roll = self.rng.random()
        for share, make in (
            (self.shape.again, self.again),
            (self.shape.bad, self.bad),
            (self.shape.there, self.known),
            (1.0, self.new),
        ):
            if roll < share:
                return make()
            roll -= share

    def put(self, cells, fate):
        self.records.append(cells)
        self.fates[len(self.records)] = fate

    def cells(self):
        """A person nobody named before, in an organization if there are any."""
        number = len(self.records) + 1
        name, address = self.rng.choice(NAMES)
        email = f"{address}.{number}@example.com"
        email = email if self.rng.random() < 0.3 else email.lower()
        cells = {
            "email": email,
            "first_name": name,
            "last_name": f"Number {number}",
            "email_verified": self.rng.choice(("true", "false", "")),
            "external_id": f"e-{number}" if self.rng.random() < 0.85 else "",
            "metadata": json.dumps({"desk": str(number)}) if self.rng.random() < 0.3 else "",
        }
        return cells | self.org(number)

    def org(self, person):
        if not self.shape.orgs:
            return {}
        which = self.rng.randrange(self.shape.orgs)
        # The same person asks for the same role of the same organization every time.
        role = "admin" if (person * 31 + which) % 5 == 0 else ""
        return {"org_external_id": f"org-{which}", "org_name": f"Org {which}", "role_slugs": role}

    def new(self):
        person = Person(self.cells(), next=MERGED)
        self.people.append(person)
        self.put(person.cells, MADE)

    def again(self):
        """A row of somebody who was named before: elsewhere, or the very same row."""
        if not self.people:
            return self.new()
        person = self.rng.choice(self.people)
        cells = dict(person.cells)
        if self.rng.random() < 0.7:
            cells |= self.org(int(cells["last_name"].split()[1]))
        if self.rng.random() < 0.3:
            cells["email"] = f" {cells['email'].upper()} "
        self.put(cells, person.next)
        person.next = person.after

    def bad(self):
        """A row that cannot be sent; the last kind names somebody whom a later row may name well."""
        cells = self.cells()
        kind = self.rng.choice(("blank", "no address", "flag"))
        if kind == "flag":
            self.people.append(Person(dict(cells)))
            cells["email_verified"] = "perhaps"
        else:
            cells["email"] = "" if kind == "blank" else "nobody"
        self.put(cells, INVALID)

    def known(self):
        """Somebody who is there already, in one of the ways that matter."""
        cells = self.cells()
        email = self.rng.choice((str.lower, str.title, str.upper))(cells["email"])
        body = {"email": email, "first_name": "Somebody", "last_name": "Else"}
        external_id, org, status = cells["external_id"], None, None
        fate = THERE[self.shape.policy]
        kind = self.rng.choice(("same", "same", "bare", "conflict", "member", "inactive", "pending"))
        if kind in ("member", "inactive", "pending") and self.orgs_there:
            which = self.rng.choice(self.orgs_there)
            cells |= {"org_external_id": f"org-{which}", "org_name": f"Org {which}", "role_slugs": ""}
            org, status = f"org-{which}", "active" if kind == "member" else kind
            if kind != "member" and self.shape.policy == "link":
                fate = NO_MEMBER
        if kind == "conflict" and external_id:
            external_id, fate = f"other-{external_id}", CONFLICT
        if external_id and kind != "bare":
            body["external_id"] = external_id
        self.there.append((body, org, status))
        # Others of the same name would share a fate that depends on more than this file.
        if fate is THERE[self.shape.policy] and org is None:
            after = MERGED if self.shape.policy == "link" else fate
            self.people.append(Person(cells, next=after, after=after))
        self.put(cells, fate)

    @property
    def refused(self):
        """How many rows must fail."""
        return sum("failed" in fate.states for fate in self.fates.values())

    def write(self, path):
        with open(path, "w", newline="", encoding="utf-8") as stream:
            out = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
            out.writeheader()
            out.writerows(self.records)

    def move_in(self, server):
        """Makes those who are there already, through the API."""
        ids = {}
        for which in self.orgs_there:
            body = {"name": f"Org {which}", "external_id": f"org-{which}"}
            ids[f"org-{which}"] = post(server, "/organizations", body)["id"]
        members = []
        for body, org, status in self.there:
            user = post(server, "/user_management/users", body)
            if org:
                pair = {"user_id": user["id"], "organization_id": ids[org]}
                members.append({**pair, "status": status})
        if members:
            post(server, "/_sandbox/seed", {"memberships": members})


def post(server, path, body):
    """One write to the target that is not userferry's."""
    request = urllib.request.Request(
        f"{server.url}{path}",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
