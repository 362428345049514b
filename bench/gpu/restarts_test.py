"""Tests of restarts.py: python3 bench/gpu/restarts_test.py. The same file is the script that is begun again: its call b ends it as is asked for."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import measure
import restarts

HERE = pathlib.Path(__file__).resolve()


def victim(arguments):
    parser = argparse.ArgumentParser()
    for name in ("--how", "--json"):
        parser.add_argument(name)
    parser.add_argument("--budget", type=float, default=0)
    restarts.options(parser)
    given = parser.parse_args(arguments)
    if not given.at:
        return restarts.begin_with(given, HERE, ["victim", *arguments])
    lost = []

    def settle():
        if lost:
            raise RuntimeError("an illegal address was met")

    group = measure.Group("group", "", settle, restarts.Watch(given.at, patience=0.01), restarts.left_out(given.without).get("group"))
    calls = {"b": {"lost": lambda: lost.append(True), "lost in a round": lambda: count.append(0) or len(count) < 3 or lost.append(True) or settle(),
                   "killed": lambda: os.kill(os.getpid(), signal.SIGKILL), "hangs": lambda: time.sleep(60),
                   "raises": lambda: 1 // 0}.get(given.how, lambda: None)}
    count = []
    try:
        for name in "abc":
            group.attempt(name, lambda name=name: measure.Subject(name, calls.get(name, lambda: None)))
        measure.measure(group, 2, measure.HostClock(), keep=lambda group: None)
    except Exception as problem:
        restarts.end_if_lost(problem, settle, group.watch)
        raise
    measure.write_json(given.json, {}, given.command, [group])
    return 0


class Restarts(unittest.TestCase):
    def met(self, how):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "results.json")
            done = subprocess.run([sys.executable, str(HERE), "victim", "--how", how, "--json", str(path)], capture_output=True, text=True, timeout=60)
            group = json.loads(path.read_text())["groups"][0]
            return done, {call["name"] for call in group["calls"]}, group["refused"]

    def test_nothing_happens(self):
        done, measured, refused = self.met("nothing")
        self.assertEqual((done.returncode, measured, refused), (0, {"a", "b", "c"}, {}), done.stderr)

    def test_a_refusal_ends_nothing(self):
        done, measured, refused = self.met("raises")
        self.assertEqual((done.returncode, measured), (0, {"a", "c"}), done.stderr)
        self.assertIn("ZeroDivisionError", refused["b"])

    def test_what_ends_the_device_or_the_process_is_left_out_the_next_time(self):
        for how, words in (("lost", "an illegal address was met"), ("lost in a round", "an illegal address was met"), ("killed", "the process ended"),
                           ("hangs", "it never came back")):
            with self.subTest(how):
                done, measured, refused = self.met(how)
                self.assertEqual((done.returncode, measured), (1, {"a", "c"}), done.stderr)
                self.assertIn("left out: ", refused["b"])
                self.assertIn(words, refused["b"])
                self.assertIn("group: b: ", done.stdout)

    def test_a_kernel_that_ended_a_process_is_not_run_again_nor_a_third_of_its_file(self):
        word = lambda kernel: json.dumps(["group", "ours", "the process ended", kernel])
        one, two = restarts.Fatal([word("cuda.new.d64"), word("")]), restarts.Fatal([word("cuda.new.d64"), word("cuda.new.d128")])
        with self.assertRaisesRegex(RuntimeError, "cuda.new.d64 is left out"):
            one.forbid("cuda.new.d64")
        one.forbid("cuda.new.d128")
        with self.assertRaisesRegex(RuntimeError, "cuda.new.d128, cuda.new.d64 ended an earlier process"):
            two.forbid("cuda.new.d256")
        two.forbid("cuda.old.d64")

    def test_a_script_that_does_not_begin_is_not_begun_again(self):
        with tempfile.TemporaryDirectory() as folder:
            script = pathlib.Path(folder, "script.py")
            script.write_text("import os; os.abort()")
            self.assertEqual(restarts.outlive(script, [], pathlib.Path(folder, "at")), 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["victim"]:
        sys.exit(victim(sys.argv[2:]))
    unittest.main()
