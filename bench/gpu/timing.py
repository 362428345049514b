#!/usr/bin/env python3
"""Times the library on a GPU beside PyTorch's attention: the same tensors, one process, alternating rounds, outputs judged against double precision.

    python3 bench/gpu/timing.py --json timing.json --table timing.md

Exit: 0; 1 wrong output, or with --check a target missed or not measured; 2 bad usage; 3 no CUDA device."""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import attention as attn
import first_use
import measure
import restarts
import rows

HERE = pathlib.Path(__file__).resolve().parent
DESCRIPTIONS = {"whisper": "the report's encoder, fp16, lengths as a dense mask", "full128": "no mask, bf16, d128",
                "dense": "a keep that hides nothing, a random half", "pass": "the pass over a dense keep", "decode": "one query, grouped heads",
                "heads": "a keep of each head", "price": "what a mask costs beside what machine code says", "full64": "no mask, bf16, d64", "structure": "lengths, documents, window, prefix, causal",
                "first-use": "a kernel's first use, without and with the cache",
                "host": "what a call costs the host"}


def options(arguments):
    parser = argparse.ArgumentParser(prog="timing.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", choices=sorted(DESCRIPTIONS), help="a group; may be given several times (default: all)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each group (default 15; fewer are a look, not a measurement)")
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="begin no group, and compile no flex_attention, that no longer fits")
    parser.add_argument("--no-flex", action="store_true", help="leave flex_attention's turn out: each of its masks is compiled for ten seconds or more")
    parser.add_argument("--json", metavar="FILE", help="everything, every round; written after each group, whole or not at all")
    parser.add_argument("--table", metavar="FILE", help="the tables, as they are printed")
    parser.add_argument("--check", action="store_true", help="exit 1 if a row misses what it must reach, or was to and was not measured")
    parser.add_argument("--host-time", metavar="PROGRAM", help="the program host_time (default: the newest build's)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the scripts at small sizes where there is no GPU")
    parser.add_argument("--list", action="store_true", help="the groups")
    restarts.options(parser)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}; 1 or more is allowed")
    return given


def machine(torch, setting):
    library = setting.library
    info = {"library": library.build_info(), "torch": torch.__version__, "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": os.environ.get("ATTENTION_COMMIT") or commit()}
    if setting.on_gpu:
        cuda, context = library.cuda(), setting.context.describe()
        info.update(GPU=torch.cuda.get_device_name(), architecture=context.instruction_set.decode(), driver=cuda.driver_version, NVRTC=cuda.nvrtc_version,
                    cuDNN=torch.backends.cudnn.version(), CUDA=torch.version.cuda)
        query = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,power.limit,driver_version", "--format=csv,noheader"]
        try:
            info["nvidia-smi: SM and memory clock now, power limit, driver"] = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.TimeoutExpired) as problem:
            info["nvidia-smi"] = str(problem)
    return info


def commit():
    try:
        return subprocess.check_output(["git", "-C", str(HERE), "rev-parse", "--short=10", "HEAD"], stderr=subprocess.DEVNULL, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def host_group(program):
    """What host_time measured, as subjects whose rounds are there already."""
    group = measure.Group("host", "host time of a call, plan reused, 64 x 64, one head of 64; beside a bare cuLaunchKernel of an empty kernel")

    def beyond(name, limit, aim):
        return measure.Line(name, "us beyond a bare launch", f"{name} - bare launch", lambda t: (t[name] - t["bare launch"]) * 1e3, "lower", limit, aim)

    group.lines += [beyond("run", 3, 1), beyond("run with host lengths", None, None), beyond("run with keep", None, None)]
    if not program:
        built = sorted(attn.ROOT.glob("build/*/bench/gpu/host_time"), key=lambda path: path.stat().st_mtime)
        program = str(built[-1]) if built else None
    if not program:
        group.refused["host time"] = "the program host_time is not built"
        return group
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    if done.returncode:
        group.refused["host time"] = f"{program} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}"
        return group
    for name, values in json.loads(done.stdout).items():
        subject = measure.Subject(name.removesuffix("_us").replace("_", " "), None, kernel="host")
        subject.rounds = [us / 1e3 for us in values]
        group.subjects.append(subject)
    return group


def first_use_group():
    group = measure.Group("first-use", "a plan's first warm-up in a fresh process: with an empty cache folder, then with what that left there")
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("cold", "warm"):
            for name, milliseconds in first_use.in_a_fresh_process(folder):
                limit = 5 if cache == "warm" else 3000 if "d256" in name else 1000
                group.facts[f"{name}, {cache} cache"] = (milliseconds, "ms", limit)
    return group


def torch_setting(given, out_of_time, small):
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else flex_attention begins a process for each core, and each imports PyTorch
    import torch

    import own

    setting = own.Setting(torch, given.device, small=small)
    setting.watch, setting.left_out, setting.fatal = restarts.Watch(given.at), restarts.left_out(given.without), restarts.Fatal(given.without)
    setting.flex_wanted = lambda: not out_of_time(45)
    clock = measure.CudaClock(torch, 256 << 20) if setting.on_gpu else measure.HostClock()
    return torch, setting, clock


def main(arguments):
    given = options(arguments)
    order = [*list(rows.GROUPS)[:3], "first-use", "host", *list(rows.GROUPS)[3:]]
    if given.list:
        for name in order:
            print(f"{name:10} {DESCRIPTIONS[name]}")
        return 0
    library = attn.Library()
    if given.device == "cuda" and not library.devices(attn.CUDA)[0]:
        print(f"timing.py: no CUDA device: {library.devices(attn.CUDA)[1]}")
        return 3
    if given.device == "cuda" and not given.at:
        return restarts.begin_with(given, HERE / "timing.py", arguments)
    begun = time.monotonic()

    def out_of_time(needed=0):
        return bool(given.budget) and time.monotonic() - begun + needed > given.budget

    torch, setting, clock = torch_setting(given, out_of_time, small=given.device == "cpu")
    command = given.command or " ".join(["bench/gpu/timing.py", *arguments])
    groups, text, info = earlier(given) if given.without else ([], "", None)
    if info is None:
        info = machine(torch, setting)
        text = "".join(f"- {name}: {value}\n" for name, value in {**info, "command": command}.items())
        if given.rounds < 15:
            text += f"- {given.rounds} rounds: a look, not a measurement\n"
        print(text, end="", flush=True)

    turns = [(name, False) for name in order if given.device == "cuda" or name in rows.GROUPS]
    turns += [(name, True) for name in rows.FLEX if given.device == "cuda" and not given.no_flex]
    turns = {name + (", flex" if flex else ""): (name, flex) for name, flex in turns if name in (given.only or order)}

    judged = [label for label in turns if label not in rows.UNJUDGED]

    def keep(*group):
        if given.json:
            measure.write_json(given.json, info, command, [*groups, *group], judged)

    done = {group["name"] for group in groups}
    for label, (name, setting.flex_turn) in turns.items():
        if label in done:
            continue
        gone = [why for subject, why in setting.left_out.get(label, {}).items() if not subject]
        if out_of_time(60 if setting.flex_turn else 20) or gone:
            group = measure.Group(label, DESCRIPTIONS[name])
            group.gone = "; ".join(gone) or f"skipped: {given.budget:g} s were given and {time.monotonic() - begun:.0f} are gone"
        else:
            group = one(name, given, setting, clock, out_of_time, keep)
        groups.append(group)
        text += measure.table(group)
        print(measure.table(group), end="", flush=True)
        keep()
        if given.table:
            measure.write_whole(given.table, text)
        measure.let_go(group)
        if setting.on_gpu:
            setting.context.trim()
            torch.cuda.empty_cache()
    verdict = measure.Verdict(measure.as_written(groups), judged)
    print(f"\n{verdict}", flush=True)
    return 1 if verdict.wrong or (given.check and verdict.misses()) else 0


def earlier(given):
    """What the process before this one left, but for the group in which it ended: groups, text, machine."""
    try:
        left = json.loads(pathlib.Path(given.json).read_text())
        text = pathlib.Path(given.table).read_text() if given.table else ""
    except OSError:  # it ended in its first group
        return [], "", None
    ended = json.loads(given.without[-1])[0]
    return [group for group in left["groups"] if group["name"] != ended], text, left["machine"]


def one(name, given, setting, clock, out_of_time, keep=lambda group: None):
    """A group, measured; a failure of it is its own and stops no other, unless the device is lost with it."""
    begun = time.monotonic()
    group = setting.group(name, DESCRIPTIONS[name])
    setting.watch.begins(group.name, "", 120)
    try:
        if name == "host":
            group = host_group(given.host_time)
        elif name == "first-use":
            group = first_use_group()
        else:
            group = rows.GROUPS[name](setting)
            group.lines = [line for line in group.lines if ("flex" in line.of) == setting.flex_turn]
            measure.measure(group, given.rounds, clock, out_of_time, keep)
    except Exception as problem:
        restarts.end_if_lost(problem, setting.synchronize, setting.watch)
        group.wrong.append(" ".join(f"{type(problem).__name__}: {problem}".split())[:600])
        if not group.lines:
            group.gone = "it could not be made"
    setting.watch.over()
    group.notes.append(f"took {time.monotonic() - begun:.1f} s")
    return group


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
