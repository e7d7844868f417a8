"""Reads the sandbox's `/_sandbox/history` (one JSON object per line) into what the judge needs."""

import json
import re
import urllib.request
from dataclasses import dataclass
from urllib.parse import unquote

ORG_LOOKUP = re.compile(r"^/organizations/external_id/(.+)$")


@dataclass(frozen=True)
class Request:
    """One request as the target saw it; times in seconds of its monotonic clock."""

    method: str
    path: str
    received: float
    answered: float | None
    status: int | None
    applied: bool
    retry_after: float | None
    entity: str | None

    @property
    def what(self):
        return f"{self.method} {self.path}"

    @property
    def write(self):
        return self.method != "GET"

    @property
    def limited_write(self):
        """A write that draws on the budget of /user_management."""
        return self.write and self.path.startswith("/user_management/")

    @property
    def created(self):
        return self.applied and self.method == "POST"

    @property
    def org_lookup(self):
        """The organization key a look-up asks for, if it is one."""
        found = ORG_LOOKUP.match(self.path)
        return unquote(found.group(1)) if self.method == "GET" and found else None

    @property
    def org_create(self):
        """The organization key a create names, if it is one."""
        if self.method == "POST" and self.path == "/organizations":
            return self.entity.split(" ", 1)[1]
        return None


def entity_of(entry):
    """What a create is about: the thing of which there may be only one."""
    if entry["method"] != "POST":
        return None
    path = entry["path"].split("?")[0]
    if path == "/user_management/users":
        return f"user {(entry['email'] or '').strip().lower()}"
    if path == "/user_management/organization_memberships":
        return f"membership {entry['user_id']} {entry['organization_id']}"
    if path == "/organizations":
        return f"organization {entry['external_id']}"
    return None


def read_history(server):
    """Every request the server received, in order; refuses a history that lost its beginning."""
    with urllib.request.urlopen(f"{server.url}/_sandbox/history", timeout=120) as answer:
        entries = [json.loads(line) for line in answer]
    if entries and entries[0]["sequence"] != 1:
        raise ValueError("the sandbox dropped the beginning of its history")
    return [request_of(entry) for entry in entries]


def request_of(entry):
    answered = entry["answered_ns"]
    return Request(
        method=entry["method"],
        path=entry["path"].split("?")[0],
        received=entry["received_ns"] / 1e9,
        answered=None if answered is None else answered / 1e9,
        status=entry["status"],
        applied=entry["applied_ns"] is not None,
        retry_after=entry["retry_after"],
        entity=entity_of(entry),
    )
