"""Subjects that take turns, what their rounds say, and the tables made from it. The statistics need no package.

    python3 bench/gpu/measure.py timing.json    # the verdict over what was written so far"""

import json
import math
import os
import pathlib
import sys
import time
import warnings

import restarts


class WrongOutput(Exception):
    """An output that the reference does not bear out, or a run that did not do its work once."""


class Subject:
    """Something that is timed: `call` puts it on the stream; `before` runs outside the timed span; `check` says what is wrong with its output, or None."""

    def __init__(self, name, call, before=None, check=None, kernel="", counted=None, peer=False):
        self.name, self.call, self.kernel, self.check, self.peer = name, call, kernel, check, peer
        self.before = before or (lambda: None)
        self.counted = counted  # a counter that a call must raise by one, where a mask is given unprepared
        self.rounds, self.host = [], []  # milliseconds of the device, of the host


class Line:
    """A row of the table: `value` makes a number of the milliseconds of one round, {subject: ms}; `of` says how in words."""

    def __init__(self, row, unit, of, value, better="lower", limit=None, aim=None):
        self.row, self.unit, self.of, self.value, self.better, self.limit, self.aim = row, unit, of, value, better, limit, aim

    def values(self, group):
        rounds = {s.name: s.rounds for s in group.subjects if s.rounds}
        count = min((len(r) for r in rounds.values()), default=0)
        try:
            return [self.value({name: r[i] for name, r in rounds.items()}) for i in range(count)]
        except (KeyError, ValueError, ZeroDivisionError):  # a subject that was refused, or all of several
            return []

    def met(self, median, limit):
        return limit is None or (median <= limit if self.better == "lower" else median >= limit)


def faster(row, ours, theirs, limit=None, aim=None):
    """How many times as fast as a peer."""
    return Line(row, f"x the speed of {theirs}", f"{theirs} / {ours}", lambda t: t[theirs] / t[ours], "higher", limit, aim)


def ratio(row, top, bottom, limit=None, aim=None, factor=1.0):
    """One time over another's."""
    note = "" if factor == 1.0 else f" x {factor:.4f}"
    return Line(row, f"x {bottom}{note}", f"{top} / ({bottom}{note})", lambda t: t[top] / (t[bottom] * factor), "lower", limit, aim)


class Group:
    """What is measured together: its subjects, lines, facts {name: (value, unit, limit)}, what was refused and why, and what was wrong, of ours and of a
    peer's. `watch` knows what is running; `left_out` {subject: why} is not tried. `gone`: why there is nothing of it."""

    def __init__(self, name, description, settle=lambda: None, watch=None, left_out=None):
        self.name, self.description, self.settle = name, description, settle
        self.watch, self.left_out = watch or restarts.Watch(), left_out or {}
        self.subjects, self.lines, self.facts, self.refused, self.wrong, self.peers_wrong, self.notes = [], [], {}, {}, [], [], []
        self.untried, self.gone = set(), ""

    def attempt(self, name, make):
        """Adds the subject that make() returns; what it raises is a refusal, told in the table. A device that answers no more is none."""
        if name in self.left_out:
            return self.leave_out(name, self.left_out[name])
        self.watch.begins(self.name, name, 75)  # a kernel is compiled, or a mask of flex_attention
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                subject = make()
                subject.call()
                self.settle()  # what a device finds wrong, it tells later
                self.subjects.append(subject)
                return subject
            except Exception as problem:
                self.refused[name] = refusal(problem, [str(warning.message) for warning in told])
        restarts.still_there(self.settle, self.refused[name])
        return None

    def leave_out(self, name, why):
        """Of what is not tried nobody knows whether it would have refused: what is held against it counts as not measured."""
        self.refused[name] = why
        self.untried.add(name)

    def hold_against(self, row, ours, theirs, limit=None, aim=None):
        """How many times as fast as a peer, unless that has refused the problem."""
        if theirs not in self.refused or theirs in self.untried:
            self.lines.append(faster(row, ours, theirs, limit, aim))


def refusal(problem, warned):
    """One line of an exception, with the reasons that PyTorch gives as warnings; that a backend which was not asked for is disabled is none."""
    reasons = [" ".join(text.partition("(Triggered internally")[0].split()) for text in warned]
    reasons = [text for text in dict.fromkeys(reasons) if "SDP" not in text and "because" not in text and "disabled" not in text]
    return " | ".join([" ".join(f"{type(problem).__name__}: {problem}".split())[:300], *reasons])[:600]


def quartiles(values):
    """Lower quartile, median, upper quartile, by linear interpolation."""
    ordered = sorted(values)

    def at(share):
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return at(0.25), at(0.5), at(0.75)


class CudaClock:
    """Times a call by CUDA events, with nothing of the call's operands left in L2 and the host ahead of the device, so that no launch is waited for."""

    warm = 0.5  # seconds of turns before the first round: an idle GPU's clocks are low

    def __init__(self, torch, flush_bytes):
        self.torch = torch
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed = torch.zeros(flush_bytes // 4, dtype=torch.float32, device="cuda")

    def __call__(self, call):
        self.flushed.sum()  # read, not written: nothing is left to write back while the call runs
        self.torch.cuda._sleep(400_000)  # some 200 us in which the host gets ahead
        self.start.record()
        begun = time.perf_counter()
        call()
        host = time.perf_counter() - begun
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end), host * 1e3


class HostClock:
    """The same without a GPU, to try the scripts."""

    warm = 0

    def __call__(self, call):
        begun = time.perf_counter()
        call()
        spent = (time.perf_counter() - begun) * 1e3
        return spent, spent


def measure(group, rounds, clock, out_of_time=lambda: False, keep=lambda group: None):
    """Rounds in which every subject has one turn, forwards and backwards by turns. Outputs are judged before the first and after the last. What there is so
    far goes to `keep` now and then."""
    judge(group, "before the first round")
    begun, turns = time.monotonic(), 0
    while turns < 2 or time.monotonic() - begun < clock.warm:
        for subject in group.subjects:
            group.watch.begins(group.name, subject.name, 20, subject.kernel)
            subject.before()
            clock(subject.call)
        turns += 1
    for number in range(rounds):
        if number % 5 == 0:
            keep(group)
        if out_of_time():
            group.notes.append(f"{number} rounds of {rounds}: the time was up")
            break
        for subject in group.subjects if number % 2 == 0 else reversed(group.subjects):
            group.watch.begins(group.name, subject.name, 20, subject.kernel)
            subject.before()
            count = subject.counted() if subject.counted else 0
            spent, host = clock(subject.call)
            if subject.counted and subject.counted() - count != 1:
                raise WrongOutput(f"{group.name}: {subject.name} made {subject.counted() - count} mask passes in one run; 1 is right")
            subject.rounds.append(spent)
            subject.host.append(host)
    judge(group, "after the last round")
    group.watch.over()


def let_go(group):
    """Numbers are kept; what holds a device's memory is not."""
    for subject in group.subjects:
        subject.call = subject.before = subject.check = subject.counted = None


def judge(group, when):
    for subject in group.subjects:
        group.watch.begins(group.name, subject.name, 20, subject.kernel)
        wrong = subject.check() if subject.check else None
        if wrong:
            (group.peers_wrong if subject.peer else group.wrong).append(f"{subject.name}, {when}: {wrong}")


class Verdict:
    """What the groups, as as_json makes them, reach of what they must. `wanted`: the names of the groups in which there is something to reach."""

    def __init__(self, groups, wanted):
        self.reached, self.short, self.unmeasured = [], [], []
        self.wrong = sum(len(group["wrong"]) for group in groups)
        for group in groups:
            if group["gone"] and group["name"] in wanted:
                self.unmeasured.append(f"{group['name']} (all of it)")
            for name, met in [(row["row"], row["met"]) for row in group["rows"] if "limit" in row] + \
                             [(fact["name"], fact["value"] <= fact["limit"]) for fact in group["facts"] if "limit" in fact]:
                (self.reached if met else self.short).append(f"{group['name']}: {name}")
            self.unmeasured += [f"{group['name']}: {name}" for name in group["unmeasured"]]
        there = {group["name"] for group in groups}
        self.unmeasured += [f"{name} (all of it)" for name in wanted if name not in there]

    def misses(self):
        return len(self.short) + len(self.unmeasured) + self.wrong

    def __str__(self):
        count = len(self.reached) + len(self.short) + len(self.unmeasured)
        said = [f"{len(self.reached)} of {count} targets reached"]
        said += [f"{word}: {', '.join(names)}" for word, names in (("SHORT", self.short), ("not measured", self.unmeasured)) if names]
        return "; ".join(said + ([f"WRONG OUTPUT: {self.wrong}"] if self.wrong else []))


def _wanted(line):
    if line.limit is None and line.aim is None:
        return ""
    sign = "<=" if line.better == "lower" else ">="
    return f"{sign} {line.limit:.3f}" + (f", aim {line.aim:.3f}" if line.aim is not None else "") if line.limit is not None else f"aim {sign} {line.aim:.3f}"


def table(group):
    out = [f"\n## {group.name}: {group.description}\n"]
    if group.lines:
        out.append("| row | median | quartiles | unit | wanted | |\n|---|---|---|---|---|---|")
        for line in group.lines:
            values = line.values(group)
            if not values:
                out.append(f"| {line.row} | not measured | | {line.unit} | {_wanted(line)} | |")
                continue
            low, median, high = quartiles(values)
            verdict = "" if line.limit is None else "ok" if line.met(median, line.limit) else "SHORT"
            out.append(f"| {line.row} | {median:.3f} | {low:.3f}-{high:.3f} | {line.unit} | {_wanted(line)} | {verdict} |")
        out.append("")
    if group.subjects:
        out.append("| call | median ms | quartiles | host ms | kernel | rounds |\n|---|---|---|---|---|---|")
        for s in group.subjects:
            if s.rounds:
                low, median, high = quartiles(s.rounds)
                host = f"{quartiles(s.host)[1]:.4f}" if s.host else ""
                out.append(f"| {s.name} | {median:.4f} | {low:.4f}-{high:.4f} | {host} | {s.kernel} | {len(s.rounds)} |")
        out.append("")
    for name, (value, unit, limit) in group.facts.items():
        verdict = "" if limit is None else f", wanted <= {limit:g}: {'ok' if value <= limit else 'SHORT'}"
        out.append(f"- {name}: {value:.4g} {unit}{verdict}")
    out += [f"- refused: {name}: {why}" for name, why in group.refused.items()]
    out += [f"- {note}" for note in ([group.gone] if group.gone else []) + group.notes]
    out += [f"- a peer's output is wrong, {wrong}" for wrong in group.peers_wrong]
    out += [f"- WRONG OUTPUT, {wrong}" for wrong in group.wrong]
    return "\n".join(out) + "\n"


def as_json(group):
    rows, unmeasured = [], []
    for line in group.lines:
        values = line.values(group)
        if not values:
            unmeasured += [line.row] * (line.limit is not None)
            continue
        low, median, high = quartiles(values)
        row = {"row": line.row, "unit": line.unit, "of": line.of, "median": round(median, 6), "quartiles": [round(low, 6), round(high, 6)]}
        row.update({name: value for name, value in (("limit", line.limit), ("aim", line.aim)) if value is not None})
        row.update(met=line.met(median, line.limit), rounds=[round(value, 6) for value in values])
        rows.append(row)
    calls = [{"name": s.name, "kernel": s.kernel, "milliseconds": [round(ms, 6) for ms in s.rounds], "host_milliseconds": [round(ms, 6) for ms in s.host]}
             for s in group.subjects]
    facts = [{"name": name, "value": value, "unit": unit, **({} if limit is None else {"limit": limit})} for name, (value, unit, limit) in group.facts.items()]
    return {"name": group.name, "description": group.description, "rows": rows, "unmeasured": unmeasured, "calls": calls, "facts": facts,
            "refused": group.refused, "notes": group.notes, "wrong": group.wrong, "peers_wrong": group.peers_wrong, "gone": group.gone}


def write_whole(path, text):
    """Written whole or not at all."""
    unfinished = pathlib.Path(f"{path}.unfinished")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def as_written(groups):
    """Groups, or what as_json made of them, as what as_json makes of them."""
    return [group if isinstance(group, dict) else as_json(group) for group in groups]


def write_json(path, machine, command, groups, wanted=()):
    """`wanted`: the names of the groups in which there is something to reach, measured yet or not."""
    write_whole(path, json.dumps({"machine": machine, "command": command, "wanted": list(wanted), "groups": as_written(groups)}, indent=1) + "\n")


if __name__ == "__main__":
    written = json.loads(pathlib.Path(sys.argv[1]).read_text())
    print(Verdict(written["groups"], written["wanted"]))
