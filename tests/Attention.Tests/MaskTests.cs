namespace Attention.Tests;

/// <summary>The algebra of masks: what combines, what does not, and in which words.</summary>
[TestFixture]
internal sealed class MaskTests
{
    private static readonly bool[] s_keep = [true, false, true, true];

    private static IEnumerable<(MaskKind Kind, Mask Mask)> Parts()
    {
        yield return (MaskKind.KeyLengths, Mask.KeyLengths(1, 2));
        yield return (MaskKind.QueryLengths, Mask.QueryLengths(1, 2));
        yield return (MaskKind.Causal, Mask.Causal);
        yield return (MaskKind.Window, Mask.Window(3, -1));
        yield return (MaskKind.Prefix, Mask.Prefix(1, 2));
        yield return (MaskKind.Documents, Mask.Documents([0, 1], [0, 1]));
        yield return (MaskKind.Keep, Mask.Keep(s_keep, [2, 2]));
    }

    [Test]
    public void Parts_of_different_kinds_combine_in_any_order()
    {
        foreach ((MaskKind one, Mask left) in Parts())
        {
            foreach ((MaskKind other, Mask right) in Parts())
            {
                bool refused = one == other || (one | other) == (MaskKind.Causal | MaskKind.Prefix);
                if (refused)
                {
                    ArgumentException error = Assert.Throws<ArgumentException>(() => _ = left & right)!;
                    Assert.That(error.Message, Does.Contain(left.ToString()).And.Contain(right.ToString()), "both are named");
                    Assert.That(error.Message, Does.Not.Contain("\n"));
                }
                else
                {
                    Assert.That((left & right).Kinds.Kinds, Is.EqualTo(one | other));
                    Assert.That((left & right).ToString(), Is.EqualTo((right & left).ToString()));
                }
            }
        }
    }

    [Test]
    public void None_changes_nothing()
    {
        foreach ((MaskKind kind, Mask mask) in Parts())
        {
            Assert.That((Mask.None & mask).Kinds, Is.EqualTo(mask.Kinds));
            Assert.That((mask & Mask.None).ToString(), Is.EqualTo(mask.ToString()), kind.ToString());
        }
        Assert.That(Mask.None.Kinds, Is.EqualTo(MaskKinds.None));
        Assert.That((Mask.None & Mask.None).ToString(), Is.EqualTo("None"));
    }

    [Test]
    public void All_kinds_combine()
    {
        Mask all = Parts().Where(part => part.Kind != MaskKind.Prefix).Select(part => part.Mask).Aggregate((left, right) => left & right);
        Assert.That(all.Kinds, Is.EqualTo(new MaskKinds(
            MaskKind.KeyLengths | MaskKind.QueryLengths | MaskKind.Causal | MaskKind.Window | MaskKind.Documents | MaskKind.Keep, new(1, 1, 2, 2))));
        Assert.That(all.ToString(), Is.EqualTo("KeyLengths[2] & QueryLengths[2] & Causal & Window(3, -1) & Documents([1, 2], [1, 2]) & Keep[1, 1, 2, 2]"));
    }

    [Test]
    public void A_null_is_named()
    {
        Assert.That(() => Mask.Causal & null!, Throws.ArgumentNullException);
        Assert.That(() => Mask.Keep((AttentionTensor)null!), Throws.ArgumentNullException);
        Assert.That(() => AttentionBias.Alibi(1f) + null!, Throws.ArgumentNullException);
    }

    [Test]
    public void Window_ends_below_minus_one_are_refused([Values(-2, long.MinValue, long.MaxValue)] long end)
    {
        Assert.That(() => Mask.Window(end, 0), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains(end.ToString()).And.Property("ParamName").EqualTo("left"));
        Assert.That(() => Mask.Window(0, end), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Property("ParamName").EqualTo("right"));
    }

    [Test]
    public void Keep_wants_bytes_and_a_shape_that_fits()
    {
        Assert.That(Mask.Keep(new bool[12], [3, 2, 2]).Kinds.KeepShape, Is.EqualTo(new ScoreShape(1, 3, 2, 2)), "right-aligned");
        Assert.That(() => Mask.Keep(s_keep, [2, 3]), Throws.ArgumentException.With.Message.Contains("4").And.Message.Contains("6"));
        Assert.That(() => Mask.Keep(s_keep, []), Throws.ArgumentException);
        Assert.That(() => Mask.Keep(s_keep, [1, 1, 1, 2, 2]), Throws.ArgumentException);
        Assert.That(() => Mask.Keep(s_keep, [-1, 2]), Throws.ArgumentException);
        using AttentionTensor floats = AttentionTensor.Borrow<float>(new float[4], [2, 2]);
        Assert.That(() => Mask.Keep(floats), Throws.ArgumentException.With.Message.Contains("float32").And.Message.Contains("AttentionBias"));
        using AttentionTensor bytes = AttentionTensor.Borrow<byte>(new byte[4], [2, 2]);
        Assert.That(() => AttentionBias.Additive(bytes), Throws.ArgumentException.With.Message.Contains("uint8").And.Message.Contains("Keep"));
        Assert.That(() => Mask.KeyLengths(floats), Throws.ArgumentException.With.Message.Contains("float32").And.Message.Contains("int32"));
    }

    [Test]
    public void Documents_want_whole_rows()
    {
        Assert.That(() => Mask.Documents([1, 2, 3], [1, 2], batch: 2), Throws.ArgumentException.With.Message.Contains("3").And.Message.Contains("2 batches"));
        Assert.That(() => Mask.Documents([1], [1], batch: 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Biases_add_once()
    {
        AttentionBias dense = AttentionBias.Additive<float>(new float[4], [2, 2]), slopes = AttentionBias.Alibi(0.5f, 0.25f);
        Assert.That((dense + slopes).Kinds, Is.EqualTo(new BiasKinds(new ScoreShape(1, 1, 2, 2), AttentionDType.Float32, true)));
        Assert.That(() => dense + dense, Throws.ArgumentException.With.Message.Contains(dense.ToString()));
        Assert.That(() => slopes + slopes, Throws.ArgumentException.With.Message.Contains("Alibi[2]"));
    }

    [Test]
    public void Arrays_tell_their_own_type()
    {
        Half[] halves = [(Half)1, (Half)2, (Half)3, (Half)4];
        AttentionBias bias = AttentionBias.Additive(halves, [2, 2]);
        Assert.That(bias.Kinds, Is.EqualTo(new BiasKinds(new ScoreShape(1, 1, 2, 2), AttentionDType.Float16, false)));
        Assert.That(() => AttentionBias.Additive(halves, [3, 2]), Throws.ArgumentException.With.Message.Contains("4").And.Message.Contains("6"));
        Assert.That(() => AttentionBias.Additive((float[])null!, [1]), Throws.ArgumentNullException.With.Property("ParamName").EqualTo("bias"));
        using AttentionTensor tensor = AttentionTensor.Borrow(halves, [2, 2], [1, 2]);
        Assert.That((tensor.DType, tensor.Strides.ToArray()), Is.EqualTo((AttentionDType.Float16, new long[] { 1, 2 })));
        Assert.That(() => AttentionTensor.Borrow(halves, [5]), Throws.ArgumentException.With.Message.Contains("4").And.Message.Contains("5"));
        halves[0] = (Half)7;
        using AttentionTensor plain = AttentionTensor.Borrow(halves, [4]);
        Assert.That(plain.AsSpan<Half>()[0], Is.EqualTo((Half)7), "nothing is copied");
        Assert.That(() => AttentionTensor.Borrow((float[])null!, [1]), Throws.ArgumentNullException.With.Property("ParamName").EqualTo("memory"));
    }

    [Test]
    public void Offsets_are_values_of_a_kind()
    {
        Assert.That(default(QueryOffset), Is.EqualTo(QueryOffset.TopLeft));
        QueryOffset seven = QueryOffset.At(7);
        Assert.That(seven, Is.EqualTo(QueryOffset.At(7)).And.Not.EqualTo(QueryOffset.At(8)));
        Assert.That(QueryOffset.At(-7).ToString(), Is.EqualTo("At(-7)"));
        Assert.That(QueryOffset.PerBatch(1, 2).ToString(), Is.EqualTo("PerBatch[2]"));
        Assert.That(() => QueryOffset.At(1L << 40), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("1099511627776"));
    }
}
