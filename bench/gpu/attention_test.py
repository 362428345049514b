"""Tests of attention.py, on the CPU and on whatever CUDA device the library finds (ATTENTION_CUDA names another driver): python3 bench/gpu/attention_test.py"""

import ctypes as c
import math
import operator
import os
import random
import struct
import sys
import unittest

import attention as attn

B, HQ, HKV, SQ, SK, D = 2, 4, 2, 20, 70, 32
LENGTHS = [70, 33]
SCALE = 1 / math.sqrt(D)


class Memory:
    """Numbers where a device can reach them."""

    def __init__(self, context, dtype, shape, numbers=None):
        self.context, self.dtype, self.shape = context, dtype, shape
        description = attn.array(dtype, shape, None, device_type=context.device_type, device=context.device)
        self.tensor = c.c_void_p()
        context.library.call("tensor_create", context.handle, c.byref(description), c.byref(self.tensor))
        self.array = attn.Array()  # the same memory, as a borrowed address
        context.library.call("tensor_describe", self.tensor, c.byref(self.array))
        self.array.tensor = None
        self.format = f"<{math.prod(shape)}{ {attn.FLOAT32: 'f', attn.FLOAT16: 'e', attn.INT32: 'i', attn.UINT8: 'B'}[dtype] }"
        if numbers is not None:
            raw = struct.pack(self.format, *numbers)
            context.library.call("tensor_upload", self.tensor, raw, c.c_uint64(len(raw)))

    def numbers(self):
        raw = c.create_string_buffer(struct.calcsize(self.format))
        self.context.library.call("tensor_download", self.tensor, raw, c.c_uint64(len(raw)))
        return struct.unpack(self.format, raw.raw)

    def __del__(self):
        self.context.library.call("tensor_destroy", self.tensor)


def rows_of(X):
    return [X[at : at + D] for at in range(0, len(X), D)]


def attend(Q, K, V, sees):
    """The formula in double precision: O as a list of rows, and LSE."""
    O, LSE = [], []
    Q, K, V = rows_of(Q), rows_of(K), rows_of(V)
    for b in range(B):
        for h in range(HQ):
            first = (b * HKV + h // (HQ // HKV)) * SK
            keys, columns = K[first : first + SK], list(zip(*V[first : first + SK]))
            for i in range(SQ):
                q = Q[(b * HQ + h) * SQ + i]
                scores = [SCALE * sum(map(operator.mul, q, k)) if sees(b, i, j) else -math.inf for j, k in enumerate(keys)]
                most = max(scores)
                if most == -math.inf:
                    O.append([0.0] * D), LSE.append(-math.inf)
                    continue
                weights = [math.exp(s - most) for s in scores]
                total = sum(weights)
                O.append([sum(map(operator.mul, weights, v)) / total for v in columns])
                LSE.append(most + math.log(total))
    return O, LSE


class Layout(unittest.TestCase):
    def test_every_structure_is_as_the_library_has_it(self):
        library = attn.Library()
        layout = library.layout()
        self.assertGreater(len(layout), 140)
        self.assertEqual({name for name, _ in layout}, {structure.__name__ for structure in attn.STRUCTURES})

    def test_a_layout_that_differs_is_refused(self):
        wrong = attn._structure("attn_tiles", "size, reserved: u32", "queries, keys, partial, full, empty: i64")
        right, attn.STRUCTURES[11] = attn.STRUCTURES[11], wrong
        try:
            with self.assertRaisesRegex(attn.AttentionError, r"attn_tiles\.full: here \(32, 8\), in .* \(24, 8\)"):
                attn.Library()
        finally:
            attn.STRUCTURES[11] = right


class OnDevice:
    """One body of tests for each device."""

    device_type = attn.CPU

    @classmethod
    def setUpClass(cls):
        cls.library = attn.Library()
        count, why = cls.library.devices(cls.device_type)
        if not count:
            raise unittest.SkipTest("no CUDA device")
        # Of the driver without a GPU the second device is the one whose kernels are quick to emulate.
        cls.context = attn.Context(cls.library, cls.device_type, min(1, count - 1), workers=2 if cls.device_type == attn.CPU else 0)
        generator = random.Random(1)
        cls.dtype = attn.FLOAT16
        rounded = lambda n: struct.unpack(f"<{n}e", struct.pack(f"<{n}e", *(generator.gauss(0, 1) for _ in range(n))))
        cls.Q, cls.K, cls.V = rounded(B * HQ * SQ * D), rounded(B * HKV * SK * D), rounded(B * HKV * SK * D)
        memory = lambda dtype, shape, numbers=None: Memory(cls.context, dtype, shape, numbers)
        cls.q, cls.k, cls.v = (memory(cls.dtype, (B, heads, S, D), numbers)
                               for heads, S, numbers in ((HQ, SQ, cls.Q), (HKV, SK, cls.K), (HKV, SK, cls.V)))

    @classmethod
    def tearDownClass(cls):
        if hasattr(cls, "context"):
            cls.context.destroy()

    def judged(self, mask, sees, k=None, prepared=False, backend=attn.FLASH):
        k = k or self.k.array
        o = Memory(self.context, self.dtype, (B, HQ, SQ, D))
        lse = Memory(self.context, attn.FLOAT32, (B, HQ, SQ))
        problem = attn.problem(self.dtype, self.q.array, k, self.v.array, o.array, mask, lse=True)
        self.assertEqual(self.context.refusals(problem, backend), [])
        plan = self.context.plan(problem, backend)
        plan.warm_up()
        report = attn.RunReport()
        ready = self.context.prepare(mask) if prepared else None
        args = attn.run_args(self.q.array, k, self.v.array, o.array, lse.array, mask, ready, report=report)
        plan.run(args)
        O, LSE = attend(self.Q, self.K, self.V, sees)
        met, met_lse = rows_of(o.numbers()), lse.numbers()
        for at, (row, right) in enumerate(zip(O, LSE)):
            self.assertTrue(all(abs(x - y) <= 4e-3 for x, y in zip(met[at], row)), f"row {at}")
            self.assertTrue(met_lse[at] == right or abs(met_lse[at] - right) <= 2e-3, f"LSE of row {at}: {met_lse[at]}, {right}")
        tiles = plan.tiles(args)
        self.assertEqual(report.tiles_visited, tiles.full + tiles.partial)
        kernel = plan.kernel()
        plan.destroy()
        if ready is not None:
            self.library.call("mask_destroy", ready)
        return kernel, report

    def test_no_mask(self):
        self.judged(None, lambda b, i, j: True)

    def test_structure(self):
        lengths = (c.c_int32 * B)(*LENGTHS)
        mask = attn.Mask(causal=True, window=(40, -1), key_lengths=attn.array(attn.INT32, (B,), c.addressof(lengths)))
        self.judged(mask, lambda b, i, j: j < LENGTHS[b] and i - 40 <= j <= i)

    def test_documents_and_prefix(self):
        ids = lambda S: (c.c_int32 * (B * S))(*[i // 16 for _ in range(B) for i in range(S)])
        of_queries, of_keys, prefix = ids(SQ), ids(SK), (c.c_int32 * B)(5, 30)
        mask = attn.Mask(documents=(attn.array(attn.INT32, (B, SQ), c.addressof(of_queries)), attn.array(attn.INT32, (B, SK), c.addressof(of_keys))),
                         prefix=attn.array(attn.INT32, (B,), c.addressof(prefix)))
        self.judged(mask, lambda b, i, j: i // 16 == j // 16 and (j < prefix[b] or j <= i))

    def test_dense_keep_unprepared_and_prepared(self):
        generator = random.Random(2)
        keep = [generator.choice((0, 1, 255)) for _ in range(B * SQ * SK)]
        memory = Memory(self.context, attn.UINT8, (B, 1, SQ, SK), keep)
        sees = lambda b, i, j: keep[(b * SQ + i) * SK + j] != 0
        for prepared in (False, True):
            _, report = self.judged(attn.Mask(keep=memory.array), sees, prepared=prepared)
            if not prepared:
                self.assertEqual(report.mask_passes, 1)

    def test_other_backends(self):
        for backend in (attn.MEMORY_EFFICIENT,):
            kernel, _ = self.judged(None, lambda b, i, j: True, backend=backend)
            self.assertIn("memory_efficient" if self.device_type == attn.CUDA else "memory-efficient", kernel)

    def test_errors_are_the_library_s_own(self):
        o = Memory(self.context, self.dtype, (B, HQ, SQ, D))
        problem = attn.problem(self.dtype, self.q.array, self.k.array, self.v.array, o.array)
        problem.softcap = -1
        with self.assertRaisesRegex(attn.AttentionError, "problem.softcap is -1"):
            self.context.plan(problem)


class OnCpu(OnDevice, unittest.TestCase):
    pass


class OnCuda(OnDevice, unittest.TestCase):
    device_type = attn.CUDA

    def test_keys_from_last_to_first_batch_run_on_mma_sync(self):
        """What timing.py does to run flash_sm80 on Hopper: a tensor map cannot walk backwards."""
        last = B - 1
        step = HKV * SK * D
        reversed_ = Memory(self.context, self.dtype, (B, HKV, SK, D), [x for b in range(B) for x in self.K[(last - b) * step:][:step]])
        k = attn.array(self.dtype, (B, HKV, SK, D), reversed_.array.data + last * step * 2, (-step, SK * D, D, 1), attn.CUDA, self.context.device)
        kernel, _ = self.judged(None, lambda b, i, j: True, k=k)
        self.assertIn("flash_sm80", kernel)
        hopper = attn.Context(self.library, attn.CUDA, 0)
        if hopper.describe().instruction_set == b"sm_90":
            place = lambda a, strides=None: attn.array(self.dtype, list(a.shape), a.data, strides, attn.CUDA, 0)
            q, forwards, backwards = place(self.q.array), place(self.k.array), place(self.k.array, (-step, SK * D, D, 1))
            kernels = [hopper.plan(attn.problem(self.dtype, q, k, forwards, q)).kernel() for k in (forwards, backwards)]
            self.assertIn("flash_sm90", kernels[0])
            self.assertIn("flash_sm80", kernels[1])
        hopper.destroy()


if __name__ == "__main__":
    os.environ.setdefault("ATTENTION_CACHE", "off")
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
