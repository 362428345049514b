"""Tests of rows.py and predicted.py without PyTorch: every group is built on stand-ins, with what must be reached and what is aimed at: python3 bench/gpu/rows_test.py"""

import types
import unittest
from unittest import mock

import measure
import own
import predicted
import rows
import timing

# {group: {row: (limit, aim)}}, of rows that have either. README.md says where they come from.
SPEED, PASSED = (1.0, None), (0.58, 0.53)
TARGETS = {
    "whisper": {"lengths as a dense keep, unprepared": PASSED, "the same unprepared, mma.sync": PASSED,
                **{f"ours, dense, beside {name}": SPEED for name in (
                    *(f"PyTorch {backend}, {kind}" for backend in ("auto", "cuDNN", "efficient")
                      for kind in ("bool [B,1,S,S]", "additive [B,1,S,S]", "key padding [B,1,1,S]")),
                    "PyTorch math, bool [B,1,S,S]", "PyTorch eager, additive", "the fastest that takes the mask")}},
    "whisper, flex": {"ours, dense, beside flex, lengths, mask made": SPEED},
    "full128": {"the mma.sync kernel beside FA2": (0.85, 1.0), "ours beside FA2": (1.3, None), "ours beside cuDNN": (None, 0.85)},
    "full64": {"the mma.sync kernel beside FA2": (0.85, 1.0), "ours beside FA2": (1.3, None), "ours beside cuDNN": (None, 0.85)},
    "dense": {"keep that hides nothing": (1.05, 1.02), "hides nothing, mma.sync": (1.05, 1.02), "keep, random half": (1.10, 1.05),
              "random half, mma.sync": (1.10, 1.05), **{f"random half beside PyTorch {backend}": SPEED for backend in ("auto", "cuDNN", "efficient", "math")}},
    "dense, flex": {"random half beside flex_attention, mask made": SPEED},
    "pass": {"256 MB": (0.70, 0.90), "18 MB": (12, 8)},
    "decode": {"ours": (0.70, 0.85)},
    "heads": {"what the keep adds": (1.3, 1.1), **{f"beside PyTorch {backend}": SPEED for backend in ("auto", "efficient", "math")}},
    "structure": {**{f"{name} (50.0 % of the tiles)": (1.1, 1.05) for name in ("key lengths", "16 documents", "causal window 1024", "prefix of a quarter", "causal")},
                  **{f"causal beside PyTorch {backend}": SPEED for backend in ("flash", "efficient", "math")}, "causal beside PyTorch cuDNN": (None, 0.85),
                  **{f"16 documents beside PyTorch {backend}": SPEED for backend in ("auto", "efficient", "math")}},
    "structure, flex": {f"{name} beside flex, {name}, mask made": SPEED
                        for name in ("key lengths", "16 documents", "causal window 1024", "prefix of a quarter", "causal")},
    "host": {"run": (3, 1)},
}


class Tensor:
    """A shape. Whatever is done to it but cutting and spreading leaves it as it is."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def numel(self):
        count = 1
        for n in self.shape:
            count *= n
        return count

    def expand(self, *shape):
        return Tensor(old if new == -1 else new for old, new in zip(self.shape, shape))

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: self

    def __getitem__(self, *_):
        return self

    __lt__ = __invert__ = __getitem__


def torch():
    def made(*shape, **_):
        return Tensor(shape[0] if isinstance(shape[0], tuple) else shape)

    names = {name: name for name in ("bfloat16", "float16", "float32", "bool")}
    return types.SimpleNamespace(ones=lambda *shape, **how: made(*shape), zeros=made, rand=made, **names)


class Setting:
    """own.Setting without a device."""

    def __init__(self, flex_turn=False, free=1 << 40, flex_fits=True):
        self.torch, self.device, self.small, self.on_gpu, self.generator = torch(), "cuda", False, True, None
        self.flex, self.flex_turn, self.flex_wanted = None, flex_turn, lambda: flex_fits
        self.watch, self.left_out, self.free_bytes = measure.restarts.Watch(), {}, lambda: free
        self.synchronize = lambda: None

    group = own.Setting.group

    def normal(self, *shape, dtype):
        return Tensor(shape)

    def ints(self, values):
        return Tensor([len(values)])


def subject(name):
    made = measure.Subject(name, lambda: None)
    made.rounds, made.host = [1.0, 2.0], [1.0, 2.0]
    return made


class StandIn:  # for Own
    kernel, reason = "cuda.flash_sm90.d128.bf16.rule", ""

    def __init__(self, *_, **how):
        self.kernel = "cuda.flash_sm90.d128.bf16.packed" if how.get("dense") else self.kernel

    def subject(self, name, judge):
        return subject(name)

    def share(self):
        return 0.5


def built(name, setting, refusing=()):
    """The group as timing.py has it."""

    def peer(setting, name, *_):
        if any(word in name for word in refusing):
            raise RuntimeError("No available kernel.")
        return subject(name)

    flex = types.SimpleNamespace(subject=lambda name, *_: subject(name))
    sight = mock.patch.multiple("sight.Sight", share=lambda *_: 0.5, dense=lambda self, setting, B, H, Sq, Sk: Tensor([B, H, Sq, Sk]))
    with mock.patch.multiple(rows, Own=StandIn, Dense=mock.Mock(), Judge=mock.Mock(), Subject=lambda name, *_, **__: subject(name)), sight, \
         mock.patch.multiple("sight", documents=lambda *_: rows.sight.Sight("documents", None)), \
         mock.patch.multiple("peers", sdpa=peer, eager=peer, Flex=lambda setting: flex):
        group = rows.GROUPS[name](setting)
    group.lines = [line for line in group.lines if ("flex" in line.of) == setting.flex_turn]
    for s in group.subjects:  # what is subtracted differs
        s.rounds = [ms * (2 if "unprepared" in s.name or "each head" in s.name else 1) for ms in s.rounds]
    return group


class Groups(unittest.TestCase):
    def every(self):
        for name in rows.GROUPS:
            yield name, built(name, Setting())
        for name in rows.FLEX:
            yield f"{name}, flex", built(name, Setting(flex_turn=True))
        with mock.patch.object(timing.subprocess, "run", return_value=types.SimpleNamespace(returncode=1, stdout="", stderr="")):
            yield "host", timing.host_group("no/such/program")

    def test_what_must_be_reached_and_what_is_aimed_at(self):
        met = {name: {line.row: (line.limit, line.aim) for line in group.lines if line.limit is not None or line.aim is not None} for name, group in self.every()}
        for name in met.keys() | TARGETS.keys():
            with self.subTest(name):
                self.assertEqual(met.get(name, {}), TARGETS.get(name, {}))
        self.assertEqual({name for name, targets in met.items() if not targets}, set(rows.UNJUDGED))

    def test_every_row_is_of_subjects_that_there_are_and_no_name_is_twice(self):
        for name, group in self.every():
            with self.subTest(name):
                self.assertEqual(group.refused if name != "host" else {}, {})
                self.assertEqual([line.row for line in group.lines if name != "host" and len(line.values(group)) != 2], [])
                for names in ([line.row for line in group.lines], [s.name for s in group.subjects]):
                    self.assertEqual(sorted(set(names)), sorted(names))

    def test_a_backend_that_refuses_is_held_against_nobody(self):
        group = built("whisper", Setting(), refusing=("cuDNN", "math"))
        self.assertEqual([line.row for line in group.lines if "cuDNN" in line.row or "math" in line.row], [])
        self.assertEqual(measure.as_json(group)["unmeasured"], [])
        group = built("structure", Setting(flex_turn=True, flex_fits=False))
        self.assertEqual(len(measure.as_json(group)["unmeasured"]), 5)

    def test_scores_that_do_not_fit_are_not_tried(self):
        group = built("structure", Setting(free=80 << 30))
        self.assertEqual(group.refused, {})
        group = built("structure", Setting(free=8 << 30))
        self.assertEqual(group.refused["PyTorch math, causal"], "not tried: its scores would take 17.2 GB, 8.6 GB are free")

    def test_first_use(self):
        with mock.patch.object(timing.first_use, "in_a_fresh_process", return_value=[("flash (d64)", 900.0), ("flash (d256, keep)", 2000.0)]):
            self.assertEqual(timing.first_use_group().facts, {"flash (d64), cold cache": (900.0, "ms", 1000), "flash (d256, keep), cold cache": (2000.0, "ms", 3000),
                                                              "flash (d64), warm cache": (900.0, "ms", 5), "flash (d256, keep), warm cache": (2000.0, "ms", 5)})

    def test_a_group_that_cannot_be_made_is_not_measured(self):
        given, setting = types.SimpleNamespace(rounds=1, host_time=None), Setting()
        with mock.patch.dict(rows.GROUPS, heads=lambda setting: 1 // 0):
            group = timing.one("heads", given, setting, None, None)
        self.assertEqual(str(measure.Verdict([measure.as_json(group)], ["heads"])), "0 of 1 targets reached; not measured: heads (all of it); WRONG OUTPUT: 1")


class Predicted(unittest.TestCase):
    def test_prices_are_those_of_the_table(self):
        table = predicted.table("""# head
flash_sm90.d64.bf16.rule sm_90a, tiles of 192 x 128, 12 warps
  full tile: issue 1
    cycles: tensor 512; at best 500 (mufu), products exposed 1000
  partial tile, causal: issue 2
    cycles: tensor 512; at best 600.5 (issue), products exposed 1100
flash_sm90.d64.bf16.packed sm_90a, tiles of 192 x 128, 12 warps
  full tile: issue 3
    cycles: tensor 512; at best 505 (mufu), products exposed 1000
  partial tile, packed bits: issue 4
    cycles: tensor 512; at best 550 (mufu), products exposed 1050
# The price of a mask:
# flash_sm90.d64.bf16.rule            11.9 % ..   4.9 % of a tile; causal 4096:  1.4 % ..  0.6 %
""")
        names = "cuda.flash_sm90.d64.bf16.rule", "cuda.flash_sm90.d64.bf16.packed"
        self.assertEqual(predicted.price(table, "causal", names[0], names[0]), (0.6, 1.4))
        self.assertEqual([round(x, 6) for x in predicted.price(table, "hides nothing", *names)], [0.0, 1.0])
        self.assertEqual([round(x, 6) for x in predicted.price(table, "random half", *names)], [5.0, 10.0])
        self.assertIsNone(predicted.price(table, "causal", names[0], "cpu.flash"))

    def test_the_committed_table_has_every_flash_kernel(self):
        table = predicted.table(predicted.TABLE.read_text())
        self.assertEqual(len(table), 64)
        for D in (64, 128):
            for mask in ("causal", "hides nothing", "random half"):
                for file in ("flash_sm80", "flash_sm90"):
                    score = ".scaled" if file == "flash_sm80" else ""
                    names = [f"cuda.{file}.d{D}.bf16.{kind}{score}" for kind in ("rule", "rule" if mask == "causal" else "packed")]
                    self.assertRegex(predicted.words(mask, *names), r"^-?\d+\.\d \.\. \d+\.\d %$")


if __name__ == "__main__":
    unittest.main()
