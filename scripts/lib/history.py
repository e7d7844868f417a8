"""Reads the sandbox's `/_sandbox/history` into the few facts the judge needs."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

ORG_LOOKUP = re.compile(r"^/organizations/external_id/(.+)$")


@dataclass(frozen=True)
class Request:
    """One request as the target saw it; times in seconds of its own clock."""

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
        found = ORG_LOOKUP.match(self.path.split("?")[0])
        return unquote(found.group(1)) if self.method == "GET" and found else None

    @property
    def org_create(self):
        return self.method == "POST" and self.path.split("?")[0] == "/organizations"
