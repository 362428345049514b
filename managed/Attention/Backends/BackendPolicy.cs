namespace Attention;

/// <summary>The ways to compute attention; the numbers are the C ABI's.</summary>
public enum AttentionBackend
{
    /// <summary>Tiles in registers, memory linear in length; empty tiles are never visited.</summary>
    Flash = 1,

    /// <summary>Any strides, memory linear in length.</summary>
    MemoryEfficient = 2,

    /// <summary>All scores in memory, float64 inside on the CPU; can return the probabilities. The reference.</summary>
    Naive = 3,
}

/// <summary>Names of backends as users write them.</summary>
public static class AttentionBackendNames
{
    /// <summary>flash, memory-efficient, naive.</summary>
    public static string Name(this AttentionBackend backend) => backend switch
    {
        AttentionBackend.Flash => "flash",
        AttentionBackend.MemoryEfficient => "memory-efficient",
        AttentionBackend.Naive => "naive",
        _ => throw new ArgumentException($"backend is {(int)backend}; Flash, MemoryEfficient or Naive is allowed", nameof(backend)),
    };
}

/// <summary>Why a backend is not taken. Positive numbers are the C ABI's; negative ones are the policy's.</summary>
public enum RefusalReason
{
    /// <summary>A dtype the backend does not compute in.</summary>
    DType = 1,

    /// <summary>Probabilities, which only naive returns.</summary>
    Probabilities = 2,

    /// <summary>A last stride other than 1: flash reads and writes rows whose elements lie side by side.</summary>
    LastStride = 3,

    /// <summary>A head dimension above the kernel's largest.</summary>
    HeadDim = 4,

    /// <summary>A value dimension above the kernel's largest.</summary>
    ValueDim = 5,

    /// <summary>A GPU older than the kernel.</summary>
    Architecture = 6,

    /// <summary>Rows that do not begin on 16 bytes: flash on a GPU copies rows in pieces of 16 bytes.</summary>
    Alignment = 7,

    /// <summary>More of something than a GPU's kernels count.</summary>
    Size = 8,

    /// <summary>More memory than <see cref="BackendPolicy.NaiveMemoryCeiling"/>.</summary>
    MemoryCeiling = -1,
}

/// <summary>One reason why a backend does not take a problem.</summary>
/// <param name="Backend">Who refuses.</param>
/// <param name="Reason">Why.</param>
/// <param name="Met">The number met, e.g. a head dimension of 600.</param>
/// <param name="Limit">What would have been taken, e.g. 512.</param>
/// <param name="Text">A sentence with both.</param>
public sealed record Refusal(AttentionBackend Backend, RefusalReason Reason, long Met, long Limit, string Text)
{
    /// <summary>flash: its sentence.</summary>
    public override string ToString() => $"{Backend.Name()}: {Text}";
}

/// <summary>
/// Which backend a plan may take: the first of an order that does not refuse the problem. Given per plan, per call, or to a context; never to the process.
/// </summary>
/// <remarks>Immutable and compared by value. Every refusal is kept in the plan; nothing falls back silently.</remarks>
public sealed record BackendPolicy
{
    /// <summary>What naive may need beyond its operands where no ceiling is given: 1 GiB.</summary>
    public const long DefaultNaiveMemoryCeiling = 1L << 30;

    private static readonly AttentionBackend[] s_order = [AttentionBackend.Flash, AttentionBackend.MemoryEfficient, AttentionBackend.Naive];

    private readonly AttentionBackend[] _order;
    private readonly bool _only;

    private BackendPolicy(AttentionBackend[] order, bool only)
    {
        _order = order;
        _only = only;
    }

    /// <summary>flash, else memory-efficient, else naive.</summary>
    public static BackendPolicy Auto { get; } = new(s_order, only: false);

    /// <summary>Which backends may be taken, first first.</summary>
    public IReadOnlyList<AttentionBackend> Order => _order;

    /// <summary>Whether backends outside <see cref="Order"/> are forbidden, not only last.</summary>
    public bool IsOnly => _only;

    /// <summary>Whether the kernel is picked from Sq, Sk, D, Dv, dtype, kinds of mask and what strides rule out alone, so that a row's bits never depend on batch
    /// or heads.</summary>
    public bool Deterministic { get; init; }

    /// <summary>How many bytes naive may need beyond its operands, 0 or more. Null: <see cref="DefaultNaiveMemoryCeiling"/>, but no ceiling under
    /// <see cref="Only"/>.</summary>
    public long? NaiveMemoryCeiling { get; init; }

    /// <summary>These first, in this order; then the others.</summary>
    /// <exception cref="ArgumentException">None is named, or one twice, or one is no backend.</exception>
    public static BackendPolicy Prefer(params ReadOnlySpan<AttentionBackend> backends)
    {
        AttentionBackend[] first = Checked(backends);
        return new([.. first, .. s_order.Except(first)], only: false);
    }

    /// <summary>These and no other, in this order; a plan that none of them takes is a <see cref="BackendRefusedException"/>.</summary>
    /// <exception cref="ArgumentException">None is named, or one twice, or one is no backend.</exception>
    public static BackendPolicy Only(params ReadOnlySpan<AttentionBackend> backends) => new(Checked(backends), only: true);

    /// <inheritdoc/>
    public bool Equals(BackendPolicy? other) =>
        other is not null && _only == other._only && Deterministic == other.Deterministic && NaiveMemoryCeiling == other.NaiveMemoryCeiling
        && _order.AsSpan().SequenceEqual(other._order);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(_only, Deterministic, NaiveMemoryCeiling, _order.Length, _order[0]);

    /// <summary>auto, or only(flash, naive), or prefer(naive, flash, memory-efficient).</summary>
    public override string ToString()
    {
        string order = string.Join(", ", _order.Select(b => b.Name()));
        return _only ? $"only({order})" : _order.AsSpan().SequenceEqual(s_order) ? "auto" : $"prefer({order})";
    }

    /// <summary>The ceiling that counts; null: none.</summary>
    internal long? Ceiling => NaiveMemoryCeiling ?? (_only ? null : DefaultNaiveMemoryCeiling);

    private static AttentionBackend[] Checked(ReadOnlySpan<AttentionBackend> backends)
    {
        if (backends.IsEmpty)
        {
            throw new ArgumentException("backends is empty; at least one of Flash, MemoryEfficient, Naive is needed", nameof(backends));
        }
        AttentionBackend[] copy = backends.ToArray();
        foreach (AttentionBackend backend in copy)
        {
            _ = backend.Name();
            if (copy.Count(b => b == backend) > 1)
            {
                throw new ArgumentException($"backends has {backend.Name()} twice; each may be named once", nameof(backends));
            }
        }
        return copy;
    }
}
