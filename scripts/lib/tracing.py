"""Runs userferry under strace and reads what it wrote down: every call on files, bytes included.

Owns the command line of strace and the format of its log. Judges nothing.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import require

# Everything by which a process could change a file, or ask for it to be on the disk.
CHANGES = (
    "write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "sync_file_range,rename,renameat,renameat2,link,linkat,unlink,unlinkat,open,openat,creat"
)
# Longer than any write of a database page.
BYTES_SHOWN = 1 << 17

LINE = re.compile(r"^(\d+)\.(\d{9}) (\w+)\((.*)$", re.DOTALL)
ENDING = re.compile(r"\)\s+= (-?\d+|\?)(.*)$", re.DOTALL)
SPENT = re.compile(r"<(\d+)\.(\d{9})>\s*$")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
DESCRIPTOR = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})+)>(\(deleted\))?")


@dataclass(frozen=True)
class Call:
    """One system call. Times are nanoseconds of the wall clock, taken by the tracer while the
    traced thread stands still: nothing the thread does next can be earlier than `end`."""

    thread: int
    start: int
    end: int
    name: str
    arguments: str
    # None when the process was killed inside the call.
    result: int | None
    injected: bool

    @property
    def texts(self):
        """The strings among the arguments, as bytes."""
        found = TEXT.findall(self.arguments)
        require(not any(cut for _, cut in found), f"strace cut a string of {self.name}")
        return [unhex(text) for text, _ in found]

    @property
    def file(self):
        """The path behind the first descriptor; None when there is none or it is deleted."""
        found = DESCRIPTOR.match(self.arguments)
        return unhex(found.group(2)).decode() if found and not found.group(3) else None

    @property
    def opened(self):
        """The path behind a descriptor that the call returned."""
        return self.texts[0].decode()

    @property
    def numbers(self):
        """The plain numbers after the last string: length, offset and the like."""
        tail = self.arguments.rsplit('"', 1)[-1].rsplit(">", 1)[-1]
        return [int(part) for part in re.findall(r"(?<![\w.])-?\d+(?!\w)", tail)]


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


def require_strace():
    require(shutil.which("strace"), "strace is missing: apt-get install strace")


def strace(log, calls=CHANGES, inject=None, pid=None):
    """The command line that traces a program and all it starts, one log file a thread.

    With `pid` it attaches to a running process instead.
    """
    where = ["-p", str(pid)] if pid else ["--seccomp-bpf"]
    return [
        *("strace", "-f", "-ff", "-qq", "-y", "-xx", "-s", BYTES_SHOWN, "-o", log),
        *("--absolute-timestamps=format:unix,precision:ns", "--syscall-times=ns"),
        *("-e", f"trace={calls}", "-e", "signal=none"),
        *(("-e", f"inject={inject}") if inject else ()),
        *where,
    ]


def read_trace(log):
    """Every call of every thread that `strace(log)` saw, in the order of their beginnings."""
    calls = []
    for path in Path(log).parent.glob(f"{Path(log).name}.*"):
        thread = int(path.suffix[1:])
        with open(path, encoding="ascii") as lines:
            calls += filter(None, (parse(thread, line) for line in lines))
    calls.sort(key=lambda call: call.start)
    return calls


def parse(thread, line):
    found = LINE.match(line.rstrip("\n"))
    if found is None:
        return None
    seconds, nanos, name, rest = found.groups()
    start = int(seconds) * 1_000_000_000 + int(nanos)
    ending = ENDING.search(rest)
    if ending is None or ending.group(1) == "?":
        return Call(thread, start, 1 << 63, name, rest, None, False)
    spent = SPENT.search(ending.group(2))
    end = start + int(spent.group(1)) * 1_000_000_000 + int(spent.group(2))
    arguments = rest[: ending.start()]
    return Call(thread, start, end, name, arguments, int(ending.group(1)), "(INJECTED)" in rest)
