"""The error rule of docs/semantics.md on sampled rows: the double-precision result R, the naive computation N in the operands' own type."""


class Judge:
    """Rows of some (batch, head) pairs of one problem; R and N are made once. `sees` is a Sight's function or None."""

    def __init__(self, setting, q, k, v, sees=None, scale=None, pairs=4, rows=64, seed=1):
        torch = self.torch = setting.torch
        B, Hq, Sq, D = q.shape
        group = Hq // k.shape[1]
        scale = D ** -0.5 if scale is None else scale
        generator = torch.Generator().manual_seed(seed)
        ends = [(0, 0), (B - 1, Hq - 1)]
        drawn = [(int(torch.randint(B, (1,), generator=generator)), int(torch.randint(Hq, (1,), generator=generator))) for _ in range(max(0, pairs - 2))]
        self.samples = []
        columns = torch.arange(k.shape[2], device=q.device)[None, :]
        for b, h in dict.fromkeys(ends + drawn):
            at = torch.unique(torch.cat([torch.tensor([0, Sq - 1]), torch.randint(Sq, (rows,), generator=generator)])).to(q.device)
            Q, K, V = q[b, h][at], k[b, h // group], v[b, h // group]
            seen = None
            if sees is not None:
                index = [torch.tensor(n, device=q.device) for n in (b, h)]
                seen = sees(*index, at[:, None], columns).expand(len(at), k.shape[2])
            R = self._right(Q, K, V, seen, scale)
            N = self._naive(Q, K, V, seen, scale)
            blind = torch.zeros(len(at), dtype=torch.bool, device=q.device) if seen is None else ~seen.any(1)
            error = float((N.double() - R)[~blind].abs().max()) if bool((~blind).any()) else 0.0
            allowed = 2 * error + 1e-5 * max(1.0, float(V.double().abs().max()))
            self.samples.append((b, h, at, R, blind, allowed))

    def _right(self, Q, K, V, seen, scale):
        S = scale * (Q.double() @ K.double().T)
        if seen is not None:
            S = S.masked_fill(~seen, float("-inf"))
        return self.torch.softmax(S, -1) @ V.double()

    def _naive(self, Q, K, V, seen, scale):
        """QK^T accumulated in float32, scaled, rounded; softmax in float32; P rounded; PV accumulated in float32, rounded."""
        S = (scale * (Q.float() @ K.float().T)).to(Q.dtype).float()
        if seen is not None:
            S = S.masked_fill(~seen, float("-inf"))
        P = self.torch.softmax(S, -1).to(Q.dtype).float()
        return (P @ V.float()).to(Q.dtype)

    def __call__(self, out, blind_rows_too=True):
        """None, or what is wrong. Rows that see nothing are exactly 0 here; other systems have their own answer there and are not asked."""
        torch = self.torch
        self.share = 0.0  # the largest error as a share of what is allowed
        for b, h, at, R, blind, allowed in self.samples:
            met = out[b, h][at].double()
            if bool((~blind).any()):
                error = (met - R)[~blind].abs()
                worst = float(torch.nan_to_num(error, nan=float("inf")).max())
                self.share = max(self.share, worst / allowed)
                if not worst <= allowed:
                    row, d = divmod(int(torch.nan_to_num(error, nan=float("inf")).argmax()), error.shape[1])
                    i = int(at[~blind][row])
                    return f"O[{d}] of batch {b}, head {h}, row {i} is off by {worst:.3g}; {allowed:.3g} is allowed"
            if blind_rows_too and bool(blind.any()) and not bool((met[blind] == 0).all()):
                return f"a row of batch {b}, head {h} that sees nothing is not 0"
        return None
