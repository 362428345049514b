"""The rows that a GPU must reach, as groups that are measured together. Each entry of GROUPS makes its group on a Setting."""

import peers
import predicted
import sight
from judge import Judge
from measure import Line, Subject, faster, ratio
from own import Dense, Own

LENGTHS = [1500, 1210, 1010, 820, 620, 430, 260, 126]  # 49.8 % of the keys of eight clips


class Builder:
    """A group over one problem's operands."""

    def __init__(self, setting, name, description, B, Hq, Sq, D, dtype, Hkv=None, Sk=None):
        self.setting, self.group = setting, setting.group(name, description)
        Hkv, Sk = Hkv or Hq, Sk or Sq
        if setting.small:  # a look at the scripts, not at a machine
            Hq, Hkv = (4, 2) if Hkv < Hq else (min(Hq, 2), min(Hkv, 2))
            B, Sq, Sk = min(B, 2), min(Sq, 190), min(Sk, 300 if Sq == 1 else 190)
        self.B, self.Hq, self.Sq, self.Sk, self.D = B, Hq, Sq, Sk, D
        self.dtype = getattr(setting.torch, dtype)
        make = lambda heads, length: setting.normal(B, heads, length, D, dtype=self.dtype)
        self.q, self.k, self.v = make(Hq, Sq), make(Hkv, Sk), make(Hkv, Sk)
        self.judges, self.owns = {}, {}

    def judge(self, s=None):
        key = s.name if s else ""
        if key not in self.judges:
            self.judges[key] = Judge(self.setting, self.q, self.k, self.v, s.sees if s else None)
        return self.judges[key]

    def own(self, name, s=None, **how):
        """Ours; `s` also says what is right where the mask is given dense."""
        dense = how.get("dense")

        def make():
            own = Own(self.setting, self.q, self.k, self.v, None if dense else s, **how)
            subject = own.subject(name, self.judge(s))
            self.owns[name] = own
            if own.reason and not how.get("backwards"):
                self.group.notes.append(f"{name} runs on {own.kernel}: {own.reason}")
            return subject

        return self.group.attempt(name, make)

    def sdpa(self, backend, masks=None, s=None, name=None, causal=False):
        if self.setting.flex_turn:
            return None
        name = name or f"PyTorch {backend}"
        if backend == "math" and (why := self.too_large_for_math()):
            self.group.refused[name] = why
            return None
        return self.group.attempt(name, lambda: peers.sdpa(self.setting, name, backend, self.q, self.k, self.v, masks, self.judge(s), causal))

    def too_large_for_math(self):
        """Why the backend that keeps its scores is not tried: four times in float32 they should leave half of the memory."""
        wanted = 4 * 4 * self.B * self.Hq * self.Sq * self.Sk
        free = self.setting.free_bytes()
        return f"not tried: its scores would take {wanted / 1e9:.1f} GB, {free / 1e9:.1f} GB are free" if wanted > free / 2 else ""

    def flex(self, name="flex", s=None, reused=False):
        if not self.setting.flex_turn:
            return None
        if not self.setting.flex_wanted():
            return self.group.leave_out(name, "no time is left to compile it")

        def make():
            if self.setting.flex is None:
                self.setting.flex = peers.Flex(self.setting)
            return self.setting.flex.subject(name, self.q, self.k, self.v, s, self.judge(s), reused)

        return self.group.attempt(name, make)

    def bandwidth(self):
        """The read bandwidth, measured in turns with the rest: a sum over a buffer larger than any cache. Returns its bytes."""
        torch = self.setting.torch
        count = (1 << 20 if self.setting.small else 1 << 29)
        buffer = torch.ones(count, dtype=torch.float32, device=self.setting.device)
        self.group.subjects.append(Subject("read bandwidth", lambda: buffer.sum(), kernel=f"torch.sum over {count * 4 / 1e6:.0f} MB"))
        return count * 4

    def share(self, s):
        return s.share(self.setting, self.B, self.Hq, self.Sq, self.Sk)

    def twice(self, mask):
        """A mask at two addresses."""
        return [mask, mask.clone()]


def full(setting, D):
    g = Builder(setting, f"full{D}", f"bf16, 4 x {2048 // D} heads of {D}, 4096 x 4096, no mask", 4, 2048 // D, 4096, D, "bfloat16")
    g.own("ours")
    g.own("ours, mma.sync", backwards=True)
    for backend in ("flash", "cuDNN", "efficient", "math"):
        g.sdpa(backend)
    g.flex()
    flops = 4 * g.B * g.Hq * g.Sq * g.Sk * D
    g.group.lines += [
        faster("the mma.sync kernel beside FA2", "ours, mma.sync", "PyTorch flash", 0.85, 1.0),
        faster("ours beside FA2", "ours", "PyTorch flash", 1.3),
        faster("ours beside cuDNN", "ours", "PyTorch cuDNN", None, 0.85),
        faster("ours beside flex_attention", "ours", "flex"),
        Line("ours", "TFLOP/s", "operations / ours", lambda t: flops / t["ours"] / 1e9, "higher"),
        Line("ours, mma.sync", "TFLOP/s", "operations / ours, mma.sync", lambda t: flops / t["ours, mma.sync"] / 1e9, "higher"),
        Line("PyTorch flash", "TFLOP/s", "operations / PyTorch flash", lambda t: flops / t["PyTorch flash"] / 1e9, "higher"),
        Line("PyTorch cuDNN", "TFLOP/s", "operations / PyTorch cuDNN", lambda t: flops / t["PyTorch cuDNN"] / 1e9, "higher"),
    ]
    return g.group


def full64(setting):
    return full(setting, 64)


def full128(setting):
    return full(setting, 128)


def dense(setting):
    torch = setting.torch
    g = Builder(setting, "dense", "bf16, 4 x 16 heads of 128, 4096 x 4096; keep [B,1,S,S], unprepared, the pass included", 4, 16, 4096, 128, "bfloat16")
    g.own("ours, no mask")
    g.own("ours, no mask, mma.sync", backwards=True)
    shape = (g.B, 1, g.Sq, g.Sk)
    masks = {"hides nothing": torch.ones(shape, dtype=torch.bool, device=setting.device),
             "random half": torch.rand(shape, generator=setting.generator, device=setting.device) < 0.5}
    for name, mask in masks.items():
        s = sight.of_dense(name, mask)
        limit, aim = (1.05, 1.02) if name == "hides nothing" else (1.10, 1.05)
        g.own(f"ours, {name}", s, dense=Dense(setting, mask))
        g.own(f"ours, {name}, prepared", s, dense=Dense(setting, mask), prepared=True)
        g.own(f"ours, {name}, mma.sync", s, dense=Dense(setting, mask), backwards=True)
        g.group.lines += [ratio(f"keep that {name}" if "hides" in name else f"keep, {name}", f"ours, {name}", "ours, no mask", limit, aim),
                          ratio(f"{name}, prepared", f"ours, {name}, prepared", "ours, no mask"),
                          ratio(f"{name}, mma.sync", f"ours, {name}, mma.sync", "ours, no mask, mma.sync", limit, aim)]
    s = sight.of_dense("random half", masks["random half"])
    for backend in ("auto", "cuDNN", "efficient", "math"):
        name = f"PyTorch {backend}, bool mask, random half"
        g.sdpa(backend, g.twice(masks["random half"]), s, name)
        g.group.hold_against(f"random half beside PyTorch {backend}", "ours, random half", name, 1.0)
    g.flex("flex, random half, mask made", s)
    g.group.hold_against("random half beside flex_attention, mask made", "ours, random half", "flex, random half, mask made", 1.0)
    return g.group


def heads(setting):
    torch = setting.torch
    g = Builder(setting, "heads", "bf16, 4 x 16 heads of 128, 4096 x 4096; keep [B,Hq,S,S], unprepared", 4, 16, 4096, 128, "bfloat16")
    g.own("ours, no mask")
    mask = torch.rand(g.B, g.Hq, g.Sq, g.Sk, generator=setting.generator, device=setting.device) < 0.5
    s = sight.of_dense("keep of each head", mask)
    g.own("ours, keep of each head", s, dense=Dense(setting, mask))
    for backend in ("auto", "efficient", "math"):
        name = f"PyTorch {backend}, bool mask"
        g.sdpa(backend, g.twice(mask), s, name)
        g.group.hold_against(f"beside PyTorch {backend}", "ours, keep of each head", name, 1.0)
    probe = g.bandwidth()
    factor = probe / mask.numel()
    g.group.lines.append(Line("what the keep adds", "x its bytes / the read bandwidth", "(ours, keep of each head - ours, no mask) / mask bytes",
                              lambda t: (t["ours, keep of each head"] - t["ours, no mask"]) / t["read bandwidth"] * factor, "lower", 1.3, 1.1))
    return g.group


def structure(setting):
    g = Builder(setting, "structure", "bf16, 2 x 8 heads of 128, 8192 x 8192; closed form beside its share of visible 128 x 128 tiles", 2, 8, 8192, 128,
                "bfloat16")
    g.own("ours, no mask")
    S = g.Sk
    masks = {"key lengths": sight.lengths(setting, [S * 9 // 10, S * 4 // 10][:g.B]), "16 documents": sight.documents(setting, g.B, S, 16 if S > 2000 else 3),
             "causal window 1024": sight.window(setting, min(1023, S // 4)), "prefix of a quarter": sight.prefix(setting, g.B, S // 4),
             "causal": sight.causal(setting)}
    for name, s in masks.items():
        s.name = name
        g.own(f"ours, {name}", s)
        share = g.share(s)
        g.group.lines.append(ratio(f"{name} ({share * 100:.1f} % of the tiles)", f"ours, {name}", "ours, no mask", 1.1, 1.05, share))
        for reused in (False, True):
            flex = f"flex, {name}, mask {'reused' if reused else 'made'}"
            g.flex(flex, s, reused)
            g.group.hold_against(f"{name} beside {flex}", f"ours, {name}", flex, None if reused else 1.0)
    for backend in ("flash", "cuDNN", "efficient", "math"):
        name = f"PyTorch {backend}, causal"
        g.sdpa(backend, None, masks["causal"], name, causal=True)
        g.group.hold_against(f"causal beside PyTorch {backend}", "ours, causal", name, None if backend == "cuDNN" else 1.0, 0.85 if backend == "cuDNN" else None)
    dense_documents = g.twice(masks["16 documents"].dense(setting, g.B, g.Hq, g.Sq, g.Sk))
    for backend in ("auto", "efficient", "math"):
        name = f"PyTorch {backend}, 16 documents as a bool mask"
        g.sdpa(backend, dense_documents, masks["16 documents"], name)
        g.group.hold_against(f"16 documents beside PyTorch {backend}", "ours, 16 documents", name, 1.0)
    return g.group


def whisper(setting):
    torch = setting.torch
    g = Builder(setting, "whisper", "fp16, 8 x 20 heads of 64, 1500 x 1500, lengths covering 49.8 %: the report's encoder", 8, 20, 1500, 64, "float16")
    values = [n * g.Sk // 1500 for n in LENGTHS[:g.B]]
    s = sight.lengths(setting, values)
    mask = s.dense(setting, g.B, 1, g.Sq, g.Sk).contiguous()
    padding = mask[:, :, :1, :].contiguous()
    additive = torch.zeros(mask.shape, dtype=g.dtype, device=setting.device).masked_fill(~mask, float("-inf"))
    g.own("ours, no mask")
    g.own("ours, lengths", s)
    g.own("ours, dense", s, dense=Dense(setting, mask))
    g.own("ours, dense, prepared", s, dense=Dense(setting, mask), prepared=True)
    g.own("ours, no mask, mma.sync", backwards=True)
    g.own("ours, dense, mma.sync", s, dense=Dense(setting, mask), backwards=True)
    for backend in ("auto", "flash", "cuDNN", "efficient"):
        g.sdpa(backend, name=f"PyTorch {backend}, no mask")
    takers = []
    for backend in ("auto", "cuDNN", "efficient", "math"):
        for kind, given in (("bool [B,1,S,S]", mask), ("additive [B,1,S,S]", additive), ("key padding [B,1,1,S]", padding)):
            if backend in ("math",) and kind != "bool [B,1,S,S]":
                continue
            takers.append(f"PyTorch {backend}, {kind}")
            g.sdpa(backend, g.twice(given), s, takers[-1])
    eager = "PyTorch eager, additive"
    takers.append(eager)
    if not setting.flex_turn:
        g.group.attempt(eager, lambda: peers.eager(setting, eager, g.q, g.k, g.v, additive, g.judge(s)))
    for name, reused in (("flex, lengths, mask made", False), ("flex, lengths, mask reused", True)):
        g.flex(name, s, reused)
        g.group.hold_against(f"ours, dense, beside {name}", "ours, dense", name, None if reused else 1.0)
    g.group.lines += [ratio("lengths as a dense keep, unprepared", "ours, dense", "ours, no mask", 0.58, 0.53),
                      ratio("lengths", "ours, lengths", "ours, no mask"),
                      ratio("the same prepared", "ours, dense, prepared", "ours, no mask"),
                      ratio("the same unprepared, mma.sync", "ours, dense, mma.sync", "ours, no mask, mma.sync", 0.58, 0.53)]
    # A peer that is given the mask, dense or as a row of keys, must be slower than ours with a dense mask; the fastest one's ratio is the answer.
    for name in takers:
        g.group.hold_against(f"ours, dense, beside {name}", "ours, dense", name, 1.0)
    g.group.lines.append(Line("ours, dense, beside the fastest that takes the mask", "x its speed", "min(those that take the mask) / ours, dense",
                              lambda t: min(t[name] for name in takers if name in t) / t["ours, dense"], "higher", 1.0))
    g.group.lines.append(faster("no mask beside FA2", "ours, no mask", "PyTorch flash, no mask"))
    return g.group


def mask_pass(setting):
    """The pass alone: a call with the mask unprepared, less the same call with it prepared. One head of 64 keeps the rest short."""
    torch = setting.torch
    g = Builder(setting, "pass", "the pass over a dense keep: 256 MB and the encoder's 18 MB, one head of 64", 16, 1, 4096, 64, "bfloat16")
    large = torch.rand(g.B, 1, g.Sq, g.Sk, generator=setting.generator, device=setting.device) < 0.5
    s = sight.of_dense("256 MB", large)
    g.own("256 MB, unprepared", s, dense=Dense(setting, large))
    g.own("256 MB, prepared", s, dense=Dense(setting, large), prepared=True)
    probe = g.bandwidth()
    share = large.numel() / probe
    small = Builder(setting, "pass", "", 8, 1, 1500, 64, "float16")
    lengths = sight.lengths(setting, [n * small.Sk // 1500 for n in LENGTHS[:small.B]])
    mask = lengths.dense(setting, small.B, 1, small.Sq, small.Sk).contiguous()
    small.group = g.group
    small.own("18 MB, unprepared", lengths, dense=Dense(setting, mask))
    small.own("18 MB, prepared", lengths, dense=Dense(setting, mask), prepared=True)
    g.group.lines += [
        Line("256 MB", "of the read bandwidth", "mask bytes at the read bandwidth / (unprepared - prepared)",
             lambda t: t["read bandwidth"] * share / (t["256 MB, unprepared"] - t["256 MB, prepared"]), "higher", 0.70, 0.90),
        Line("18 MB", "us", "unprepared - prepared", lambda t: (t["18 MB, unprepared"] - t["18 MB, prepared"]) * 1e3, "lower", 12, 8),
        Line("read bandwidth", "GB/s", "bytes / time", lambda t: probe / t["read bandwidth"] / 1e6, "higher"),
    ]
    return g.group


def decode(setting):
    g = Builder(setting, "decode", "bf16, 16 x 32 heads of 128 on 8 key heads, 1 x 8192", 16, 32, 1, 128, "bfloat16", Hkv=8, Sk=8192)
    g.own("ours")
    backends = ("auto", "flash", "cuDNN", "efficient", "math")
    for backend in backends:
        g.sdpa(backend)
    g.flex()
    probe = g.bandwidth()
    moved = (g.k.numel() + g.v.numel()) * 2
    g.group.lines.append(Line("ours", "of the read bandwidth", "K and V at the read bandwidth / ours",
                              lambda t: t["read bandwidth"] * moved / probe / t["ours"], "higher", 0.70, 0.85))
    for backend in backends:
        g.group.hold_against(f"beside PyTorch {backend}", "ours", f"PyTorch {backend}")
    g.group.lines.append(faster("beside flex_attention", "ours", "flex"))
    return g.group


def price(setting):
    """How much longer a masked call takes than its visible share of an unmasked one; the pass is left out. Beside it what the kernels' machine code says."""
    torch = setting.torch
    builders = [Builder(setting, "price", "bf16, 4 x 2048 / D heads of D, 4096 x 4096: a masked call beside its share of an unmasked one, masks prepared", 4, 2048 // D, 4096, D, "bfloat16")
                for D in (128, 64)]
    for g in builders:
        g.group = builders[0].group
        label = lambda name: f"D {g.D}, {name}"
        shape = (g.B, 1, g.Sq, g.Sk)
        nothing = torch.ones(shape, dtype=torch.bool, device=setting.device)
        half = torch.rand(shape, generator=setting.generator, device=setting.device) < 0.5
        plain = label("no mask")
        g.own(plain)
        g.own(label("causal"), sight.causal(setting))
        for name, mask in (("hides nothing", nothing), ("random half", half)):
            g.own(label(name), sight.of_dense(name, mask), dense=Dense(setting, mask), prepared=True)
        for name in ("causal", "hides nothing", "random half"):
            if label(name) not in g.owns or plain not in g.owns:
                continue
            share = g.owns[label(name)].share()
            told = predicted.words(name, g.owns[plain].kernel, g.owns[label(name)].kernel)
            g.group.lines.append(Line(f"{label(name)}; predicted {told}", "% more", f"{label(name)} / ({plain} x {share:.4f}) - 1",
                                      lambda t, masked=label(name), plain=plain, share=share: (t[masked] / (t[plain] * share) - 1) * 100))
    return builders[0].group


# The most telling first: what time is left for decides what is measured.
GROUPS = {"whisper": whisper, "full128": full128, "dense": dense, "pass": mask_pass, "decode": decode, "heads": heads, "full64": full64, "structure": structure,
          "price": price}
# Those that flex_attention has part in. Its turn comes last: what it compiles takes its time, in PyTorch 2.11 now and then minutes.
FLEX = ["whisper", "dense", "full128", "structure", "decode", "full64"]
UNJUDGED = ["price", "full128, flex", "decode, flex", "full64, flex"]  # where nothing must be reached
