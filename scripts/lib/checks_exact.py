"""What a run that nobody disturbs must leave behind."""

import csv
import re
from collections import Counter

import checker
from harness import require
from history import read_history
from jobs import judged, results_of, settle, words
from source import read_rows

IDS = re.compile(r"\b(?:user|org|om|req)_[A-Za-z0-9-]+")


def exactly_once(work, _seed):
    """20,000 rows, 50 organizations, 4 workers: everyone once by the sandbox's own data."""
    path = work.generate(rows=20000, orgs=50, multi_org="5%", duplicates="2%", seed=11)
    server = work.sandbox()
    summary = settle(work, server, path, "--workers", 4)
    verdict = judged(work, path, server.dump())
    requests = read_history(server)
    traffic = checker.judge_traffic(requests, pauses=False)
    require(traffic.clean, traffic.words())
    creates = {one.org_create for one in requests if one.org_create and one.applied}
    require(len(creates) == 50, f"{len(creates)} organizations were made, 50 are named")
    return f"{words(verdict)}; {summary['rows_per_s']:.0f} rows/s"


def merged_cache(work, _seed):
    """8 workers, 200 organizations, a cache of 50: one look-up and one create per organization."""
    path = work.generate(rows=6000, orgs=200, multi_org="20%", seed=12)
    server = work.sandbox()
    summary = settle(work, server, path, "--workers", 8, "--org-cache", 50, "--chunk-size", 100)
    judged(work, path, server.dump())
    requests = read_history(server)
    lookups = Counter(one.org_lookup for one in requests if one.org_lookup)
    creates = Counter(one.org_create for one in requests if one.org_create)
    named = {row.org[1] for row in read_rows(path) if row.org}
    twice = [key for key, count in lookups.items() if count > 1]
    require(not twice, f"{len(twice)} organizations looked up more than once, e.g. {twice[:3]}")
    require(set(lookups) <= named, "organizations looked up that no row names")
    again = [key for key, count in creates.items() if count > 1]
    require(not again, f"{len(again)} organizations created more than once, e.g. {again[:3]}")
    cache = summary["org_cache"]
    for name in ("hits", "misses", "merged", "evicted"):
        require(cache[name] > 0, f"org_cache.{name} is {cache[name]}: {cache}")
    return f"organizations {len(named)}, look-ups {sum(lookups.values())}, creates {sum(creates.values())}, {cache}"


def same_report(work, _seed):
    """1, 2 and 8 workers tell the same story about the same file."""
    path = work.generate(
        rows=3000, orgs=20, multi_org="10%", duplicates="3%", bad="2%", seed=13
    )
    told = {}
    for workers in (1, 2, 8):
        server = work.sandbox()
        job = f"w{workers}"
        arguments = ("--workers", workers, "--chunk-size", 50)
        settle(work, server, path, *arguments, code=1, job=job)
        judged(work, path, server.dump(), job=job)
        told[workers] = sorted(plain(record) for record in results_of(work, job))
        server.stop()
    for workers in (2, 8):
        for one, other in zip(told[1], told[workers]):
            require(one == other, f"1 worker: {one}; {workers} workers: {other}")
        require(len(told[1]) == len(told[workers]), "another number of records")
    failed = sum(1 for record in told[1] if "failed" in record)
    return f"{len(told[1])} equal records with 1, 2 and 8 workers, {failed} of them failed rows"


def plain(record):
    """A result without ids: what must not depend on the number of workers."""
    dropped = {"user_id", "org_id", "membership_id", "request_id"}
    return tuple(IDS.sub("ID", record[name]) for name in record if name not in dropped)


def faults(work, seed):
    """Lost answers, 500s and throttling over 5,000 rows cost nothing but time."""
    path = work.generate(rows=5000, orgs=20, multi_org="5%", seed=14)
    server = work.sandbox("--faults", "drop-after=2%,500=2%,429=5%", "--seed", seed)
    summary = settle(work, server, path, "--workers", 4)
    verdict = judged(work, path, server.dump())
    states = verdict.facts["states"]
    require(not set(states) & checker.BAD, f"false failures: {dict(states)}")
    require("linked" not in states, f"rows of this job taken for somebody else's: {dict(states)}")
    traffic = checker.judge_traffic(read_history(server), pauses=False)
    require(traffic.clean, traffic.words())
    asked = summary["requests"]
    require(asked["throttled"] > 0 and asked["ambiguous"] > 0, f"no fault was met: {asked}")
    return f"{words(verdict)}; requests {asked}"


def far_apart(work, _seed):
    """One user in chunks 1 and 40; 100 rows of one new organization over 8 workers."""
    path = work.file("apart.csv")
    with open(path, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(["email", "first_name", "external_id", "org_external_id", "org_name"])
        for number in range(1, 396):
            org = "shared" if 101 <= number <= 200 else f"org-{number % 7}"
            out.writerow([f"p{number}@example.com", f"P{number}", f"p-{number}", org, f"Org {org}"])
        out.writerow([" P5@Example.com", "P5", "p-5", "far", "Org far"])
    server = work.sandbox("--latency", "5ms~50%")
    settle(work, server, path, "--workers", 8, "--chunk-size", 10)
    dump = server.dump()
    verdict = judged(work, path, dump)
    user = next(user for user in dump["users"] if checker.email_key(user["email"]) == "p5@example.com")
    mine = [one for one in dump["memberships"] if one["user_id"] == user["id"]]
    require(len(mine) == 2, f"the user of chunks 1 and 40 has {len(mine)} memberships")
    shared = [one for one in read_history(server) if one.org_create == "shared"]
    require(len(shared) == 1, f"{len(shared)} creates for one new organization")
    return f"2 memberships for the user of chunks 1 and 40; 1 create for 100 rows; {words(verdict)}"


def dry_run(work, _seed):
    """A dry run sends nothing, leaves nothing, and promises what the real run then does."""
    path = work.generate(
        rows=3000, orgs=15, multi_org="5%", duplicates="2%", bad="2%", seed=15
    )
    server = work.sandbox()
    arguments = ("--chunk-size", 50)
    folder = work.file("checkpoints")
    promised = {}
    for workers in (1, 2, 4):
        said = settle(
            work, server, path, *arguments, "--workers", workers, "--dry-run", code=1
        )
        require(said["dry_run"] is True, "the summary does not say dry_run")
        require(said["job"] is None and said["resume"] is None, "a dry run names a job")
        require(said["rows_per_s"] > 0, "rows_per_s is 0")
        promised[workers] = {name: said[name] for name in ("rows", "memberships", "organizations")}
        left = list(folder.iterdir()) if folder.exists() else []
        require(not left, f"the dry run left {left}")
    count = server.received()
    require(count == 0, f"the dry runs sent {count} requests")
    real = settle(work, server, path, *arguments, "--workers", 2, code=1)
    judged(work, path, server.dump())
    for workers, counts in promised.items():
        for name, wanted in counts.items():
            require(
                wanted == real[name],
                f"{name} with {workers} workers: dry run {wanted}, real run {real[name]}",
            )
    return f"0 requests, no checkpoint, 1, 2 and 4 workers promised {spoken(real['rows'])}"


def spoken(tally):
    return " ".join(f"{name} {count}" for name, count in tally.items() if count)


CHECKS = {
    "exactly-once": exactly_once,
    "merged-cache": merged_cache,
    "same-report": same_report,
    "faults": faults,
    "far-apart": far_apart,
    "dry-run": dry_run,
}
