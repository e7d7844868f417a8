"""The judge: source file, results file and the target's own data go in, counted faults come out.

Independent on purpose: it shares no code with userferry and believes the target, never the report.
`judge` looks at what is there at the end, `judge_traffic` at the requests on the way there.
Where the file was made with its outcome in mind, `judge_fates` holds the results against that,
and `judge_accounts` the summary against the results and the target.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from source import email_key

GOOD = {"created", "recovered", "linked", "updated", "merged"}
BAD = {"failed", "parked"}
# Steps at which a row fails whose user is there.
LATE_STEPS = ("membership", "locale", "factor")
# States that belong to a run which did not end.
OPEN = {"pending", ""}

# How long after a 429 was answered a request may still arrive: it was on its way, or had been given
# its slot just before. 100 ms are enough on a machine that does nothing else.
PAUSE_GRACE_S = 0.3

# What a line of counts adds up, by the first words of the kinds; the rest is "other".
HEADINGS = {
    "lost": ("lost", "row not reported", "membership missing"),
    "twice": ("duplicated", "created twice", "row reported twice"),
    "falsely failed": ("falsely failed", "parked"),
    "falsely succeeded": ("falsely succeeded",),
    "orphan organizations": ("orphan organization",),
    "windows over the limit": ("rate exceeded",),
}


class Verdict:
    """Counts of every kind of fault, with a few examples of each."""

    def __init__(self):
        self.counts = Counter()
        self.examples = defaultdict(list)
        self.facts = {}

    def fault(self, kind, example):
        self.counts[kind] += 1
        if len(self.examples[kind]) < 3:
            self.examples[kind].append(str(example))

    @property
    def clean(self):
        return not self.counts

    def words(self):
        """One line: what is wrong, with examples."""
        parts = []
        for kind, count in sorted(self.counts.items()):
            parts.append(f"{count} {kind} (e.g. {'; '.join(self.examples[kind])})")
        return ", ".join(parts) or "no fault"


def heading(kind):
    """The word of `HEADINGS` under which a kind of fault is counted."""
    for name, words in HEADINGS.items():
        if kind.startswith(words):
            return name
    return "other"


class World:
    """The target's data, indexed; duplicates are counted while indexing."""

    def __init__(self, dump, verdict):
        self.users = unique(
            dump["users"], lambda user: email_key(user["email"]), "duplicated user", verdict
        )
        unique(
            [user for user in dump["users"] if user.get("external_id")],
            lambda user: user["external_id"],
            "duplicated external_id",
            verdict,
        )
        self.orgs = unique(
            [org for org in dump["organizations"] if org.get("external_id")],
            lambda org: org["external_id"],
            "duplicated organization",
            verdict,
        )
        self.org_ids = {org["id"]: org for org in dump["organizations"]}
        self.memberships = unique(
            dump["memberships"],
            lambda one: (one["user_id"], one["organization_id"]),
            "duplicated membership",
            verdict,
        )
        # Targets that know no second factors show none.
        self.factors = unique(
            dump.get("factors", []), lambda one: one["user_id"], "duplicated factor", verdict
        )

    def org_of(self, row):
        """The organization a row names, or None when the target has none such."""
        kind, value = row.org
        return self.org_ids.get(value) if kind == "id" else self.orgs.get(value)


def unique(entities, key, kind, verdict):
    found = {}
    for entity in entities:
        name = key(entity)
        if name in found:
            verdict.fault(kind, name)
        else:
            found[name] = entity
    return found


def judge(rows, results, dump, before=None, default_roles=True):
    """Compares what the rows ask for, what the results claim and what the target holds.

    `before` is the dump from before the job (people and organizations that were there already);
    `default_roles` is off for targets that do not store the asked roles.
    """
    verdict = Verdict()
    world = World(dump, verdict)
    known = World(before or {"users": [], "organizations": [], "memberships": []}, Verdict())
    by_row = pair_results(rows, results, verdict)
    judge_rows(rows, by_row, world, known, verdict)
    judge_people(rows, by_row, world, known, verdict)
    judge_memberships(rows, by_row, world, known, default_roles, verdict)
    judge_factors(rows, by_row, world, verdict)
    judge_organizations(rows, world, known, verdict)
    verdict.facts = {
        "rows": len(rows),
        "users": len(dump["users"]),
        "organizations": len(dump["organizations"]),
        "memberships": len(dump["memberships"]),
        "states": Counter(result["state"] for result in by_row.values()),
    }
    return verdict


def pair_results(rows, results, verdict):
    """Every row is reported exactly once, under its own number, line and email."""
    by_row = {}
    for result in results:
        number = int(result["row"])
        if number in by_row:
            verdict.fault("row reported twice", number)
        by_row[number] = result
    for row in rows:
        result = by_row.get(row.number)
        if result is None:
            verdict.fault("row not reported", row.number)
        elif int(result["line"]) != row.line:
            verdict.fault("wrong line", f"row {row.number}: {result['line']} is {row.line}")
        elif email_key(result["email"].lstrip("'")) != row.key.lstrip("'"):
            verdict.fault("wrong email", f"row {row.number}: {result['email']!r}")
    for number in set(by_row) - {row.number for row in rows}:
        verdict.fault("reported row that is not in the file", number)
    return by_row


def judge_rows(rows, by_row, world, known, verdict):
    """Each row on its own: lost, falsely failed, falsely succeeded."""
    settled_well = {
        row.key for row in rows if by_row.get(row.number, {}).get("state") in GOOD
    }
    for row in rows:
        result = by_row.get(row.number)
        if result is None:
            continue
        state = result["state"]
        user = world.users.get(row.key)
        if state in GOOD:
            judge_success(row, result, user, world, verdict)
        elif state in OPEN:
            verdict.fault("lost (still pending)", f"row {row.number}")
        elif state in BAD:
            judge_failure(row, result, user, world, known, settled_well, verdict)
        elif state != "skipped":
            verdict.fault("unknown state", f"row {row.number}: {state}")


def judge_success(row, result, user, world, verdict):
    """A row that settled well has its user and, if asked, an active membership."""
    where = f"row {row.number} {result['state']}"
    if user is None:
        verdict.fault("falsely succeeded (no user)", where)
        return
    if result["user_id"] != user["id"]:
        verdict.fault("wrong user_id", f"{where}: {result['user_id']} is {user['id']}")
    if row.org is None:
        return
    org = world.org_of(row)
    if org is None:
        verdict.fault("falsely succeeded (no organization)", where)
        return
    if result["org_id"] != org["id"]:
        verdict.fault("wrong org_id", f"{where}: {result['org_id']} is {org['id']}")
    member = world.memberships.get((user["id"], org["id"]))
    if member is None or member.get("status") != "active":
        verdict.fault("falsely succeeded (no active membership)", where)
    elif result["membership_id"] and result["membership_id"] != member["id"]:
        verdict.fault("wrong membership_id", f"{where}: {result['membership_id']}")


def judge_failure(row, result, user, world, known, settled_well, verdict):
    """A failed or parked row left nothing behind at the step it names."""
    where = f"row {row.number} {result['state']} {result['step']} {result['error_code']}"
    if result["state"] == "parked":
        verdict.fault("parked", where)
    ours = user is not None and row.key not in known.users
    if result["step"] in ("validation", "organization", "user"):
        if ours and row.key not in settled_well:
            verdict.fault("falsely failed (user is there)", where)
    elif result["step"] == "membership" and user is not None and row.org is not None:
        if not result["user_id"]:
            verdict.fault("membership failure without user_id", where)
        org = world.org_of(row)
        if org and world.memberships.get((user["id"], org["id"]), {}).get("status") == "active":
            verdict.fault("falsely failed (membership is there)", where)


def judge_people(rows, by_row, world, known, verdict):
    """Every person of the file once, as the lowest usable row describes them, and nobody else."""
    leaders = {}
    for row in rows:
        result = by_row.get(row.number, {})
        usable = result.get("state") in GOOD or result.get("step") in LATE_STEPS
        if usable:
            leaders.setdefault(row.key, row)
    for key, row in leaders.items():
        user = world.users.get(key)
        if user is None:
            verdict.fault("lost user", f"row {row.number}")
        elif key not in known.users:
            for name, wanted in row.attributes().items():
                if name in user and (user[name] or None) != (wanted or None):
                    verdict.fault("wrong attribute", f"row {row.number} {name}: {user[name]!r}")
            if by_row[row.number]["state"] == "merged":
                verdict.fault("leader reported as merged", f"row {row.number}")
    for key, user in world.users.items():
        if key not in leaders and key not in known.users:
            verdict.fault("extra user", user["id"])


def judge_memberships(rows, by_row, world, known, default_roles, verdict):
    """Every asked membership once with an asked role, and no other."""
    asked = defaultdict(set)
    for row in rows:
        user = world.users.get(row.key)
        org = world.org_of(row) if row.org else None
        if by_row.get(row.number, {}).get("state") in GOOD and user and org:
            asked[(user["id"], org["id"])].add(row.roles)
    for pair, roles in asked.items():
        member = world.memberships.get(pair)
        if member is None:
            verdict.fault("membership missing", pair)
        elif default_roles and pair not in known.memberships and roles_of(member) not in roles:
            verdict.fault("wrong role", f"{pair}: {roles_of(member)} is not in {roles}")
    for pair in set(world.memberships) - set(asked) - set(known.memberships):
        verdict.fault("membership extra", pair)


def judge_factors(rows, by_row, world, verdict):
    """The users this job made have the factor their row brings; nobody else got one."""
    asked = set()
    for row in rows:
        result = by_row.get(row.number, {})
        user = world.users.get(row.key)
        if user and row.fields.get("totp_secret") and result.get("state") in ("created", "recovered"):
            asked.add(user["id"])
    for user in asked - set(world.factors):
        verdict.fault("falsely succeeded (no factor)", user)
    for user in set(world.factors) - asked:
        verdict.fault("factor extra", user)


def roles_of(member):
    roles = member.get("roles") or [member.get("role") or {}]
    return tuple(sorted(role.get("slug", "") for role in roles))


def judge_organizations(rows, world, known, verdict):
    """No organization that no row names, none without an external_id, none under another name."""
    named = defaultdict(set)
    for row in rows:
        if row.org and row.org[0] == "external_id":
            named[row.org[1]].add(row.fields.get("org_name") or row.org[1])
    ids = {row.org[1] for row in rows if row.org and row.org[0] == "id"}
    for org in world.org_ids.values():
        if org["id"] in known.org_ids or org["id"] in ids:
            continue
        key = org.get("external_id")
        if key not in named:
            verdict.fault("orphan organization", f"{org['id']} {key}")
        elif org["name"] not in named[key]:
            verdict.fault("wrong organization name", f"{key}: {org['name']!r}")


@dataclass(frozen=True)
class Fate:
    """What must become of a row: one of these states, and the step at which it fails if it must."""

    states: frozenset
    step: str | None = None


def judge_fates(results, fates, verdict):
    """Compares every row with what had to become of it; `fates` are by row number."""
    for result in results:
        fate = fates.get(int(result["row"]))
        if fate is None or (
            result["state"] in fate.states and fate.step in (None, result["step"])
        ):
            continue
        wanted = "/".join(sorted(fate.states))
        where = f"row {result['row']} {result['state']} {result['step']} {result['error_code']}"
        verdict.fault(misjudged(result["state"], fate), f"{where}, not {wanted}")


def misjudged(state, fate):
    """The kind of fault a wrong state is."""
    ours, theirs = {"created", "recovered"}, {"linked", "updated"}
    if state in OPEN:
        return "lost (still pending)"
    if state in BAD and not fate.states & BAD:
        return "falsely failed (nothing was wrong with it)"
    if state in GOOD and not fate.states & GOOD:
        return "falsely succeeded (it had to be refused)"
    if state in ours and fate.states & theirs:
        return "somebody else's claimed as ours"
    if state in theirs and fate.states & ours:
        return "ours taken for somebody else's"
    return "wrong state"


def judge_accounts(summary, results, dump, before, verdict):
    """The sums of the summary are those of the results and of what the target holds."""
    states = Counter(result["state"] for result in results)
    for state, count in summary["rows"].items():
        counted = len(results) if state == "total" else states[state]
        if count != counted:
            verdict.fault("miscounted rows", f"{state}: {count} is {counted}")
    grown = len(dump["organizations"]) - len(before["organizations"])
    count = summary["organizations"]["created"]
    if count != grown:
        verdict.fault("miscounted organizations", f"created: {count} is {grown}")
    # Each membership is counted once, however many rows ask for it.
    tally = summary["memberships"]
    ids = {result["membership_id"] for result in results if result["state"] in GOOD} - {""}
    count = sum(tally[kind] for kind in ("created", "recovered", "existing", "reactivated"))
    if count != len(ids):
        verdict.fault("miscounted memberships", f"{tally}: {count} is {len(ids)}")
    grown = len(dump["memberships"]) - len(before["memberships"])
    if tally["created"] > grown:
        verdict.fault("miscounted memberships", f"created: {tally['created']} of {grown}")


def judge_traffic(requests, windows=(), pauses=True):
    """Looks at the requests in the order the target received them.

    `windows` are (limit, seconds, predicate) that no sliding window may exceed; `pauses` checks
    that nothing arrives inside a pause the target asked for.
    """
    verdict = Verdict()
    for limit, seconds, matches in windows:
        times = [one.received for one in requests if matches(one)]
        most = largest_window(times, seconds)
        verdict.facts[f"largest {seconds:g} s window"] = most
        if most > limit:
            verdict.fault("rate exceeded", f"{most} in {seconds:g} s, {limit} allowed")
    if pauses:
        judge_pauses(requests, verdict)
    made = Counter(one.entity for one in requests if one.created and one.entity)
    for entity, count in made.items():
        if count > 1:
            verdict.fault("created twice", entity)
    verdict.facts["requests"] = len(requests)
    verdict.facts["throttled"] = sum(1 for one in requests if one.status == 429)
    return verdict


def largest_window(times, seconds):
    """The most requests in any window [t, t + seconds)."""
    times = sorted(times)
    most = start = 0
    for end, time in enumerate(times):
        while time - times[start] >= seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


def judge_pauses(requests, verdict):
    """No request is received later than the grace after a 429 and before its Retry-After ends."""
    open_until = []
    pauses = [
        (one.answered + PAUSE_GRACE_S, one.answered + one.retry_after)
        for one in requests
        if one.status == 429 and one.answered is not None and one.retry_after
    ]
    pauses.sort()
    index = 0
    for one in sorted(requests, key=lambda request: request.received):
        while index < len(pauses) and pauses[index][0] < one.received:
            open_until.append(pauses[index][1])
            index += 1
        if open_until and one.received < max(open_until):
            late = max(open_until) - one.received
            verdict.fault("request inside a pause", f"{one.what} {late:.3f} s before its end")
        open_until = [until for until in open_until if until > one.received]
    verdict.facts["pauses"] = len(pauses)
