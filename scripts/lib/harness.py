"""Starts, watches, kills and reads real processes: the userferry binary and servers around it.

Owns processes and temporary folders. Judges nothing.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "userferry"
KEY = "sk_test_acceptance_0123456789"
PORT = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):(\d+)")


class Failure(Exception):
    """A check does not hold; the message says what was seen."""


def require(condition, message):
    if not condition:
        raise Failure(message)


def build():
    """Builds the release binary that every check runs."""
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)


class Workspace:
    """A temporary folder with everything one check starts in it; both end with the `with` block."""

    def __init__(self, name):
        self.path = Path(tempfile.mkdtemp(prefix=f"userferry-{name}-"))
        self.closers = []
        self.counter = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for close in reversed(self.closers):
            close()
        if kind is not None and os.environ.get("USERFERRY_KEEP_FAILED"):
            print(f"     kept {self.path}", flush=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def file(self, name):
        return self.path / name

    def generate(self, name="users.csv", **options):
        """Writes a users CSV with `userferry generate`."""
        path = self.file(name)
        arguments = [f"--{flag.replace('_', '-')}={value}" for flag, value in options.items()]
        done = run(self, "generate", *arguments, "--out", str(path))
        require(done.code == 0, f"generate ended with {done.code}: {done.stderr[-300:]}")
        return path

    def sandbox(self, *arguments, **options):
        server = Server(self, *arguments, **options)
        self.closers.append(server.stop)
        return server


class Finished:
    """What a command left behind."""

    def __init__(self, code, stdout, stderr):
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    @property
    def json(self):
        """The one object that `--json` prints."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise Failure(
                f"no JSON on stdout (exit {self.code}): {self.stdout[-200:]!r} {self.tail}"
            ) from None

    @property
    def tail(self):
        return " | ".join(self.stderr.strip().splitlines()[-4:])

    def expect(self, code):
        require(self.code == code, f"exit {self.code}, expected {code}: {self.tail}")
        return self


class Command:
    """A running userferry command whose output goes to files, so that no pipe can block it."""

    def __init__(self, work, *arguments, env=None, key=KEY, under=(), **popen):
        """`under` is a program with its arguments that starts userferry, such as a tracer."""
        work.counter += 1
        self.out = work.file(f"{work.counter}.out")
        self.err = work.file(f"{work.counter}.err")
        self.started = time.monotonic()
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [str(part) for part in (*under, BINARY, *arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(env, key),
                cwd=work.path,
                **popen,
            )
        work.closers.append(self.end)

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=300):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            raise Failure(f"still running after {timeout} s: {self.finished(None).tail}") from None
        return self.finished(code)

    def finished(self, code):
        return Finished(
            code,
            self.out.read_text(encoding="utf-8", errors="replace"),
            self.err.read_text(encoding="utf-8", errors="replace"),
        )

    def kill(self, number=signal.SIGKILL):
        if self.running:
            self.process.send_signal(number)

    def end(self):
        """Kills what is left of it, descendants included."""
        if self.running:
            family = descendants(self.pid)
            self.process.kill()
            self.process.wait()
            for pid in family:
                kill(pid)


def environment(extra=None, key=KEY):
    """The environment of every command: nothing of the caller's that could change a result."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    env["NO_COLOR"] = "1"
    if key is not None:
        env["WORKOS_API_KEY"] = key
    env.update(extra or {})
    return env


def run(work, *arguments, timeout=300, **options):
    """Runs a userferry command to its end."""
    return Command(work, *arguments, **options).wait(timeout)


class Server:
    """A `userferry sandbox` of its own, on a port it chose unless one is given."""

    def __init__(self, work, *arguments, port=0):
        listen = f"127.0.0.1:{port}"
        self.command = Command(work, "sandbox", "--listen", listen, *arguments, key=None)
        self.port = self.wait_for_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_for_port(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = self.command.finished(None)
            found = PORT.search(done.stdout) or PORT.search(done.stderr)
            if found:
                return int(found.group(1))
            require(self.command.running, f"the sandbox ended: {done.tail}")
            time.sleep(0.02)
        raise Failure("the sandbox did not print its port within 60 s")

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}{path}", timeout=120) as answer:
            return json.load(answer)

    def dump(self):
        return self.get("/_sandbox/dump")

    def stats(self):
        return self.get("/_sandbox/stats")

    def received(self):
        """How many requests it was sent."""
        return self.stats()["requests"]["received"]

    def target(self):
        """The arguments that send an import here."""
        return ["--target", "workos", "--base-url", self.url]

    def stop(self):
        self.command.end()


def children_of():
    """Every process's parent: one look at /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    return parents


def descendants(pid):
    """The living processes below `pid`."""
    parents = children_of()
    family, found = {pid}, []
    grown = True
    while grown:
        grown = False
        for child, parent in parents.items():
            if parent in family and child not in family:
                family.add(child)
                found.append(child)
                grown = True
    return found


def arguments_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def workers_of(pid):
    """The worker subprocesses of a coordinator."""
    return [child for child in descendants(pid) if b"worker" in arguments_of(child)[1:2]]


def kill(pid):
    """kill -9; says whether there was something to kill."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"


def peak_kib(pid):
    """The most resident memory the process ever had (VmHWM), in KiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) if found else 0


class Sampler:
    """Calls `look` about every `interval` seconds on a thread until the block ends."""

    def __init__(self, look, interval=0.1):
        self.look = look
        self.interval = interval
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def loop(self):
        while not self.stopped.is_set():
            self.look()
            self.stopped.wait(self.interval)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def wait_for_end(pids, what):
    """Waits until none of them runs: they take a second, and a busy machine a few."""
    wait_until(lambda: not any(map(alive, pids)), 5.0, what)


def wait_until(condition, timeout, what):
    """Waits for something observable."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise Failure(f"not within {timeout} s: {what}")
