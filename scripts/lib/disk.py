"""What a disk may hold after the power went: the recorded calls on the ledger, kept or lost.

The model is stricter than any file system in use. Only an fsync that returned makes what was
written to that file before it durable, and only an fsync of a folder makes its names so. Every
other write is kept, lost, or kept in some of its 512-byte sectors, whatever came before or after
it; file lengths likewise. Names change in the order in which they were changed.
"""

import os
from bisect import bisect_left
from dataclasses import dataclass

from harness import Failure, require

SECTOR = 512
FILES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-journal")
# Rebuilt from the log after every crash, and never read before that.
VOLATILE = "ledger.sqlite-shm"
MODES = ("lost", "kept", "prefix", "mixed", "mixed")


class Interrupted(Exception):
    """The kill hit a call that changes a file: nobody knows whether it had its effect."""


@dataclass(frozen=True)
class Action:
    """One step towards the disk; `at` is when it can have an effect."""

    at: int
    kind: str
    # The moment a sync began: what was written before it is what it makes durable.
    since: int = 0
    file: int = -1
    name: str = ""
    offset: int = 0
    data: bytes = b""


class Recorder:
    """Turns the calls of a traced program into actions on the ledger's files."""

    def __init__(self, checkpoints):
        self.root = os.fspath(checkpoints)
        self.names = {}
        self.files = 0
        self.actions = []

    def read(self, calls):
        for call in calls:
            if call.result is None or call.result >= 0:
                step = getattr(self, f"on_{call.name}", None)
                if step is not None:
                    step(call)
                elif self.ours(call.file):
                    raise Failure(f"{call.name} on {call.file} is not modelled")
        self.actions.sort(key=lambda action: action.at)
        return self.actions

    def ours(self, path):
        """The name of a ledger file in any folder of the checkpoints, or None."""
        if path is None:
            return None
        folder, name = os.path.split(path)
        return name if os.path.dirname(folder) == self.root and name in FILES else None

    def add(self, call, kind, **what):
        if call.result is None:
            raise Interrupted(call.name)
        self.actions.append(Action(call.start, kind, **what))

    def on_openat(self, call):
        name = self.ours(call.opened)
        if name and "O_CREAT" in call.arguments and name not in self.names:
            self.names[name] = self.files
            self.add(call, "create", name=name, file=self.files)
            self.files += 1

    on_open = on_creat = on_openat

    def on_write(self, call):
        require(not self.ours(call.file), f"a plain write to {call.file} is not modelled")

    def on_pwrite64(self, call):
        if name := self.ours(call.file):
            if call.result is None:
                # What strace wrote down of it may be cut short, too.
                raise Interrupted(call.name)
            data, (_, offset) = call.texts[-1], call.numbers
            require(call.result == len(data), f"a short write to {name}")
            self.add(call, "write", file=self.names[name], offset=offset, data=data)

    def on_ftruncate(self, call):
        if name := self.ours(call.file):
            self.add(call, "cut", file=self.names[name], offset=call.numbers[-1])

    def on_unlink(self, call):
        if (name := self.ours(call.texts[-1].decode())) and call.result == 0:
            self.add(call, "unlink", name=name, file=self.names.pop(name))

    on_unlinkat = on_unlink

    def on_renameat2(self, call):
        source, target = (text.decode() for text in call.texts)
        require(not self.ours(source) and not self.ours(target), "a ledger file was renamed")
        if os.path.dirname(target) == self.root and not os.path.basename(target).startswith("."):
            self.add(call, "publish")

    on_rename = on_renameat = on_renameat2

    def on_fsync(self, call):
        if call.result != 0:
            return
        path = call.file
        if name := self.ours(path):
            self.sync(call, "sync", file=self.names[name])
        elif path == self.root:
            self.sync(call, "sync-root")
        elif path is not None and os.path.dirname(path) == self.root:
            self.sync(call, "sync-folder")

    on_fdatasync = on_fsync

    def sync(self, call, kind, **what):
        self.actions.append(Action(call.end, kind, since=call.start, **what))


class Disk:
    """The disk at one moment; `advance` moves it on, `image` says what a power loss leaves."""

    def __init__(self, actions):
        self.actions = actions
        self.next = 0
        # By file: what is on the disk for certain, and what is on its way.
        self.durable = {}
        self.pending = []
        self.names = {}
        self.pending_names = []
        self.published = False
        self.pending_publish = False

    def advance(self, at):
        while self.next < len(self.actions) and self.actions[self.next].at <= at:
            self.apply(self.actions[self.next])
            self.next += 1

    def apply(self, action):
        if action.kind in ("write", "cut"):
            self.pending.append(action)
        elif action.kind in ("create", "unlink"):
            if action.kind == "create":
                self.durable[action.file] = bytearray()
            self.pending_names.append(action)
        elif action.kind == "publish":
            self.pending_publish = True
        elif action.kind == "sync":
            done = [one for one in self.pending if one.file == action.file and one.at < action.since]
            for one in done:
                put(self.durable[one.file], one)
            settled = set(map(id, done))
            self.pending = [one for one in self.pending if id(one) not in settled]
        elif action.kind == "sync-folder":
            count = bisect_left(self.pending_names, action.since, key=lambda one: one.at)
            for one in self.pending_names[:count]:
                rename(self.names, one)
            del self.pending_names[:count]
        elif action.kind == "sync-root":
            self.published |= self.pending_publish

    def image(self, mode, rng):
        """The files of the job after a power loss now; None when there is no job yet."""
        lucky = mode == "kept" or (mode != "lost" and rng.random() < 0.5)
        if not self.published and not (self.pending_publish and lucky):
            return None
        names = dict(self.names)
        kept = {"lost": 0, "kept": len(self.pending_names)}
        for one in self.pending_names[: kept.get(mode, rng.randint(0, len(self.pending_names)))]:
            rename(names, one)
        files = {name: bytearray(self.durable[file]) for name, file in names.items()}
        by_file = {file: files[name] for name, file in names.items()}
        for one, how in zip(self.pending, fates(mode, len(self.pending), rng)):
            if one.file in by_file and how != "lost":
                put(by_file[one.file], one, rng if how == "torn" else None)
        return files


def fates(mode, count, rng):
    """What becomes of each of `count` writes on their way."""
    if mode in ("lost", "kept"):
        return [mode] * count
    if mode == "prefix":
        whole = rng.randint(0, count)
        return (["kept"] * whole + ["torn"] + ["lost"] * count)[:count]
    return rng.choices(("lost", "kept", "torn"), k=count)


def put(content, action, torn=None):
    """Carries out a write or a new length; of a torn write, some sectors only."""
    if action.kind == "cut":
        size = action.offset
        del content[size:]
        content.extend(bytes(size - len(content)))
        return
    start, end = action.offset, action.offset + len(action.data)
    at = start
    while at < end:
        stop = end if torn is None else min(end, (at // SECTOR + 1) * SECTOR)
        if torn is None or torn.random() < 0.5:
            content.extend(bytes(max(0, at - len(content))))
            content[at:stop] = action.data[at - start : stop - start]
        at = stop


def rename(names, action):
    if action.kind == "create":
        names[action.name] = action.file
    else:
        names.pop(action.name, None)
