using System.Runtime.InteropServices;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>How Q, K, V and O lie in memory.</summary>
internal enum Layout
{
    /// <summary>[B, H, S, D], contiguous.</summary>
    Bhsd,

    /// <summary>[B, S, H, D], contiguous.</summary>
    Bshd,

    /// <summary>Rows side by side, with room after each row, head and batch.</summary>
    Gaps,

    /// <summary>Every second element: the last stride is 2.</summary>
    Spread,
}

/// <summary>How a problem is put to the library.</summary>
internal readonly record struct Manner(Layout Layout = Layout.Bhsd, bool Probabilities = false, bool Prepared = false, bool Deterministic = false);

/// <summary>The reference's problems through the library's public surface.</summary>
internal static class Library
{
    /// <summary>Runs the problem on one backend.</summary>
    /// <exception cref="BackendRefusedException">The backend does not take it.</exception>
    public static (Result Result, RunReport Report) Run(AttentionContext context, Problem p, AttentionBackend backend, Manner manner = default) => p.Type switch
    {
        Element.F32 => Run<float>(context, p, backend, manner, x => (float)x, x => x),
        Element.F16 => Run<Half>(context, p, backend, manner, x => (Half)x, x => (double)x),
        _ => Run<BFloat16>(context, p, backend, manner, x => (BFloat16)x, x => x),
    };

    /// <summary>Runs it on one backend and takes the verdict of the reference.</summary>
    public static Result Judged(AttentionContext context, Problem p, AttentionBackend backend, Manner manner = default, Judge? judge = null)
    {
        Result result = Run(context, p, backend, manner).Result;
        Assert.That((judge ?? new Judge(p)).Fault(result), Is.Null, $"{p}, {manner}");
        return result;
    }

    public static Mask MaskOf(Problem p)
    {
        Mask mask = Mask.None;
        mask &= p.KeyLengths is null ? Mask.None : Mask.KeyLengths(p.KeyLengths.AsSpan());
        mask &= p.QueryLengths is null ? Mask.None : Mask.QueryLengths(p.QueryLengths.AsSpan());
        mask &= p.Causal ? Mask.Causal : Mask.None;
        mask &= p.Window is var (left, right) ? Mask.Window(left, right) : Mask.None;
        mask &= p.Prefix is null ? Mask.None : Mask.Prefix(p.Prefix.AsSpan());
        mask &= p.QueryDocuments is null ? Mask.None : Mask.Documents(p.QueryDocuments.AsSpan(), p.KeyDocuments.AsSpan(), p.B);
        return mask & (p.Keep is null ? Mask.None : Mask.Keep(p.Keep.Data, Longs(p.Keep.Shape)));
    }

    public static AttentionBias? BiasOf(Problem p)
    {
        AttentionBias? dense = p.Bias is null ? null
            : !p.BiasOfType || p.Type == Element.F32 ? AttentionBias.Additive<float>(Array.ConvertAll(p.Bias.Data, x => (float)x), Longs(p.Bias.Shape))
            : p.Type == Element.F16 ? AttentionBias.Additive<Half>(Array.ConvertAll(p.Bias.Data, x => (Half)x), Longs(p.Bias.Shape))
            : AttentionBias.Additive<BFloat16>(Array.ConvertAll(p.Bias.Data, x => (BFloat16)x), Longs(p.Bias.Shape));
        AttentionBias? slopes = p.Slopes is null ? null : AttentionBias.Alibi(p.Slopes.AsSpan());
        return dense is not null && slopes is not null ? dense + slopes : dense ?? slopes;
    }

    public static QueryOffset OffsetOf(Problem p) => p.OffsetKind switch
    {
        OffsetKind.BottomRight => QueryOffset.BottomRight,
        OffsetKind.Value => QueryOffset.At(p.Offset),
        OffsetKind.PerBatch => QueryOffset.PerBatch(p.Offsets.AsSpan()),
        _ => QueryOffset.TopLeft,
    };

    public static AttentionDType DTypeOf(Problem p) => p.Type switch
    {
        Element.F32 => AttentionDType.Float32,
        Element.F16 => AttentionDType.Float16,
        _ => AttentionDType.BFloat16,
    };

    /// <summary>The problem without its data: contiguous operands.</summary>
    public static AttentionProblem Describe(Problem p) => new()
    {
        DType = DTypeOf(p),
        Batch = p.B,
        QueryHeads = p.Hq,
        KeyHeads = p.Hkv,
        Queries = p.Sq,
        Keys = p.Sk,
        HeadDim = p.D,
        ValueDim = p.Dv,
        Mask = MaskOf(p).Kinds,
        Bias = BiasOf(p)?.Kinds ?? BiasKinds.None,
        Offset = OffsetOf(p),
        Scale = p.Scale,
        Softcap = p.Softcap,
    };

    /// <summary>An operand [B, H, S, D] laid out in memory; what lies between its elements is <paramref name="between"/>.</summary>
    public static AttentionTensor Laid<T>(double[] data, int b, int h, int s, int d, Layout layout, Func<double, T> convert, T between, out T[] memory)
        where T : unmanaged
    {
        long[] strides = layout switch
        {
            Layout.Bhsd => [(long)h * s * d, (long)s * d, d, 1],
            Layout.Bshd => [(long)h * s * d, d, (long)h * d, 1],
            Layout.Gaps => [((long)h * ((s * (d + 3)) + 5)) + 7, (s * (d + 3L)) + 5, d + 3, 1],
            _ => [(long)h * s * d * 2, (long)s * d * 2, d * 2L, 2],
        };
        long extent = 1 + ((b - 1) * strides[0]) + ((h - 1) * strides[1]) + ((s - 1) * strides[2]) + ((d - 1) * strides[3]);
        memory = new T[Math.Max(0, Math.Min(Math.Min(b, h), s) == 0 ? 0 : extent)];
        memory.AsSpan().Fill(between);
        int at = 0;
        foreach (long place in Places(b, h, s, d, strides))
        {
            memory[place] = convert(data[at++]);
        }
        return AttentionTensor.Borrow<T>(memory, [b, h, s, d], strides);
    }

    /// <summary>Two parts of a problem, over disjoint keys, become one.</summary>
    public static Result Merge(AttentionContext context, Problem p, Result first, Result second) => p.Type switch
    {
        Element.F32 => Merge<float>(context, p, first, second, x => (float)x, x => x),
        Element.F16 => Merge<Half>(context, p, first, second, x => (Half)x, x => (double)x),
        _ => Merge<BFloat16>(context, p, first, second, x => (BFloat16)x, x => x),
    };

    private static Result Merge<T>(AttentionContext context, Problem p, Result first, Result second, Func<double, T> convert, Func<T, double> back)
        where T : unmanaged
    {
        T[] o = Array.ConvertAll(first.O, x => convert(x));
        float[] lse = Array.ConvertAll(first.LSE!, x => (float)x);
        Placed<T> O(T[] memory) => new(context, AttentionTensor.Borrow<T>(memory, [p.B, p.Hq, p.Sq, p.Dv]), memory);
        Placed<float> Lse(float[] memory) => new(context, AttentionTensor.Borrow<float>(memory, [p.B, p.Hq, p.Sq]), memory);
        using Placed<T> o1 = O(o), o2 = O(Array.ConvertAll(second.O, x => convert(x)));
        using Placed<float> lse1 = Lse(lse), lse2 = Lse(Array.ConvertAll(second.LSE!, x => (float)x));
        ScaledDotProductAttention.Merge(o1.Tensor, lse1.Tensor, o2.Tensor, lse2.Tensor, o1.Tensor, lse1.Tensor, context); // in place
        o1.Fetch();
        lse1.Fetch();
        return new(Array.ConvertAll(o, x => back(x)), Array.ConvertAll(lse, x => (double)x));
    }

    private static (Result, RunReport) Run<T>(AttentionContext context, Problem p, AttentionBackend backend, Manner manner, Func<double, T> convert, Func<T, double> back)
        where T : unmanaged
    {
        T poison = convert(double.NaN), untouched = convert(77);
        using AttentionTensor qHost = Laid(p.Q, p.B, p.Hq, p.Sq, p.D, manner.Layout, convert, poison, out T[] qData);
        using AttentionTensor kHost = Laid(p.K, p.B, p.Hkv, p.Sk, p.D, manner.Layout, convert, poison, out T[] kData);
        using AttentionTensor vHost = Laid(p.V, p.B, p.Hkv, p.Sk, p.Dv, manner.Layout, convert, poison, out T[] vData);
        double[] filled = new double[p.B * p.Hq * p.Sq * p.Dv];
        filled.AsSpan().Fill(77);
        using AttentionTensor oHost = Laid(filled, p.B, p.Hq, p.Sq, p.Dv, manner.Layout, convert, untouched, out T[] memory);
        float[] lse = new float[p.B * p.Hq * p.Sq], probabilities = new float[manner.Probabilities ? (long)p.B * p.Hq * p.Sq * p.Sk : 0];
        using AttentionTensor lseHost = AttentionTensor.Borrow<float>(lse, [p.B, p.Hq, p.Sq]);
        using AttentionTensor? pHost = manner.Probabilities ? AttentionTensor.Borrow<float>(probabilities, [p.B, p.Hq, p.Sq, p.Sk]) : null;
        using Placed<T> q = new(context, qHost, qData), k = new(context, kHost, kData), v = new(context, vHost, vData), output = new(context, oHost, memory);
        using Placed<float> lseThere = new(context, lseHost, lse);
        using Placed<float>? pThere = pHost is null ? null : new(context, pHost, probabilities);
        Mask mask = MaskOf(p);
        using PreparedMask? prepared = manner.Prepared ? context.Prepare(mask) : null;
        AttentionBias? bias = BiasOf(p);
        AttentionProblem problem = AttentionProblem.For(q.Tensor, k.Tensor, v.Tensor, output.Tensor) with
        {
            Mask = mask.Kinds,
            Bias = bias?.Kinds ?? BiasKinds.None,
            Offset = OffsetOf(p),
            Scale = p.Scale,
            Softcap = p.Softcap,
            Probabilities = manner.Probabilities,
        };
        using AttentionPlan plan = context.Plan(problem, BackendPolicy.Only(backend) with { Deterministic = manner.Deterministic });
        RunReport report = plan.Run(
            q.Tensor, k.Tensor, v.Tensor, output.Tensor, mask: prepared ?? mask, logSumExp: lseThere.Tensor, bias: bias, probabilities: pThere?.Tensor);
        output.Fetch();
        lseThere.Fetch();
        pThere?.Fetch();
        HashSet<long> written = manner.Layout is Layout.Gaps or Layout.Spread ? [.. Places(p.B, p.Hq, p.Sq, p.Dv, oHost.Strides.ToArray())] : [];
        for (long place = 0; written.Count > 0 && place < memory.LongLength; place++)
        {
            if (!written.Contains(place) && back(memory[place]) != 77)
            {
                throw new AssertionException($"{p}, {manner}: element {place} between the rows of the output was written");
            }
        }
        double[] o = [.. Places(p.B, p.Hq, p.Sq, p.Dv, oHost.Strides.ToArray()).Select(place => back(memory[place]))];
        return (new(o, Array.ConvertAll(lse, x => (double)x), manner.Probabilities ? Array.ConvertAll(probabilities, x => (double)x) : null), report);
    }

    private static IEnumerable<long> Places(int b, int h, int s, int d, long[] strides)
    {
        for (int ib = 0; ib < b; ib++)
        {
            for (int ih = 0; ih < h; ih++)
            {
                for (int i = 0; i < s; i++)
                {
                    long row = (ib * strides[0]) + (ih * strides[1]) + (i * strides[2]);
                    for (int c = 0; c < d; c++)
                    {
                        yield return row + (c * strides[3]);
                    }
                }
            }
        }
    }

    /// <summary>[B, X, Y, D] to [B, Y, X, D].</summary>
    public static double[] Turned(double[] data, int batch, int x, int y, int d)
    {
        double[] turned = new double[data.Length];
        for (int b = 0; b < batch; b++)
        {
            for (int at = 0; at < x * y; at++)
            {
                data.AsSpan(((b * x * y) + at) * d, d).CopyTo(turned.AsSpan(((b * x * y) + (at % y * x) + (at / y)) * d, d));
            }
        }
        return turned;
    }

    public static long[] Longs(int[] sizes) => Array.ConvertAll(sizes, size => (long)size);

    /// <summary>Whether two results are the same bits.</summary>
    public static bool Same(double[] one, double[] other) => MemoryMarshal.Cast<double, long>(one).SequenceEqual(MemoryMarshal.Cast<double, long>(other));
}
