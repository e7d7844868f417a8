"""What must not leak and what must not grow: secrets and memory."""

import csv
import re
import urllib.request
from pathlib import Path

from harness import (
    Command,
    Failure,
    Sampler,
    arguments_of,
    descendants,
    peak_kib,
    require,
    run,
    workers_of,
)

CANARY_KEY = "sk_test_canary_key_5b1f0c77e2"
CANARY_PASSWORD = "canary-password-9d41c8aa"
CANARY_HASH = "$2a$10$canaryhashcanaryhashcaOe1kYb0m3l6QkM0yq6m8cS8N9e5dQxF2"
CANARY_PERSON = "canary.person.3f6e"

COORDINATOR_KIB = 128 * 1024
WORKER_KIB = 48 * 1024


def secrets(work, seed):
    """The key, passwords and hashes are nowhere: argv, workers, job folder, events, logs."""
    path = work.file("secrets.csv")
    write_secrets(path)
    server = work.sandbox("--latency", "20ms~50%", "--faults", "500=3%,drop-after=2%,500-after=2%", "--seed", seed)
    events = work.file("events.jsonl")
    command = Command(
        work,
        *("import", path, *server.target(), "--create-orgs", "--job", "job", "--workers", 3),
        *("--rate", "200/1s", "--chunk-size", 20),
        *("--events", events, "--log-level", "trace", "--progress", "plain"),
        key=CANARY_KEY,
    )
    look = Leaks(command.pid)
    with Sampler(look.sample, 0.05):
        done = command.wait(120)
    require(done.code in (0, 1), f"exit {done.code}: {done.tail}")
    require(look.workers >= 3, f"only {look.workers} workers were seen")
    require(not look.found, f"found in {sorted(look.found)[:5]}")
    resumed = run(work, "status", "job", "--json", key=CANARY_KEY)
    errors = run(work, "resume", "job", "--json", "--log-level", "trace", key=CANARY_KEY)
    texts = {"stderr": done.stderr, "stdout": done.stdout, "status": resumed.stdout}
    texts["resume"] = errors.stderr + errors.stdout
    hidden = (CANARY_KEY, CANARY_PASSWORD, CANARY_HASH)
    for name, text in texts.items():
        for canary in hidden:
            require(canary not in text, f"{canary} is in {name}")
    files = [file for file in work.file("checkpoints").rglob("*") if file.is_file()]
    require(files, "no job folder was left to look at")
    require(events.stat().st_size > 0, "the events file is empty")
    for file in [*files, events]:
        data = file.read_bytes()
        for canary in (*hidden, CANARY_PERSON):
            require(canary.encode() not in data, f"{canary} is in {file.name}")
    modes = {file: file.stat().st_mode & 0o077 for file in files}
    require(not any(modes.values()), f"readable by others: {[f.name for f in modes if modes[f]]}")
    return (
        f"0 hits in {look.looked} command lines, {look.workers} worker environments, "
        f"{len(files)} files of the job, {events.stat().st_size} bytes of events, logs at trace"
    )


def write_secrets(path):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(
            ["email", "first_name", "external_id", "password", "password_hash"]
            + ["password_hash_type", "org_external_id"]
        )
        for number in range(1, 301):
            email = f"{CANARY_PERSON}.{number}@example.com"
            if number % 50 == 0:
                email = f"{CANARY_PERSON} {number} is no email"
            hashed = ["", CANARY_HASH, "bcrypt"] if number % 2 else [CANARY_PASSWORD, "", ""]
            out.writerow([email, "Ann", f"c-{number}", *hashed, f"org-{number % 3}"])


class Leaks:
    """Looks at every command line of the machine and at the environment of the workers."""

    def __init__(self, pid):
        self.pid = pid
        self.found = set()
        self.seen = set()
        self.looked = 0

    @property
    def workers(self):
        return len(self.seen)

    def sample(self):
        canaries = [text.encode() for text in (CANARY_KEY, CANARY_PASSWORD, CANARY_HASH)]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                line = b"\0".join(arguments_of(int(entry.name)))
                self.looked += 1
                if any(canary in line for canary in canaries):
                    self.found.add(f"argv of {line.split(bytes(1))[:2]}")
        for pid in workers_of(self.pid):
            try:
                values = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            self.seen.add(pid)
            if any(canary in values for canary in canaries) or b"WORKOS_API_KEY" in values:
                self.found.add(f"environment of worker {pid}")


def memory(work, _seed):
    """1,000,000 rows: the coordinator under 128 MiB, every worker under 48 MiB."""
    rows = 1_000_000
    path = work.generate(rows=rows, seed=41)
    command = Command(
        work,
        *("import", path, "--target", "sandbox", "--job", "job", "--workers", 4),
        *("--json", "--progress", "none"),
    )
    peaks = Peaks(command.pid)
    with Sampler(peaks.sample, 0.2):
        done = command.wait(400)
    summary = done.expect(0).json
    require(summary["rows"]["created"] == rows, f"created {summary['rows']}")
    figures = peaks.figures()
    require(peaks.coordinator < COORDINATOR_KIB, f"coordinator too large: {figures}")
    require(len(peaks.workers) >= 4, f"only {len(peaks.workers)} workers were seen")
    require(max(peaks.workers.values()) < WORKER_KIB, f"worker too large: {figures}")
    count_users(work, rows)
    return f"{figures}, {summary['elapsed_s']:.0f} s, {summary['rows_per_s']:.0f} rows/s, users at the target {rows}"


class Peaks:
    """The largest resident memory of the coordinator and of each worker."""

    def __init__(self, pid):
        self.pid = pid
        self.coordinator = 0
        self.workers = {}

    def sample(self):
        self.coordinator = max(self.coordinator, peak_kib(self.pid))
        for child in descendants(self.pid):
            if b"worker" in arguments_of(child)[1:2]:
                self.workers[child] = max(self.workers.get(child, 0), peak_kib(child))

    def figures(self):
        largest = max(self.workers.values(), default=0)
        return f"coordinator {self.coordinator / 1024:.1f} MiB, largest worker {largest / 1024:.1f} MiB"


def count_users(work, rows):
    """Counts the people in the sandbox's log, which is what it starts again with."""
    server = work.sandbox("--state", work.file("checkpoints/job/sandbox.log"))
    emails, total, tail = set(), 0, b""
    with urllib.request.urlopen(f"{server.url}/_sandbox/dump", timeout=300) as answer:
        while block := answer.read(1 << 20):
            data = tail + block
            last = 0
            for found in re.finditer(rb'"email":\s*"([^"]*)"', data):
                total += 1
                emails.add(hash(found.group(1).lower()))
                last = found.end()
            tail = data[max(last, len(data) - 400) :]
    if total != rows or len(emails) != rows:
        raise Failure(f"{total} users with {len(emails)} emails at the target, {rows} in the file")


CHECKS = {"secrets": secrets, "memory": memory}
