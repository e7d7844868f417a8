"""The limit shared by all workers: fully used, never exceeded, and one pause for all."""

import threading
import time

import checker
from harness import Failure, Workspace, require
from history import read_history
from jobs import judged, settle


# A machine that stood still for so long proves nothing about windows: what was sent in time was
# received late, together with what followed.
STOOD_STILL_S = 0.05


class Watch:
    """Looks for how long the machine stood still while the `with` block ran."""

    STEP_S = 0.005

    def __enter__(self):
        self.longest = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def look(self):
        before = time.monotonic()
        while not self.over.wait(self.STEP_S):
            now = time.monotonic()
            self.longest = max(self.longest, now - before - self.STEP_S)
            before = now


def rate_kept(_work, _seed):
    """500 writes per 10 s against a sandbox that enforces just that: no 429, 97 % used."""
    for is_last in (False, False, True):
        with Watch() as watch, Workspace("rate-kept") as work:
            path = work.generate(rows=1500, seed=21)
            server = work.sandbox("--rate", "500/10s", "--latency", "20ms~50%")
            summary = settle(work, server, path, "--workers", 4, "--rate", "500/10s")
            judged(work, path, server.dump())
            try:
                return pace_of(summary, read_history(server))
            except Failure as problem:
                if is_last or watch.longest < STOOD_STILL_S:
                    raise
                still = f"the machine stood still for {watch.longest * 1000:.0f} ms"
                print(f"     rate-kept       once more, {still}: {problem}", flush=True)


def pace_of(summary, requests):
    """What was used of the limit; fails when that is too little, or more than the limit."""
    windows = [(500, 10.0, lambda one: one.limited_write)]
    traffic = checker.judge_traffic(requests, windows)
    require(traffic.clean, traffic.words())
    require(traffic.facts["throttled"] == 0, f"{traffic.facts['throttled']} answers were 429")
    require(summary["requests"]["throttled"] == 0, "the summary counts throttled requests")
    writes = [one.received for one in requests if one.limited_write]
    span = max(writes) - min(writes)
    used = summary["rate"]["used"]
    require(used >= 0.97, f"rate.used is {used:.4f} over {span:.1f} s")
    seen = len(writes) / (50.0 * span)
    require(abs(seen - used) < 0.02, f"rate.used says {used:.4f}, the target saw {seen:.4f}")
    most = traffic.facts["largest 10 s window"]
    return f"{len(writes)} writes in {span:.1f} s, used {used:.4f}, most in 10 s {most} of 500, 429s 0"


def rate_halved(work, _seed):
    """A target with half the limit: everyone arrives, and a pause is a pause for all workers."""
    path = work.generate(rows=800, seed=22)
    server = work.sandbox("--rate", "250/10s", "--latency", "20ms~50%")
    summary = settle(work, server, path, "--workers", 4, "--rate", "500/10s")
    verdict = judged(work, path, server.dump())
    require(verdict.facts["states"] == {"created": 800}, f"{dict(verdict.facts['states'])}")
    traffic = checker.judge_traffic(read_history(server))
    require(traffic.clean, traffic.words())
    require(traffic.facts["pauses"] > 0, "the target never asked for a pause")
    asked = summary["requests"]
    return (
        f"800 created, {traffic.facts['throttled']} answers of 429, requests inside a pause 0, "
        f"{asked['throttled']} throttled in the summary"
    )


CHECKS = {"rate-kept": rate_kept, "rate-halved": rate_halved}
