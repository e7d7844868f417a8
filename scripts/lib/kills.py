"""One job of `chaos`: a file, a target, kills at random moments, resumes until it is done, the judge.

Owns the choices of a job, all from its seed, and the moments at which it strikes.
"""

import http.client
import json
import math
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import checker
from crowd import Crowd, Shape
from harness import Command, Failure, descendants, kill, require, run, workers_of
from history import read_history
from jobs import results_of
from source import read_rows

# How often the target is asked how far the job is.
LOOK_EVERY = 0.005
# A run that sends nothing for so long hangs, however busy the machine is.
STANDS_STILL = 60
# A run that sends the same again and again never ends.
ENDS_AT_LAST = 900
# With a planted bug, which may be one that hangs.
PLANTED_STANDS_STILL = 15
# What is dated up to five seconds before a lease may be the job's own: clocks of one target differ. And
# users are dated by the millisecond, a run's beginning by the second of its first answer.
BEFORE_THE_JOB = 6.2
NOBODY = {"users": [], "organizations": [], "memberships": []}
FAULTS = "drop-after=2%,drop-before=1%,500=1%,500-after=1%,malformed=1%,429=0.1%:1,hang=0.05%"


@dataclass
class Report:
    """What one job saw."""

    number: int
    rows: int = 0
    kills: Counter = field(default_factory=Counter)
    landed: Counter = field(default_factory=Counter)
    recovered: int = 0
    windows: int = 0
    faults: Counter = field(default_factory=Counter)
    words: str = ""


def generator(seed, number):
    """The source of every choice of one job."""
    return random.Random(f"{seed}/{number}")


class Plan:
    """Everything random about a job that is not a moment."""

    def __init__(self, rng):
        self.kind = rng.choices(("calm", "faulty", "limited", "mortal"), (50, 25, 13, 12))[0]
        limited = self.kind == "limited"
        self.crowd = Crowd(
            rng,
            Shape(
                rows=rng.randint(60, 110) if limited else rng.randint(100, 400),
                orgs=rng.choice((0, 2, 8, 40)),
                again=rng.choice((0.0, 0.1, 0.3)),
                bad=rng.choice((0.0, 0.0, 0.05)),
                there=rng.choice((0.0, 0.0, 0.1)),
                policy=rng.choice(("link", "link", "skip", "fail")),
            ),
        )
        self.workers = rng.randint(1, 4)
        self.chunk = rng.randint(5, 50)
        self.latency = rng.randint(5, 15)
        # So many rows in flight that the job takes about so long.
        seconds = rng.uniform(0.4, 1.0)
        at_once = self.crowd.shape.rows * 1.8 * self.latency / 1000 / seconds
        self.concurrency = max(1, round(at_once / self.workers))
        self.kills = rng.choice((1, 2, 2, 3, 3))
        self.limit = (rng.randint(60, 100), 2) if limited else None
        # The target allows a few more: with four jobs at once on a small machine it may hear the
        # first request of a window late and the next in time. Kills that multiply what is sent,
        # which is what is looked for, show all the same.
        self.allowed = (math.ceil(1.1 * self.limit[0]), 2) if limited else None

    def target(self):
        """The arguments of the sandbox."""
        arguments = ["--latency", f"{self.latency}ms~50%"]
        if self.limit:
            arguments += ["--rate", "{}/{}s".format(*self.allowed)]
        if self.kind == "faulty":
            arguments += ["--faults", FAULTS]
        return arguments

    def tuning(self):
        """The arguments of every run."""
        rate = "{}/{}s".format(*self.limit) if self.limit else "none"
        tuning = ["--rate", rate, "--workers", self.workers, "--concurrency", self.concurrency]
        scale = 0.1 if self.kind in ("faulty", "mortal") else 1
        return [*tuning, "--time-scale", scale, "--progress", "none", "--log-level", "error", "--json"]

    def __str__(self):
        shape = self.crowd.shape
        return (
            f"{self.kind}, {shape.rows} rows, {shape.orgs} organizations, on existing {shape.policy}, "
            f"{self.workers} workers, chunks of {self.chunk}"
        )


class Job:
    """A job that is killed at random moments and resumed until it is done."""

    def __init__(self, work, seed, number, env=None):
        self.work = work
        self.env = env
        self.patience = PLANTED_STANDS_STILL if env else STANDS_STILL
        self.rng = generator(seed, number)
        self.plan = Plan(self.rng)
        self.report = Report(number, rows=self.plan.crowd.shape.rows)
        self.path = work.file("people.csv")
        self.plan.crowd.write(self.path)
        self.before = NOBODY
        self.strikes = []
        self.state = work.file("target.log")
        self.server = self.populated()
        self.meter = Meter(self.server.port)
        self.baseline = self.meter.entities()

    def populated(self):
        """The target with those who are there already."""
        crowd = self.plan.crowd
        kept = ("--state", self.state)
        if crowd.there or crowd.orgs_there:
            calm = self.work.sandbox(*kept)
            crowd.move_in(calm)
            self.before = calm.dump()
            calm.stop()
            time.sleep(BEFORE_THE_JOB)
        elif self.plan.kind != "mortal":
            kept = ()
        self.arguments = (*self.plan.target(), "--seed", self.rng.randrange(1 << 30), *kept)
        return self.work.sandbox(*self.arguments)

    def go(self):
        """Runs it to its end and judges it; faults are in the report, anything else raises."""
        while True:
            command = self.start()
            while len(self.strikes) < self.plan.kills and command.running:
                self.strike(command)
            done = self.finish(command)
            if done.code != -signal.SIGKILL:
                break
        require(done.code in (0, 1), f"the last run ended with {done.code}: {done.tail}")
        self.judge(done.json)
        wanted = 1 if self.plan.crowd.refused else 0
        if done.code != wanted and not self.report.faults:
            raise Failure(f"exit {done.code}, {wanted} expected: {done.tail}")
        if self.rng.random() < 0.1:
            self.resume_again(wanted)
        return self.report

    def start(self):
        """Resumes, or imports again, which is the same unless the job was complete before the kill."""
        begun = self.work.file("checkpoints/job").exists()
        if begun and (self.rng.random() < 0.5 or self.complete()):
            arguments = ["resume", "job"]
        else:
            policy = self.plan.crowd.shape.policy
            arguments = ["import", self.path, *self.server.target(), "--create-orgs", "--job", "job"]
            arguments += ["--chunk-size", self.plan.chunk, "--on-existing", policy]
        return Command(self.work, *arguments, *self.plan.tuning(), env=self.env)

    def complete(self):
        return run(self.work, "status", "job", "--json").json["state"] == "completed"

    def strike(self, command):
        """Waits for a random moment and kills: by what the target holds, or by the clock."""
        # The first run's beginning is files and processes, a later one's is recovery.
        share, longest = (0.45, 0.3) if self.strikes else (0.2, 0.15)
        if self.rng.random() < share:
            until = command.started + self.rng.uniform(0, longest)
            reached = lambda: time.monotonic() >= until  # noqa: E731
        else:
            now = self.meter.entities()
            goal = now + self.rng.uniform(0, 1.02) * (self.expected() - now)
            reached = lambda: self.meter.entities() >= goal  # noqa: E731
        self.watch(command, reached)
        time.sleep(self.rng.uniform(0, 0.02))
        mode = self.mode()
        victims = self.victims(mode, command)
        seen = self.meter.entities()
        if not command.running or not any([kill(pid) for pid in victims]):
            return
        self.strikes.append(seen)
        self.report.kills[mode] += 1
        if self.server.command.pid in victims:
            self.revive()

    def watch(self, command, reached, every=LOOK_EVERY):
        """Waits until `reached` or the command's end; a command that stands still fails."""
        last, since, begun = None, time.monotonic(), command.started
        while command.running and not reached():
            now = time.monotonic()
            if last != self.meter.received:
                last, since = self.meter.received, now
            if now - since >= self.patience:
                raise Failure(f"the run stands still: no request for {self.patience} s")
            require(now - begun < ENDS_AT_LAST, f"the run still goes after {ENDS_AT_LAST} s")
            time.sleep(every)

    def finish(self, command):
        """Waits for the end of a command."""
        self.watch(command, self.nothing_more, 0.02)
        return command.wait(self.patience)

    def nothing_more(self):
        """Never reached; looks at the target, so that a run that stands still is noticed."""
        self.meter.entities()
        return False

    def mode(self):
        if self.plan.kind == "mortal":
            return self.rng.choice(("target", "everything and target", "everything and target"))
        return self.rng.choices(("coordinator", "worker", "everything"), (45, 30, 25))[0]

    def victims(self, mode, command):
        target = [self.server.command.pid] if "target" in mode else []
        if mode == "target":
            return target
        if mode == "coordinator":
            return [command.pid]
        if mode == "worker":
            workers = workers_of(command.pid)
            return self.rng.sample(workers, 1) if workers else []
        return [command.pid, *descendants(command.pid), *target]

    def revive(self):
        """The target comes back with what it had, at its old address."""
        self.server.command.process.wait()
        self.server = self.work.sandbox(*self.arguments, port=self.server.port)
        self.meter = Meter(self.server.port)

    def expected(self):
        """How many things the target holds at the end."""
        rows = read_rows(self.path)
        fates = self.plan.crowd.fates
        good = [row for row in rows if fates[row.number].states & checker.GOOD]
        there = {(one["user_id"], one["organization_id"]) for one in self.before["memberships"]}
        keys = {row.key for row in good if "created" in fates[row.number].states}
        orgs = {row.org[1] for row in good if row.org}
        new = orgs - {org["external_id"] for org in self.before["organizations"]}
        pairs = {(row.key, row.org[1]) for row in good if row.org}
        return self.baseline + len(keys) + len(new) + len(pairs) - len(there)

    def judge(self, summary):
        dump = self.server.dump()
        rows, results = read_rows(self.path), results_of(self.work)
        verdict = checker.judge(rows, results, dump, before=self.before)
        checker.judge_fates(results, self.plan.crowd.fates, verdict)
        checker.judge_accounts(summary, results, dump, self.before, verdict)
        faults, words = verdict.counts, [verdict.words()] if verdict.counts else []
        # A target that was killed has forgotten its history.
        if self.plan.kind != "mortal":
            traffic = self.judge_traffic()
            faults += traffic.counts
            words += [traffic.words()] if traffic.counts else []
        self.report.faults = faults
        self.report.words = ", ".join(words)
        self.report.recovered = summary["rows"]["recovered"] + summary["memberships"]["recovered"]
        self.note_landings(dump)

    def judge_traffic(self):
        windows = []
        if self.plan.limit:
            windows = [(*self.plan.allowed, lambda one: one.limited_write)]
            self.report.windows += 1
        traffic = checker.judge_traffic(read_history(self.server), windows, pauses=False)
        if self.plan.limit and traffic.facts["throttled"]:
            traffic.fault("rate exceeded", f"{traffic.facts['throttled']} answers were 429")
        return traffic

    def note_landings(self, dump):
        end = sum(len(entities) for entities in dump.values())
        for seen in self.strikes:
            if seen <= self.baseline:
                self.report.landed["before"] += 1
            elif seen >= end:
                self.report.landed["after"] += 1
            else:
                self.report.landed["mid"] += 1

    def resume_again(self, code):
        """Nothing is left to do: a resume writes nothing."""
        before = self.server.dump()
        tuning = self.plan.tuning()
        done = self.finish(Command(self.work, "resume", "job", *tuning, env=self.env))
        require(done.code == code, f"a second resume ended with {done.code}: {done.tail}")
        if self.server.dump() != before:
            raise Failure("resuming a finished job changed the target")


class Meter:
    """Asks a sandbox what it holds, over one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.received = 0

    def entities(self):
        """How many things the target holds; notes how many requests it received."""
        self.connection.request("GET", "/_sandbox/stats")
        stats = json.load(self.connection.getresponse())
        self.received = stats["requests"]["received"]
        return sum(stats["entities"].values())
