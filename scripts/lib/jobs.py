"""One import as every check runs it, its results, and the judge's word on it."""

import checker
from harness import require, run
from source import read_results, read_rows


def settle(work, server, path, *arguments, code=0, job="job", timeout=300):
    """Imports a file into a sandbox of its own; returns the summary."""
    done = run(
        work,
        "import",
        path,
        *server.target(),
        "--create-orgs",
        "--json",
        "--job",
        job,
        *(() if "--rate" in arguments else ("--rate", "none")),
        *arguments,
        timeout=timeout,
    )
    return done.expect(code).json


def results_of(work, job="job", where=()):
    """The results file of a job, as records; `where` may name another checkpoints folder."""
    out = work.file(f"{job}.results.csv")
    run(work, "results", job, *where, "--out", out, "--force").expect(0)
    return read_results(out)


def judged(work, path, dump, job="job", where=(), **options):
    """The judge's verdict on a job; raises when anything is wrong."""
    results = results_of(work, job, where)
    verdict = checker.judge(read_rows(path), results, dump, **options)
    require(verdict.clean, verdict.words())
    return verdict


def words(verdict):
    facts = verdict.facts
    states = " ".join(f"{state} {count}" for state, count in sorted(facts["states"].items()))
    return (
        f"rows {facts['rows']} ({states}), at the target: users {facts['users']}, "
        f"organizations {facts['organizations']}, memberships {facts['memberships']}"
    )
