"""Reads a users CSV the way a second pair of eyes would: with Python's csv, nothing of userferry's.

Owns what a row asks for: the user, the organization and the roles. Never looks at a report.
"""

import csv
import json
from dataclasses import dataclass

csv.field_size_limit(8 * 1024 * 1024)

COLUMNS = (
    "email",
    "first_name",
    "last_name",
    "email_verified",
    "external_id",
    "metadata",
    "org_id",
    "org_external_id",
    "org_name",
    "role_slugs",
)
TRUE = {"true", "1", "yes", "y"}


@dataclass(frozen=True)
class Row:
    """One record: what it asks for."""

    number: int
    line: int
    email: str
    key: str
    fields: dict

    @property
    def external_id(self):
        return self.fields.get("external_id") or None

    @property
    def org(self):
        """The organization's key: ("id" | "external_id", value), or None."""
        if self.fields.get("org_id"):
            return ("id", self.fields["org_id"])
        if self.fields.get("org_external_id"):
            return ("external_id", self.fields["org_external_id"])
        return None

    @property
    def roles(self):
        """The asked roles, sorted; the target's default when none is asked for."""
        text = self.fields.get("role_slugs") or ""
        if not text:
            return ("member",)
        if text.startswith("["):
            return tuple(sorted(json.loads(text)))
        return tuple(sorted(part.strip() for part in text.split(",") if part.strip()))

    def attributes(self):
        """What the user must look like at the target."""
        return {
            "first_name": self.fields.get("first_name") or None,
            "last_name": self.fields.get("last_name") or None,
            "email_verified": (self.fields.get("email_verified") or "").lower() in TRUE,
            "external_id": self.external_id,
            "metadata": metadata(self.fields.get("metadata")),
        }


def metadata(text):
    """Metadata as the target stores it: values are strings, an absent object is empty."""
    if not text:
        return {}
    try:
        pairs = json.loads(text)
    except ValueError:
        return None
    if not isinstance(pairs, dict):
        return None
    return {name: plain(value) for name, value in pairs.items() if value is not None}


def plain(value):
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def email_key(email):
    """The identity of a person: trimmed and lower-cased."""
    return email.strip().lower()


def read_rows(path):
    """Returns every record of the file, numbered from 1, with the line on which it starts."""
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        names = None
        end = 0
        for record in reader:
            line, end = end + 1, reader.line_num
            if not record:
                continue
            if names is None:
                names = [header_name(cell) for cell in record]
                continue
            cells = {name: cell.strip() for name, cell in zip(names, record) if name in COLUMNS}
            email = cells.get("email", "")
            rows.append(Row(len(rows) + 1, line, email, email_key(email), cells))
    return rows


def header_name(cell):
    return cell.strip().lower().replace(" ", "_").replace("-", "_")


def read_results(path):
    """Returns the records of a results file as dictionaries."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
