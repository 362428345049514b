"""Tests of measure.py's statistics and rules: python3 bench/gpu/measure_test.py"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import warnings

import measure
import restarts


def group_of(**rounds):
    group = measure.Group("name", "description")
    for name, values in rounds.items():
        subject = measure.Subject(name, lambda: None)
        subject.rounds = values
        group.subjects.append(subject)
    return group


def verdict(*groups, wanted=("name",)):
    return measure.Verdict(measure.as_written(groups), wanted)


class Statistics(unittest.TestCase):
    def test_quartiles(self):
        self.assertEqual(measure.quartiles([4, 1, 3, 2, 5]), (2, 3, 4))
        self.assertEqual(measure.quartiles([2, 1]), (1.25, 1.5, 1.75))
        self.assertEqual(measure.quartiles([7]), (7, 7, 7))

    def test_a_ratio_is_the_median_of_the_rounds_ratios(self):
        group = group_of(ours=[1, 2, 30], theirs=[2, 2, 3])
        self.assertEqual(measure.faster("row", "ours", "theirs").values(group), [2, 1, 0.1])
        self.assertEqual(measure.ratio("row", "ours", "theirs", factor=0.5).values(group), [1, 2, 20])

    def test_a_row_with_a_limit_whose_subject_was_not_measured_is_a_miss(self):
        group = group_of(ours=[1, 2])
        group.lines += [measure.faster("row", "ours", "theirs", limit=1), measure.faster("only a look", "ours", "theirs")]
        self.assertEqual(str(verdict(group)), "0 of 1 targets reached; not measured: name: row")
        self.assertIn("| row | not measured |", measure.table(group))
        self.assertEqual(measure.as_json(group)["rows"], [])

    def test_what_a_peer_refuses_is_not_held_against_it_and_what_was_not_tried_is_not_measured(self):
        group = group_of(ours=[1, 2])
        group.attempt("refusing", lambda: 1 // 0)
        group.leave_out("untried", "no time is left to compile it")
        for name in ("refusing", "untried"):
            group.hold_against(f"beside {name}", "ours", name, 1.0)
        self.assertEqual(str(verdict(group)), "0 of 1 targets reached; not measured: name: beside untried")

    def test_the_verdict_counts_what_is_not_there(self):
        group, gone = group_of(ours=[1, 1], theirs=[2, 2]), measure.Group("gone", "")
        group.lines += [measure.faster("fast", "ours", "theirs", 2), measure.faster("faster", "ours", "theirs", 3), measure.faster("a look", "ours", "theirs")]
        group.facts["first use"] = (4.0, "ms", 5)
        gone.gone = "skipped: no time"
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "timing.json")
            measure.write_json(path, {}, "command", [group, gone], ["name", "gone", "never begun"])
            done = subprocess.run([sys.executable, measure.__file__, str(path)], capture_output=True, text=True)
        self.assertEqual(done.stdout, "2 of 5 targets reached; SHORT: name: faster; not measured: gone (all of it), never begun (all of it)\n", done.stderr)
        self.assertEqual([verdict(gone, wanted=wanted).misses() for wanted in ((), ("gone",))], [0, 1])
        self.assertIn("- skipped: no time", measure.table(gone))

    def test_misses(self):
        group = group_of(ours=[1, 1, 1], theirs=[2, 2, 2])
        for line, missed in ((measure.faster("", "ours", "theirs", limit=2), 0), (measure.faster("", "ours", "theirs", limit=2.1), 1),
                             (measure.ratio("", "ours", "theirs", limit=0.5), 0), (measure.ratio("", "ours", "theirs", limit=0.4), 1)):
            group.lines = [line]
            self.assertEqual(verdict(group).misses(), missed, line.of)
            self.assertEqual("SHORT" in measure.table(group), bool(missed))
        group.lines, group.facts = [], {"first use": (6.0, "ms", 5), "other": (float("nan"), "ms", 5), "fine": (4.0, "ms", 5)}
        self.assertEqual(verdict(group).misses(), 2)


class Rounds(unittest.TestCase):
    def test_turns_go_forwards_and_backwards_and_outputs_are_judged_twice(self):
        group, order, judged = measure.Group("name", ""), [], []
        for name in "abc":
            group.subjects.append(measure.Subject(name, lambda name=name: order.append(name), check=lambda name=name: judged.append(name)))
        measure.measure(group, 3, measure.HostClock())
        self.assertEqual("".join(order), "abcabc" + "abc" + "cba" + "abc")
        self.assertEqual("".join(judged), "abcabc")
        self.assertEqual([len(s.rounds) for s in group.subjects], [3, 3, 3])

    def test_a_run_without_its_mask_pass_ends_the_measurement(self):
        for passes in (0, 2):
            group, count = measure.Group("name", ""), [0]

            def call():
                count[0] += passes

            group.subjects.append(measure.Subject("masked", call, counted=lambda: count[0]))
            with self.assertRaisesRegex(measure.WrongOutput, f"masked made {passes} mask passes in one run; 1 is right"):
                measure.measure(group, 1, measure.HostClock())

    def test_wrong_output_is_told_and_counted(self):
        group = measure.Group("name", "")
        group.subjects.append(measure.Subject("ours", lambda: None, check=lambda: "O[0] is off"))
        measure.measure(group, 1, measure.HostClock())
        self.assertEqual(verdict(group).misses(), 2)
        self.assertIn("WRONG OUTPUT, ours, after the last round: O[0] is off", measure.table(group))

    def test_what_raises_is_a_refusal(self):
        group = measure.Group("name", "")

        def make():
            raise RuntimeError("No available kernel.\n Aborting")

        self.assertIsNone(group.attempt("cuDNN", make))
        self.assertEqual(group.refused, {"cuDNN": "RuntimeError: No available kernel. Aborting"})

    def test_a_refusal_says_what_was_warned_of_before_it(self):
        group = measure.Group("name", "")

        def make():
            for text in ("Flash attention kernel not used because: (Triggered internally at a.cpp:1)", "Flash attention has been runtime disabled.",
                         "head_dim should be no more than\n 128 (Triggered internally at b.cpp:2)", "head_dim should be no more than 128"):
                warnings.warn(text)
            raise RuntimeError("No available kernel.")

        group.attempt("cuDNN", make)
        self.assertEqual(group.refused, {"cuDNN": "RuntimeError: No available kernel. | head_dim should be no more than 128"})

    def test_what_is_left_out_is_not_tried(self):
        group = measure.Group("name", "", left_out={"ours": "left out: it never came back"})
        self.assertIsNone(group.attempt("ours", lambda: self.fail("tried")))
        self.assertEqual(group.refused, {"ours": "left out: it never came back"})

    def test_a_device_that_answers_no_more_is_no_refusal(self):
        def settle():
            raise RuntimeError("an illegal address was met")

        with self.assertRaisesRegex(restarts.DeviceLost, "an illegal address was met"):
            measure.Group("name", "", settle).attempt("ours", lambda: measure.Subject("ours", lambda: None))

    def test_a_peer_s_wrong_output_is_told_and_no_miss(self):
        group = measure.Group("name", "")
        group.subjects.append(measure.Subject("theirs", lambda: None, check=lambda: "O[0] is off", peer=True))
        measure.measure(group, 1, measure.HostClock())
        self.assertEqual((verdict(group).misses(), group.wrong), (0, []))
        self.assertIn("a peer's output is wrong, theirs, after the last round: O[0] is off", measure.table(group))

    def test_what_there_is_so_far_is_kept(self):
        group, kept = measure.Group("name", ""), []
        group.subjects.append(measure.Subject("ours", lambda: None))
        measure.measure(group, 12, measure.HostClock(), keep=lambda group: kept.append(len(group.subjects[0].rounds)))
        self.assertEqual(kept, [0, 5, 10])

    def test_time_that_is_up_leaves_whole_rounds(self):
        group, left = measure.Group("name", ""), [2]
        group.subjects.append(measure.Subject("ours", lambda: None))

        def up():
            left[0] -= 1
            return left[0] < 0

        measure.measure(group, 15, measure.HostClock(), up)
        self.assertEqual(len(group.subjects[0].rounds), 2)
        self.assertEqual(group.notes, ["2 rounds of 15: the time was up"])


class Files(unittest.TestCase):
    def test_json_is_whole(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "timing.json")
            group = group_of(ours=[1.0, 2.0], theirs=[2.0, 2.0])
            group.lines.append(measure.faster("row", "ours", "theirs", 1.0, 2.0))
            measure.write_json(path, {"GPU": "none"}, "command", [group])
            read = json.loads(path.read_text())
            self.assertEqual(read["groups"][0]["rows"][0]["rounds"], [2.0, 1.0])
            self.assertEqual(read["groups"][0]["calls"][0]["milliseconds"], [1.0, 2.0])
            self.assertEqual([p.name for p in pathlib.Path(folder).iterdir()], ["timing.json"])


if __name__ == "__main__":
    unittest.main()
