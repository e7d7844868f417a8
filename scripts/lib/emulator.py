"""Installs, starts and reads the WorkOS emulator: a server that nobody here wrote.

It comes from the npm package `workos`, pinned, installed under `target/emulator`, never into the tree.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

from harness import ROOT, require, wait_until

VERSION = "0.14.0"
FOLDER = ROOT / "target" / "emulator"
ENTRY = FOLDER / "node_modules" / "workos" / "dist" / "bin.js"
KEY = "sk_test_default"
# What the package asks for; an older node gets a newer one from npm, beside the package.
NODE = (20, 20)


def install():
    """Installs the pinned version once; returns the node that runs it."""
    node = shutil.which("node")
    require(node and shutil.which("npm"), "node and npm are needed: see .ci/run")
    packages = [f"workos@{VERSION}"]
    if version_of(node) < NODE:
        packages.append("node@22")
        node = str(FOLDER / "node_modules" / "node" / "bin" / "node")
    manifest = FOLDER / "node_modules" / "workos" / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text())["version"] != VERSION:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "package.json").write_text('{"private": true}\n')
        npm = ["npm", "install", "--save-exact", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([*npm, *packages], cwd=FOLDER, check=True, timeout=300)
    return node


def version_of(node):
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in text.strip().lstrip("v").split(".")[:2])


class Emulator:
    """A running emulator; its state lives in its memory."""

    def __init__(self, work):
        node = install()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.waited = 0.0
        env = {"PATH": os.environ["PATH"], "HOME": str(work.path), "WORKOS_TELEMETRY": "false"}
        with open(work.file("emulator.out"), "wb") as out:
            self.process = subprocess.Popen(
                [node, str(ENTRY), "emulate", "--port", str(self.port), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=work.path,
                env=env,
            )
        work.closers.append(self.stop)
        wait_until(self.healthy, 30, "the emulator answers")

    def healthy(self):
        require(self.process.poll() is None, "the emulator ended")
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def get(self, path):
        """One page of its public API; waits when it throttles."""
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"Bearer {KEY}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as problem:
                if problem.code != 429:
                    raise
                pause = float(problem.headers["Retry-After"])
                self.waited += pause
                time.sleep(pause)

    def everything(self, path):
        """Every entity of a list, oldest first."""
        found, after = [], None
        while True:
            page = self.get(f"{path}?limit=100&order=asc" + (f"&after={after}" if after else ""))
            found += page["data"]
            after = page["list_metadata"]["after"]
            if after is None:
                return found

    def dump(self):
        """All it holds, in the shape of the sandbox's dump."""
        return {
            "users": self.everything("/user_management/users"),
            "organizations": self.everything("/organizations"),
            "memberships": self.everything("/user_management/organization_memberships"),
        }


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
