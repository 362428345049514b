"""PyTorch's own attention on the same tensors: each backend of scaled_dot_product_attention, and compiled flex_attention with the making of its mask."""

import measure

BACKENDS = {"flash": "FLASH_ATTENTION", "cuDNN": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}


def _subject(setting, name, call, judge, kernel, before=None):
    last = []

    def kept():
        last[:] = [call()]

    def check():
        kept()
        setting.synchronize()
        return judge(last[0], blind_rows_too=False)

    return measure.Subject(name, kept, before, check if judge else None, kernel, peer=True)


def sdpa(setting, name, backend, q, k, v, masks=None, judge=None, causal=False):
    """`backend`: a name of BACKENDS, or "auto" for what PyTorch picks by itself. `masks` take turns: another address every time, as for us."""
    torch = setting.torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    functional = torch.nn.functional.scaled_dot_product_attention
    turn = [0]
    more = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}

    def attend():
        mask = masks[turn[0] % len(masks)] if masks else None
        return functional(q, k, v, attn_mask=mask, is_causal=causal, **more)

    def call():
        if backend == "auto":
            return attend()
        with sdpa_kernel([getattr(SDPBackend, BACKENDS[backend])]):
            return attend()

    def before():
        turn[0] += 1

    return _subject(setting, name, call, judge, f"torch {torch.__version__}, {backend}", before)


def eager(setting, name, q, k, v, additive=None, judge=None):
    """Matrix products and softmax, as transformers' eager attention: scores in memory, an additive mask."""
    torch = setting.torch
    scale = q.shape[3] ** -0.5

    def call():
        S = torch.matmul(q, k.transpose(2, 3)) * scale
        if additive is not None:
            S = S + additive
        return torch.matmul(torch.softmax(S, -1).to(q.dtype), v)

    return _subject(setting, name, call, judge, "torch, eager")


class Flex:
    """flex_attention, compiled once for each mask function."""

    def __init__(self, setting):
        torch = setting.torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        for limit in ("recompile_limit", "cache_size_limit"):  # each mask function is another compilation of the same function
            if hasattr(torch._dynamo.config, limit):
                setattr(torch._dynamo.config, limit, 64)
        # PyTorch 2.11 can take minutes to compile how create_block_mask sorts some dozens of blocks; later versions leave the sort to ATen, as this does.
        from torch._inductor import ir

        ir.Sort.create = classmethod(lambda cls, device, dtypes, *_, **__: [None] * len(dtypes))
        self.setting = setting
        self.attend = torch.compile(flex_attention, dynamic=False)
        self.make = torch.compile(create_block_mask, dynamic=False)

    def mask(self, sight, q, k):
        B, H = (q.shape[0] if sight.batches > 1 else None), (q.shape[1] if sight.heads > 1 else None)
        return self.make(sight.sees, B, H, q.shape[2], k.shape[2], device=str(self.setting.device))

    def subject(self, name, q, k, v, sight=None, judge=None, reused=False):
        """With a mask: its creation included, unless it is `reused`."""
        gqa = q.shape[1] != k.shape[1]
        ready = self.mask(sight, q, k) if sight and reused else None

        def call():
            block_mask = ready if reused or not sight else self.mask(sight, q, k)
            return self.attend(q, k, v, block_mask=block_mask, enable_gqa=gqa)

        return _subject(self.setting, name, call, judge, "flex_attention" + ("" if not sight else ", mask reused" if reused else ", mask made"))
