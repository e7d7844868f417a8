"""Kills at random moments, and everything that must stop a run without losing a row."""

import os
import random
import resource
import signal
import subprocess
import time

import checker
from harness import (
    KEY,
    Command,
    Workspace,
    descendants,
    kill,
    require,
    run,
    wait_for_end,
    wait_until,
    workers_of,
)
from history import read_history
from jobs import judged

CYCLES = 5
MODES = ("coordinator", "worker", "workers", "everything")
RUNS_AT_MOST = 6


def kill_nine(work, seed):
    """20 cycles of kill -9: coordinator, one worker, all workers, everything with its sandbox."""
    figures = []
    for mode in MODES:
        moments, runs, slowest = [], 0, 0.0
        for cycle in range(CYCLES):
            with Workspace(f"kill-{mode}-{cycle}") as place:
                rng = random.Random(f"{seed}/{mode}/{cycle}")
                try:
                    one = Cycle(place, mode, rng)
                    one.go()
                except Exception as problem:
                    raise type(problem)(f"{mode} cycle {cycle} (seed {seed}): {problem}") from problem
                moments += one.moments
                runs += one.runs
                slowest = max(slowest, one.slowest_exit)
        times = "/".join(f"{moment:.2f}" for moment in moments)
        line = f"{mode}: {len(moments)} kills at {times} s, {runs} runs"
        if mode == "coordinator":
            line += f", workers gone after {slowest:.2f} s at most"
        figures.append(line)
    return f"{CYCLES * len(MODES)} cycles, 0 lost, 0 twice, 0 falsely failed; " + "; ".join(figures)


class Cycle:
    """One job that is killed at random moments and resumed until it is done."""

    def __init__(self, work, mode, rng):
        self.work = work
        self.mode = mode
        self.rng = rng
        self.moments = []
        self.runs = 0
        self.slowest_exit = 0.0
        self.path = work.generate(
            rows=1200, orgs=12, multi_org="10%", duplicates="3%", seed=rng.randrange(1 << 30)
        )
        self.server = None if mode == "everything" else work.sandbox("--latency", "3ms~50%")

    def go(self):
        kills = self.rng.choice((1, 1, 2))
        code = None
        while code != 0:
            require(self.runs < RUNS_AT_MOST, f"not finished after {self.runs} runs, exit {code}")
            command = self.start()
            self.runs += 1
            # A coordinator outlives its workers: the second kill meets the same run.
            while len(self.moments) < kills and command.running:
                self.strike(command)
            done = command.wait(120)
            code = done.code
            expected = (0, -signal.SIGKILL)
            require(code in expected, f"run {self.runs} ended with {code}: {done.tail}")
        require(self.moments, "the run ended before it was killed")
        self.judge()

    def start(self):
        """`resume` once there is a job; before that, the same `import` again."""
        if self.work.file("checkpoints/job").exists():
            arguments = ["resume", "job"]
        else:
            target = self.server.target() if self.server else ["--target", "sandbox"]
            arguments = ["import", self.path, *target, "--create-orgs", "--job", "job"]
        return Command(
            self.work,
            *arguments,
            *("--workers", 4, "--rate", "900/1s", "--progress", "none"),
            *(("--chunk-size", 40) if arguments[0] == "import" else ()),
        )

    def strike(self, command):
        """Waits for a random moment and kills what this cycle is about."""
        moment = self.rng.uniform(0.02, 2.2)
        time.sleep(moment)
        if not command.running:
            return
        workers = workers_of(command.pid)
        if self.mode == "worker":
            victims = self.rng.sample(workers, 1) if workers else []
        elif self.mode == "workers":
            victims = workers
        elif self.mode == "coordinator":
            victims = [command.pid]
        else:
            victims = [command.pid, *descendants(command.pid)]
        if any([kill(pid) for pid in victims]):
            self.moments.append(moment)
        if self.mode == "coordinator":
            struck = time.monotonic()
            wait_for_end(workers, "workers end after the coordinator's death")
            self.slowest_exit = max(self.slowest_exit, time.monotonic() - struck)

    def judge(self):
        server = self.server
        if server is None:
            log = self.work.file("checkpoints/job/sandbox.log")
            require(log.exists(), f"no {log}")
            server = self.work.sandbox("--state", log)
        verdict = judged(self.work, self.path, server.dump())
        states = verdict.facts["states"]
        require(not set(states) & checker.BAD, f"rows of a clean file failed: {dict(states)}")
        require("linked" not in states, f"own rows taken for somebody else's: {dict(states)}")
        if self.server is not None:
            traffic = checker.judge_traffic(read_history(server), pauses=False)
            require(traffic.clean, traffic.words())


def slow_import(work, server, path, *arguments, **options):
    """Starts an import that takes seconds, and returns once its first rows are settled."""
    command = Command(
        work,
        *("import", path, *server.target(), "--create-orgs", "--job", "job"),
        *("--rate", "300/1s", "--workers", 2, "--chunk-size", 50, "--progress", "none"),
        *arguments,
        **options,
    )
    wait_until(lambda: settled(work, command, arguments) > 0, 20, "the first rows are settled")
    return command


def settled(work, command, arguments=()):
    require(command.running, f"ended early: {command.finished(None).tail}")
    where = arguments[arguments.index("--checkpoints") :][:2] if "--checkpoints" in arguments else ()
    done = run(work, "status", "job", "--json", *where)
    if done.code == 2:
        return 0
    rows = done.json.get("rows") or {"total": 0, "pending": 0}
    return rows["total"] - rows["pending"]


def edited_csv(work, _seed):
    """A file edited after an interruption is refused with 65, untouched with the old bytes back."""
    path = work.generate(rows=1500, seed=31)
    server = work.sandbox()
    command = slow_import(work, server, path)
    workers = workers_of(command.pid)
    command.kill()
    wait_for_end(workers, "workers end")
    original = path.read_bytes()
    before = server.received()
    edits = {
        "one byte changed": original[:-3] + b"X" + original[-2:],
        "a row added": original + b"late@example.com,La,Te,true,late,\n",
        "cut short": original[: len(original) // 2],
    }
    for what, content in edits.items():
        path.write_bytes(content)
        for command in (("resume", "job"), ("import", path, *server.target(), "--job", "job")):
            done = run(work, *command, "--json")
            require(done.code == 65, f"{what}: {command[0]} ended with {done.code}: {done.tail}")
            require(done.json["exit"] == 65, f"{what}: the error object says {done.json}")
    sent = server.received() - before
    require(sent == 0, f"{sent} requests were sent for an edited file")
    path.write_bytes(original)
    run(work, "resume", "job", "--rate", "none").expect(0)
    verdict = judged(work, path, server.dump())
    return f"{len(edits)} edits refused by resume and import, then {verdict.facts['users']} users once"


def second_process(work, _seed):
    """A second process on the same job is refused with 73 and told who holds it."""
    path = work.generate(rows=1500, seed=32)
    server = work.sandbox()
    holder = slow_import(work, server, path)
    for command in (("resume", "job"), ("import", path, *server.target(), "--job", "job")):
        done = run(work, *command)
        require(done.code == 73, f"{command[0]} ended with {done.code}: {done.tail}")
        require(str(holder.pid) in done.stderr, f"the holder {holder.pid} is not named: {done.tail}")
    holder.wait().expect(0)
    verdict = judged(work, path, server.dump())
    return f"resume and import refused, holder {holder.pid} named, {verdict.facts['users']} users once"


def wrong_key(work, _seed):
    """A wrong key, and none at all, stop with 77 and leave every row pending."""
    path = work.generate(rows=500, orgs=3, seed=33)
    # The sandbox's own key is a command-line value by contract: it is not the canary of `secrets`.
    server = work.sandbox("--api-key", KEY)
    base = ("import", path, *server.target(), "--create-orgs", "--job", "job", "--rate", "none")
    done = run(work, *base, "--json", key=None)
    require(done.code == 77, f"without a key: exit {done.code}: {done.tail}")
    count = server.received()
    require(count == 0, f"{count} requests were sent without a key")
    done = run(work, *base, "--json", key="sk_test_wrong_key")
    require(done.code == 77, f"with a wrong key: exit {done.code}: {done.tail}")
    require(done.json["exit"] == 77, f"the error object says {done.json}")
    require("sk_test_wrong_key" not in done.stdout + done.stderr, "the key is printed in full")
    rows = run(work, "status", "job", "--json").json["rows"]
    require(rows["pending"] == rows["total"] == 500, f"rows were burnt: {rows}")
    run(work, "resume", "job", "--rate", "none").expect(0)
    verdict = judged(work, path, server.dump())
    return f"77 twice, 500 of 500 pending, then {verdict.facts['users']} users once"


def disk_full(work, _seed):
    """A full disk under the ledger stops with 74; with space again the job ends as if nothing was."""
    path = work.generate(rows=3000, seed=34)
    server = work.sandbox()
    folder, mounted = small_disk(work)
    where = ("--checkpoints", folder)
    command = slow_import(work, server, path, *where, restore_signals=False)
    filler = fill(folder) if mounted else limit_files(command.pid, folder)
    done = command.wait(60)
    require(done.code == 74, f"exit {done.code}: {done.tail}")
    require("resume" in done.stderr, f"the resume command is not printed: {done.tail}")
    if mounted:
        run(work, "resume", "job", *where).expect(74)
    filler.unlink(missing_ok=True)
    rows = run(work, "status", "job", "--json", *where).json["rows"]
    require(rows["failed"] + rows["parked"] == 0, f"rows failed for the disk's sake: {rows}")
    run(work, "resume", "job", *where, "--rate", "none").expect(0)
    verdict = judged(work, path, server.dump(), where=where)
    how = "tmpfs of 40 MiB" if mounted else "RLIMIT_FSIZE"
    left = rows["pending"]
    return f"{how}: 74 with {left} of 3000 pending, 0 failed, then {verdict.facts['users']} users once"


def outage(work, _seed):
    """The target goes away for seconds and comes back: the same run ends with everyone once."""
    path = work.generate(rows=1500, orgs=5, multi_org="5%", seed=35)
    state = ("--state", work.file("sandbox.log"))
    server = work.sandbox(*state)
    command = slow_import(work, server, path)
    server.stop()
    time.sleep(2.0)
    server = work.sandbox(*state, port=server.port)
    command.wait(60).expect(0)
    verdict = judged(work, path, server.dump())
    states = verdict.facts["states"]
    require(not set(states) & checker.BAD, f"rows failed for the outage's sake: {dict(states)}")
    return f"2 s without a target under a rate limit, then {verdict.facts['users']} users once"


def small_disk(work):
    """A file system of its own where that is allowed, else an ordinary folder."""
    folder = work.file("disk")
    folder.mkdir()
    if os.geteuid() != 0:
        return folder, False
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "userferry", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        return folder, False
    work.closers.insert(0, lambda: subprocess.run(["umount", "-l", str(folder)], check=False))
    return folder, True


def fill(folder):
    """Writes until nothing fits any more."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as stream:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue
    return filler


def limit_files(pid, folder):
    """No file of the process may grow beyond the largest one it has now."""
    largest = max(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, largest))
    return folder / "no-filler"


CHECKS = {
    "kill-9": kill_nine,
    "edited-csv": edited_csv,
    "second-process": second_process,
    "wrong-key": wrong_key,
    "disk-full": disk_full,
    "outage": outage,
}
