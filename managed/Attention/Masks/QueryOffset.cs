using System.Globalization;
using Attention.Interop;

namespace Attention;

/// <summary>How a query's position follows from its index; the numbers are the C ABI's.</summary>
public enum QueryOffsetKind
{
    /// <summary>p = i.</summary>
    TopLeft = 0,

    /// <summary>p = i + n[b] - m[b]: the last query stands at the last key.</summary>
    BottomRight = 1,

    /// <summary>p = i + a number that each run gives.</summary>
    Value = 2,

    /// <summary>p = i + a number per batch that each run gives.</summary>
    PerBatch = 3,
}

/// <summary>
/// Where query i stands among the keys: p = i + offset. Causal, window, prefix and ALiBi read it alike. A plan keeps the kind; the numbers of <see cref="At"/>
/// and <see cref="PerBatch(ReadOnlySpan{int})"/> are values, which a run may replace by others of the kind.
/// </summary>
/// <remarks>Immutable. The default value is top-left.</remarks>
public readonly struct QueryOffset : IEquatable<QueryOffset>
{
    private readonly long _value;
    private readonly AttentionTensor? _values;

    private QueryOffset(QueryOffsetKind kind, long value = 0, AttentionTensor? values = null)
    {
        Kind = kind;
        _value = value;
        _values = values;
    }

    /// <summary>p = i: PyTorch's is_causal. The default.</summary>
    public static QueryOffset TopLeft => default;

    /// <summary>p = i + n[b] - m[b], the lengths of keys and queries: a cache before the queries.</summary>
    public static QueryOffset BottomRight => new(QueryOffsetKind.BottomRight);

    /// <summary>How positions follow.</summary>
    public QueryOffsetKind Kind { get; }

    /// <summary>p = i + offset: a past length.</summary>
    /// <param name="offset">A 32-bit number; may be negative.</param>
    /// <exception cref="ArgumentOutOfRangeException">Not a 32-bit number.</exception>
    public static QueryOffset At(long offset) => offset is >= int.MinValue and <= int.MaxValue
        ? new(QueryOffsetKind.Value, offset)
        : throw new ArgumentOutOfRangeException(nameof(offset), offset, $"offset is {offset}; a 32-bit number is needed");

    /// <summary>p = i + offsets[b].</summary>
    /// <param name="offsets">One per batch; copied.</param>
    public static QueryOffset PerBatch(params ReadOnlySpan<int> offsets) =>
        new(QueryOffsetKind.PerBatch, values: AttentionTensor.Copy(offsets, [offsets.Length]));

    /// <summary>p = i + offsets[b].</summary>
    /// <param name="offsets">int32 [B]; borrowed: each run reads what it holds then.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static QueryOffset PerBatch(AttentionTensor offsets)
    {
        ArgumentNullException.ThrowIfNull(offsets);
        if (offsets.DType != AttentionDType.Int32 || offsets.Rank != 1)
        {
            throw new ArgumentException($"offsets is {offsets}; int32 [batch] is needed", nameof(offsets));
        }
        return new(QueryOffsetKind.PerBatch, values: offsets);
    }

    /// <summary>Whether kind and number are the same, and the tensor of offsets is the same object.</summary>
    public bool Equals(QueryOffset other) => Kind == other.Kind && _value == other._value && ReferenceEquals(_values, other._values);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is QueryOffset other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Kind, _value);

    /// <summary>As <see cref="Equals(QueryOffset)"/>.</summary>
    public static bool operator ==(QueryOffset left, QueryOffset right) => left.Equals(right);

    /// <summary>Not <see cref="Equals(QueryOffset)"/>.</summary>
    public static bool operator !=(QueryOffset left, QueryOffset right) => !left.Equals(right);

    /// <summary>TopLeft, BottomRight, At(7), PerBatch[8]</summary>
    public override string ToString() => Kind switch
    {
        QueryOffsetKind.Value => string.Create(CultureInfo.InvariantCulture, $"At({_value})"),
        QueryOffsetKind.PerBatch => $"PerBatch{TensorShape.Text(_values!.Shape)}",
        _ => Kind.ToString(),
    };

    internal unsafe void Bind(RunFrame* frame, ref Holds holds)
    {
        frame->Args.offset = _value;
        if (_values is not null)
        {
            frame->Args.offsets = _values.Bind(&frame->Offsets, ref holds);
        }
    }
}
