"""Who sees whom, as a function of indices: one definition for the reference, dense masks, flex_attention's mask_mod and the share of visible tiles."""

import attention as attn


class Sight:
    """`sees(b, h, q, k)` on index tensors that broadcast; `make_mask(place)` the same as values for the library, `place` makes an array of a tensor."""

    def __init__(self, name, sees, make_mask=None, batches=1, heads=1):
        self.name, self.sees, self.make_mask = name, sees, make_mask
        self.batches, self.heads = batches, heads  # 1 where the mask does not depend on them

    def dense(self, setting, B, H, Sq, Sk):
        """[B or 1, H or 1, Sq, Sk] bool."""
        torch = setting.torch
        batches, heads = (B if self.batches > 1 else 1), (H if self.heads > 1 else 1)
        out = torch.empty(batches, heads, Sq, Sk, dtype=torch.bool, device=setting.device)
        q, k = torch.arange(Sq, device=setting.device)[:, None], torch.arange(Sk, device=setting.device)[None, :]
        for b in range(batches):
            for h in range(heads):
                index = [torch.tensor(n, device=setting.device) for n in (b, h)]
                out[b, h] = self.sees(*index, q, k)
        return out

    def share(self, setting, B, H, Sq, Sk, tile=128):
        """The share of tile x tile tiles in which somebody sees something."""
        torch = setting.torch
        dense = self.dense(setting, B, H, Sq, Sk)
        rows, columns = -(-Sq // tile), -(-Sk // tile)
        visible = total = 0
        for b in range(dense.shape[0]):
            for h in range(dense.shape[1]):
                padded = torch.zeros(rows * tile, columns * tile, dtype=torch.bool, device=setting.device)
                padded[:Sq, :Sk] = dense[b, h]
                visible += int(padded.view(rows, tile, columns, tile).any(3).any(1).sum())
                total += rows * columns
        return visible / total


def lengths(setting, values):
    n = setting.ints(values)
    return Sight("key lengths", lambda b, h, q, k: k < n[b], lambda place: attn.Mask(key_lengths=place(n)), batches=len(values))


def causal(setting):
    return Sight("causal", lambda b, h, q, k: k <= q, lambda place: attn.Mask(causal=True))


def window(setting, left):
    """Causal, and no further back than `left`."""
    return Sight("causal window", lambda b, h, q, k: (k <= q) & (q - k <= left), lambda place: attn.Mask(causal=True, window=(left, -1)))


def prefix(setting, B, length):
    f = setting.ints([length] * B)
    return Sight("prefix", lambda b, h, q, k: (k < f[b]) | (k <= q), lambda place: attn.Mask(prefix=place(f)), batches=B)


def documents(setting, B, S, count):
    """`count` documents of uneven lengths in a sequence."""
    torch = setting.torch
    bounds = torch.arange(1, count, device=setting.device) * S // count + (torch.arange(1, count, device=setting.device) * 37 % 101) - 50
    ids = torch.bucketize(torch.arange(S, device=setting.device), bounds, right=True).to(torch.int32)[None, :].repeat(B, 1).contiguous()
    index = ids.long()
    return Sight("documents", lambda b, h, q, k: index[b, q] == index[b, k], lambda place: attn.Mask(documents=(place(ids), place(ids))), batches=B)


def of_dense(name, mask):
    """A dense bool mask [B or 1, H or 1, Sq, Sk]."""
    B, H = mask.shape[:2]
    return Sight(name, lambda b, h, q, k: mask[b if B > 1 else 0, h if H > 1 else 0, q, k], batches=B, heads=H)
