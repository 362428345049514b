using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention;

/// <summary>What a problem knows of its additive terms: whether there is a bias, of which dtype and sizes, and whether there is ALiBi. No values.</summary>
/// <param name="Shape">The sizes of the bias; null where there is none.</param>
/// <param name="DType">float32 or the problem's dtype; of no meaning where there is no bias.</param>
/// <param name="Alibi">Whether ALiBi is added.</param>
public readonly record struct BiasKinds(ScoreShape? Shape, AttentionDType DType, bool Alibi)
{
    /// <summary>Nothing is added.</summary>
    public static BiasKinds None => default;
}

/// <summary>What is added to the scores before the mask: a dense bias, ALiBi, or both (<c>+</c>).</summary>
/// <remarks>Immutable and safe to use from any number of threads. Memory and tensors are borrowed: each run reads what they hold then; a bias is not read where
/// the mask hides, and -inf in it hides too.</remarks>
public sealed class AttentionBias
{
    private readonly AttentionTensor? _bias;
    private readonly AttentionTensor? _slopes;

    private AttentionBias(AttentionTensor? bias, AttentionTensor? slopes)
    {
        _bias = bias;
        _slopes = slopes;
        Kinds = new(bias is null ? null : ScoreShape.Of(bias.Shape), bias?.DType ?? default, slopes is not null);
    }

    /// <summary>What <see cref="AttentionProblem.Bias"/> wants to know.</summary>
    public BiasKinds Kinds { get; }

    /// <summary>Adds bias[b, h, i, j].</summary>
    /// <param name="bias">Row-major; borrowed, not copied.</param>
    /// <param name="shape">1 to 4 sizes, right-aligned to [B, Hq, Sq, Sk], each 1 (the same for all) or full.</param>
    /// <typeparam name="T">float, or the type of Q, K and V.</typeparam>
    /// <exception cref="ArgumentException">The shape is none, or reaches past the memory's end.</exception>
    public static AttentionBias Additive<T>(ReadOnlyMemory<T> bias, ReadOnlySpan<long> shape)
        where T : unmanaged => Additive(AttentionTensor.Borrow(MemoryMarshal.AsMemory(bias), shape)); // only read

    /// <summary>Adds bias[b, h, i, j].</summary>
    /// <param name="bias">Row-major; borrowed, not copied.</param>
    /// <param name="shape">1 to 4 sizes, right-aligned to [B, Hq, Sq, Sk], each 1 (the same for all) or full.</param>
    /// <typeparam name="T">float, or the type of Q, K and V.</typeparam>
    /// <exception cref="ArgumentException">The shape is none, or reaches past the array's end.</exception>
    public static AttentionBias Additive<T>(T[] bias, ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(bias);
        return Additive(new ReadOnlyMemory<T>(bias), shape);
    }

    /// <summary>Adds bias[b, h, i, j].</summary>
    /// <param name="bias">float32 or Q's dtype, of 1 to 4 dimensions and any strides, right-aligned to [B, Hq, Sq, Sk], each 1 or full; borrowed.</param>
    /// <exception cref="ArgumentException">Not a tensor of floating-point numbers.</exception>
    public static AttentionBias Additive(AttentionTensor bias)
    {
        ArgumentNullException.ThrowIfNull(bias);
        if (bias.DType is AttentionDType.Int32 or AttentionDType.UInt8)
        {
            throw new ArgumentException($"bias is {DTypes.Name(bias.DType)}; a floating-point tensor is needed; bytes are a Mask.Keep", nameof(bias));
        }
        return new(bias, null);
    }

    /// <summary>Adds -slope[h] * |p - j|, where p is the query's position.</summary>
    /// <param name="slopes">One per query head; copied.</param>
    public static AttentionBias Alibi(params ReadOnlySpan<float> slopes) => new(null, AttentionTensor.Copy(slopes, [slopes.Length]));

    /// <summary>Adds -slope[h] * |p - j|, where p is the query's position.</summary>
    /// <param name="slopes">float32 [Hq]; borrowed.</param>
    /// <exception cref="ArgumentException">Another dtype or rank.</exception>
    public static AttentionBias Alibi(AttentionTensor slopes)
    {
        ArgumentNullException.ThrowIfNull(slopes);
        if (slopes.DType != AttentionDType.Float32 || slopes.Rank != 1)
        {
            throw new ArgumentException($"slopes is {slopes}; float32 [query heads] is needed", nameof(slopes));
        }
        return new(null, slopes);
    }

    /// <summary>Both are added.</summary>
    /// <exception cref="ArgumentException">Both have a dense bias, or both have slopes.</exception>
    public static AttentionBias operator +(AttentionBias left, AttentionBias right)
    {
        ArgumentNullException.ThrowIfNull(left);
        ArgumentNullException.ThrowIfNull(right);
        if ((left._bias is not null && right._bias is not null) || (left._slopes is not null && right._slopes is not null))
        {
            throw new ArgumentException($"'{left}' and '{right}' are both given; one dense bias and one set of slopes are allowed", nameof(right));
        }
        return new(left._bias ?? right._bias, left._slopes ?? right._slopes);
    }

    /// <summary>Additive[1, 20, 1500, 1500] + Alibi[20]</summary>
    public override string ToString()
    {
        string bias = Kinds.Shape is { } shape ? $"Additive{shape}" : "", slopes = _slopes is null ? "" : $"Alibi{TensorShape.Text(_slopes.Shape)}";
        return bias + (bias.Length > 0 && slopes.Length > 0 ? " + " : "") + slopes;
    }

    internal unsafe void Bind(RunFrame* frame, ref Holds holds)
    {
        if (_bias is not null)
        {
            frame->Args.bias = _bias.Bind(&frame->Bias, ref holds);
        }
        if (_slopes is not null)
        {
            frame->Args.alibi_slopes = _slopes.Bind(&frame->Slopes, ref holds);
        }
    }
}
