"""A measurement in a process of its own, begun again without the call that ended it. A kernel that reads where nothing is ends the device's context, and one
that waits for ever never comes back: neither may cost the numbers of all the others."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

LOST = 70  # the exit status of a process whose device answers no more


class DeviceLost(Exception):
    """The device answers no call of this process any more."""


def still_there(settle, why):
    """Raises DeviceLost if the device, settled after a failure, fails once more."""
    try:
        settle()
    except Exception:
        raise DeviceLost(why) from None


def end_if_lost(problem, settle, watch):
    """Ends the process if the device is lost with the problem."""
    try:
        if isinstance(problem, DeviceLost):
            raise problem
        still_there(settle, " ".join(f"{type(problem).__name__}: {problem}".split())[:300])
    except DeviceLost as lost:
        watch.lost(str(lost))


class Watch:
    """Knows what is running, writes it to `path`, and ends the process when it takes longer than it may. Without a path it does nothing."""

    def __init__(self, path=None, patience=1):
        self.path, self.patience, self.until, self.at, self.kernel = path, patience, None, None, ""
        if path:
            threading.Thread(target=self._watch, daemon=True).start()

    def begins(self, group, subject, seconds, kernel=""):
        """`subject` of `group`, "" for all of it, has begun and has `seconds`."""
        if self.path:
            self.at, self.kernel = (group, subject), kernel
            self.within(seconds)
            self.tell("the process ended")

    def runs(self, kernel):
        """What has begun will run this kernel of ours."""
        if self.path:
            self.kernel = kernel
            self.tell("the process ended")

    def within(self, seconds):
        """What has begun has so long from now."""
        if self.path:
            self.until = time.monotonic() + seconds * self.patience

    def over(self):
        self.until = None

    def tell(self, how):
        pathlib.Path(self.path).write_text(json.dumps([*self.at, how, self.kernel]))

    def _watch(self):
        while True:
            time.sleep(0.5)
            until = self.until
            if until is not None and time.monotonic() > until:
                self.tell("it never came back")
                os._exit(LOST)

    def lost(self, why):
        """Ends the process: an interpreter that tidies up would ask the device."""
        if self.path and self.at:
            self.tell(why)
        sys.stdout.flush()
        os._exit(LOST)


def left_out(words):
    """{group: {subject: why}} of what --without was given."""
    out = {}
    for word in words or []:
        group, subject, why, _ = json.loads(word)
        out.setdefault(group, {})[subject] = f"left out: {why}"
    return out


class Fatal:
    """The kernels of ours that ended an earlier process."""

    def __init__(self, words):
        self.kernels = {json.loads(word)[3] for word in words or []} - {""}

    def forbid(self, kernel):
        """Raises if it was one of them, or if two others of its file were."""
        like = [k for k in self.kernels if k == kernel or k.split(".")[:2] == kernel.split(".")[:2]]
        if kernel in like or len(like) > 1:
            raise RuntimeError(f"{kernel} is left out: {', '.join(sorted(like))} ended an earlier process")


def options(parser):
    """What a process is begun with by outlive()."""
    parser.add_argument("--at", help="where to write what is running (a process begun by another)")
    parser.add_argument("--without", action="append", help="what ended an earlier process")
    parser.add_argument("--command", help="what was asked of the first one")


def begin_with(given, script, arguments):
    """The status of the script in processes of their own; its results are what one leaves to the next."""
    with tempfile.TemporaryDirectory() as folder:
        if given.json:
            pathlib.Path(given.json).unlink(missing_ok=True)
        kept = [] if given.json else ["--json", f"{folder}/results.json"]
        asked = " ".join([f"bench/gpu/{script.name}", *arguments])
        return outlive(script, [*arguments, *kept, "--command", asked], pathlib.Path(folder, "at"), given.budget)


def outlive(script, arguments, at, budget=0, tries=12):
    """Runs the script until a process of it ends by itself. Returns its exit status; 1 if something was left out."""
    begun, without = time.monotonic(), []
    for _ in range(tries):
        at.unlink(missing_ok=True)
        left = ["--budget", f"{max(1, budget - (time.monotonic() - begun)):.0f}"] if budget else []
        status = subprocess.run([sys.executable, str(script), *arguments, *left, "--at", str(at), *without]).returncode
        if 0 <= status <= 3:
            return status or int(bool(without))
        try:
            group, subject, how, kernel = json.loads(at.read_text())
        except (OSError, ValueError):
            print(f"{script.name} ended with {status} before its first call", flush=True)
            return 1
        print(f"\n{group}: {subject or 'making its operands'}: {how} (exit {status}); again, without it", flush=True)
        without += ["--without", json.dumps([group, subject, how, kernel])]
    return 1
