#!/usr/bin/env python3
"""The original experiment: transformers' WhisperEncoder with Whisper base's weights on eight real clips, its attention computed by PyTorch and by this library.

    python3 bench/gpu/whisper.py build/gpu-bundle/whisper --json whisper.json --table whisper.md

The folder holds encoder.safetensors and reference-encoder.safetensors. Exit: 0; 1 wrong output; 2 bad usage; 3 no CUDA device."""

import argparse
import pathlib
import sys
import time

import attention as attn
import measure
import restarts
import timing

LAYERS, WIDTH, HEADS, POSITIONS = 6, 512, 8, 1500


class Attend:
    """Ours, as a function of Q, K, V [B, H, S, D]: one plan for each set of strides, no address bound. O lies as the next layer wants it."""

    def __init__(self, setting, mask=None, prepared=False):
        self.setting, self.mask, self.plans = setting, mask, {}
        self.prepared, self.handle = prepared, None
        self.kernel = ""

    def __call__(self, q, k, v):
        B, H, S, D = q.shape
        o = self.setting.torch.empty(B, S, H, D, dtype=q.dtype, device=q.device).transpose(1, 2)
        arrays = [self.setting.array(x) for x in (q, k, v, o)]
        if self.prepared and self.handle is None:  # at its first call: until then it takes no memory
            self.handle = self.setting.prepare(self.mask)
        key = (q.dtype, q.shape, q.stride(), k.stride(), v.stride())
        if key not in self.plans:
            plan = self.setting.context.plan(attn.problem(self.setting.dtypes[q.dtype], *arrays, mask=self.mask))
            self.setting.begin(plan)
            self.plans[key], self.kernel = plan, plan.kernel()
        self.plans[key].run(attn.run_args(*arrays, mask=self.mask, prepared=self.handle, stream=self.setting.stream))
        return o


def functions(setting, key_lengths, dtype):
    """{name: (attention of Q, K and V, whether it is masked)}."""
    torch = setting.torch
    functional = torch.nn.functional.scaled_dot_product_attention
    columns = torch.arange(POSITIONS, device=setting.device)
    padding = (columns[None, :] < key_lengths[:, None])[:, None, None, :].contiguous()
    keep = padding.expand(-1, -1, POSITIONS, -1).contiguous()
    additive = torch.zeros(keep.shape, dtype=dtype, device=setting.device).masked_fill(~keep, float("-inf"))

    def eager(mask):
        def attend(q, k, v):
            S = torch.matmul(q, k.transpose(2, 3)) * q.shape[3] ** -0.5
            return torch.matmul(torch.softmax(S if mask is None else S + mask, -1), v)

        return attend

    bytes_of = keep.to(torch.uint8)
    by_length = attn.Mask(key_lengths=setting.array(key_lengths))
    by_keep = attn.Mask(keep=setting.array(bytes_of))
    return {
        "SDPA, no mask": (lambda q, k, v: functional(q, k, v), False),
        "SDPA, key padding mask": (lambda q, k, v: functional(q, k, v, attn_mask=padding), True),
        "SDPA, bool mask": (lambda q, k, v: functional(q, k, v, attn_mask=keep), True),
        "SDPA, additive mask": (lambda q, k, v: functional(q, k, v, attn_mask=additive), True),
        "eager, no mask": (eager(None), False),
        "eager, additive mask": (eager(additive), True),
        "ours, no mask": (Attend(setting), False),
        "ours, key lengths": (Attend(setting, by_length), True),
        "ours, keep": (Attend(setting, by_keep), True),
        "ours, keep, prepared": (Attend(setting, by_keep, prepared=True), True),
    }


class Encoder:
    """transformers' encoder, whose layers ask `attend` for their attention. Projections, norms and the rest are transformers' own."""

    def __init__(self, setting, weights, dtype):
        torch = setting.torch
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        config = WhisperConfig(d_model=WIDTH, encoder_layers=LAYERS, encoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH, num_mel_bins=80,
                               max_source_positions=POSITIONS)
        self.model = WhisperEncoder(config).to(dtype)
        self.model.load_state_dict({name.removeprefix("model.encoder."): value for name, value in weights.items()})
        self.model.to(setting.device).eval()
        self.attend, self.calls, self.answers, self.seen = None, 0, 2, []
        outer = self

        class Attention(torch.nn.Module):
            def __init__(self, original):
                super().__init__()
                self.original = original

            def forward(self, hidden_states, *_, **__):
                outer.calls += 1
                a = self.original
                split = lambda x: x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)
                q, k, v = split(a.q_proj(hidden_states)), split(a.k_proj(hidden_states)), split(a.v_proj(hidden_states))
                if outer.seen is not None:
                    outer.seen.append((q, k, v))
                o = outer.attend(q, k, v).transpose(1, 2).reshape(hidden_states.shape)
                return (a.out_proj(o),) + (None,) * (outer.answers - 1)  # as many as this version of transformers unpacks

        for layer in self.model.layers:
            layer.self_attn = Attention(layer.self_attn)

    def __call__(self, features, attend):
        self.attend, self.calls = attend, 0
        out = self.model(features).last_hidden_state
        if self.calls != LAYERS:
            raise RuntimeError(f"{self.calls} layers asked for their attention; {LAYERS} were to")
        return out

    def settle(self, features, attend):
        """Finds out how many values a layer unpacks, and keeps each layer's Q, K and V of real speech."""
        for self.answers in (2, 3):
            try:
                self.seen = []
                self(features, attend)
                break
            except ValueError as problem:
                if "unpack" not in str(problem) or self.answers == 3:
                    raise
        operands, self.seen = self.seen, None
        return operands


def experiment(setting, folder, rounds, clock, out_of_time, keep):
    torch = setting.torch
    from safetensors.torch import load_file

    weights, reference = load_file(folder / "encoder.safetensors"), load_file(folder / "reference-encoder.safetensors")
    dtype = torch.float16 if setting.on_gpu else torch.float32  # as the weights are stored; a CPU's PyTorch is slow at float16
    clips = slice(2 if setting.small else None)
    features, key_lengths, plain, masked = (reference[name][clips].to(setting.device) for name in ("input_features", "key_lengths", "plain", "masked"))
    features, key_lengths = features.to(dtype), key_lengths.to(torch.int32).contiguous()
    covered = float(key_lengths.sum()) / (len(features) * POSITIONS)
    group = setting.group("whisper-encoder",
                          f"Whisper base's encoder, {str(dtype).removeprefix('torch.')}, {len(features)} clips, key lengths covering {covered:.1%}")
    rows = reference["rows"].long().to(setting.device)
    right = {False: plain.double(), True: masked.double()}
    with torch.inference_mode():
        setting.watch.begins(group.name, "", 60)
        encoder = Encoder(setting, weights, dtype)
        attends = functions(setting, key_lengths, dtype)
        operands = encoder.settle(features, attends["eager, no mask"][0])
        errors = {}
        for name, (attend, masked) in attends.items():
            whole = f"encoder, {name}"
            if not group.attempt(whole, lambda: measure.Subject(whole, lambda a=attend: encoder(features, a))):
                continue
            setting.synchronize()
            setting.context.trim()  # what the ways before it left
            if setting.on_gpu:
                torch.cuda.empty_cache()
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
            out = encoder(features, attend)
            setting.synchronize()
            if setting.on_gpu:
                group.facts[f"memory of PyTorch's at the peak, {name}"] = ((torch.cuda.max_memory_allocated() - before) / 1e6, "MB", None)
            if name.startswith("ours"):
                info = setting.context.describe()
                group.facts[f"memory of this library's own, {name}"] = ((info.scratch_bytes + info.live_bytes) / 1e6, "MB", None)
            off = (out[:, rows].double() - right[masked]).abs()
            errors[name] = float(torch.nan_to_num(off, nan=float("inf")).max())
            group.facts[f"largest error of a hidden state, {name}"] = (errors[name], f"(mean {float(off.mean()):.2e})", None)
            group.attempt(f"attention of all layers, {name}",
                          lambda: measure.Subject(f"attention of all layers, {name}", lambda a=attend: [a(*qkv) for qkv in operands],
                                                  kernel=getattr(attend, "kernel", "")))
        for name, (_, masked) in attends.items():  # what half precision costs anyway is eager's error
            like = "eager, additive mask" if masked else "eager, no mask"
            if name.startswith("ours") and name in errors and like in errors and not errors[name] <= 2 * errors[like] + 1e-3:
                group.wrong.append(f"hidden states of {name} are off by {errors[name]:.4g}; {like} is off by {errors[like]:.4g}")
        lines(group, attends)
        measure.measure(group, rounds, clock, out_of_time, keep)
    return group


def lines(group, attends):
    for what in ("encoder", "attention of all layers"):
        unmasked, dense = f"{what}, ours, no mask", f"{what}, ours, keep"
        group.lines += [measure.ratio(f"{what}: keep, unprepared", dense, unmasked),
                        measure.ratio(f"{what}: key lengths", f"{what}, ours, key lengths", unmasked),
                        measure.ratio(f"{what}: SDPA with its bool mask", f"{what}, SDPA, bool mask", f"{what}, SDPA, no mask")]
        for name, (_, masked) in attends.items():
            if not name.startswith("ours"):
                group.lines.append(measure.faster(f"{what}: ours beside {name}", dense if masked else unmasked, f"{what}, {name}"))
        for name in attends:
            subject = f"{what}, {name}"
            group.lines.append(measure.Line(f"{what}, a layer: {name}", "ms", f"{subject} / {LAYERS}", lambda t, s=subject: t[s] / LAYERS))


def main(arguments):
    parser = argparse.ArgumentParser(prog="whisper.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="begin no round after this time")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--table", metavar="FILE")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the script, on two clips, where there is no GPU")
    restarts.options(parser)
    given = parser.parse_args(arguments)
    for name in ("encoder.safetensors", "reference-encoder.safetensors"):
        if not (given.folder / name).is_file():
            parser.error(f"{given.folder} has no {name}")
    count, why = attn.Library().devices(attn.CUDA)
    if given.device == "cuda" and not count:
        print(f"whisper.py: no CUDA device: {why}")
        return 3
    if given.device == "cuda" and not given.at:
        return restarts.begin_with(given, pathlib.Path(__file__).resolve(), arguments)
    begun = time.monotonic()

    def out_of_time(needed=0):
        return bool(given.budget) and time.monotonic() - begun + needed > given.budget

    torch, setting, clock = timing.torch_setting(given, out_of_time, small=given.device == "cpu")
    info, command = timing.machine(torch, setting), given.command or " ".join(["bench/gpu/whisper.py", *arguments])
    head = "".join(f"- {name}: {value}\n" for name, value in {**info, "command": command}.items())

    def keep(group):
        if given.json:
            measure.write_json(given.json, info, command, [group])
        if given.table:
            measure.write_whole(given.table, head + measure.table(group))

    try:
        group = experiment(setting, given.folder, given.rounds, clock, out_of_time, keep)
    except Exception as problem:
        restarts.end_if_lost(problem, setting.synchronize, setting.watch)
        raise
    keep(group)
    print(head + measure.table(group), end="")
    return 1 if group.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
