namespace Attention.Tests;

/// <summary>Arrays of elements: types, shapes, strides, who owns the memory.</summary>
[TestFixture]
internal sealed class TensorTests
{
    [Test]
    public void Each_type_has_its_dtype()
    {
        Check<float>(AttentionDType.Float32, "float32");
        Check<Half>(AttentionDType.Float16, "float16");
        Check<BFloat16>(AttentionDType.BFloat16, "bfloat16");
        Check<double>(AttentionDType.Float64, "float64");
        Check<int>(AttentionDType.Int32, "int32");
        Check<byte>(AttentionDType.UInt8, "uint8");
        Check<bool>(AttentionDType.UInt8, "uint8");

        static void Check<T>(AttentionDType dtype, string name)
            where T : unmanaged
        {
            using AttentionTensor tensor = AttentionTensor.Borrow<T>(new T[6], [2, 3]);
            Assert.That(tensor.DType, Is.EqualTo(dtype));
            Assert.That(tensor.ToString(), Is.EqualTo($"{name} [2, 3] on cpu"));
            Assert.That(tensor.AsSpan<T>().Length, Is.EqualTo(6));
        }
    }

    [Test]
    public void Another_type_is_refused_and_named()
    {
        Assert.That(() => AttentionTensor.Borrow<long>(new long[2], [2]), Throws.ArgumentException.With.Message.Contains("Int64").And.Message.Contains("Half"));
        using AttentionTensor tensor = AttentionTensor.Borrow<float>(new float[2], [2]);
        Assert.That(() => tensor.AsSpan<Half>(), Throws.ArgumentException.With.Message.Contains("Half").And.Message.Contains("float32"));
        Assert.That(() => tensor.Download<int>(new int[2]), Throws.ArgumentException.With.Message.Contains("float32"));
        Assert.That(() => tensor.Upload<Half>(new Half[2]), Throws.ArgumentException.With.Message.Contains("float32"));
    }

    [Test]
    public void Borrowed_memory_is_the_callers_own()
    {
        float[] memory = [1, 2, 3, 4];
        using AttentionTensor tensor = AttentionTensor.Borrow<float>(memory, [2, 2]);
        memory[3] = 9;
        Assert.That(tensor.AsSpan<float>()[3], Is.EqualTo(9));
        tensor.AsSpan<float>()[0] = 7;
        Assert.That(memory[0], Is.EqualTo(7));
        Assert.That(tensor.IsOwned, Is.False);
        Assert.That(tensor.Context, Is.Null);
    }

    [Test]
    public void A_size_of_one_has_no_stride_and_a_stride_of_zero_repeats()
    {
        using AttentionTensor one = AttentionTensor.Borrow<float>(new float[4], [1, 1, 2, 2], [0, 0, 2, 1]);
        Assert.That(one.IsContiguous, Is.True);
        using AttentionTensor odd = AttentionTensor.Borrow<float>(new float[4], [1, 1, 2, 2], [99, 99, 2, 1]);
        Assert.That(odd.IsContiguous, Is.True);
        using AttentionTensor repeated = AttentionTensor.Borrow<float>(new float[2], [8, 2], [0, 1]);
        Assert.That(repeated.IsContiguous, Is.False);
        Assert.That(() => repeated.AsSpan<float>(), Throws.InvalidOperationException.With.Message.Contains("[0, 1]"));
    }

    [Test]
    public void Shapes_and_strides_that_reach_too_far_are_refused()
    {
        float[] memory = new float[6];
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [2, 4]), Throws.ArgumentException.With.Message.Contains("6").And.Message.Contains("8"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [2, 3], [4, 1]), Throws.ArgumentException.With.Message.Contains("7"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [2, 3], [-3, 1]), Throws.ArgumentException.With.Message.Contains("-3"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [2, 3], [1]), Throws.ArgumentException.With.Message.Contains("2 dimensions"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, []), Throws.ArgumentException.With.Message.Contains("0 dimensions"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [1, 1, 1, 2, 3]), Throws.ArgumentException.With.Message.Contains("5 dimensions"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [2, -3]), Throws.ArgumentException.With.Message.Contains("-3"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [long.MaxValue, 2]), Throws.ArgumentException.With.Message.Contains("overflow"));
        Assert.That(() => AttentionTensor.Borrow<float>(memory, [3, 2], [long.MaxValue, 1]), Throws.ArgumentException.With.Message.Contains("overflow"));
    }

    [Test]
    public void Pointers_need_an_address_and_a_place()
    {
        Assert.That(() => AttentionTensor.FromDevicePointer(0, AttentionDType.Float32, [2]), Throws.ArgumentException.With.Property("ParamName").EqualTo("pointer"));
        Assert.That(() => AttentionTensor.FromDevicePointer(64, AttentionDType.Float32, [2], device: AttentionDevice.Auto), Throws.ArgumentException.With.Message.Contains("auto"));
        Assert.That(() => AttentionTensor.FromDevicePointer(64, (AttentionDType)77, [2]), Throws.ArgumentException.With.Message.Contains("77"));
        using AttentionTensor device = AttentionTensor.FromDevicePointer(64, AttentionDType.Float16, [2], device: AttentionDevice.Cuda(1));
        Assert.That(device.ToString(), Is.EqualTo("float16 [2] on cuda:1"));
        Assert.That(() => device.AsSpan<Half>(), Throws.InvalidOperationException.With.Message.Contains("cuda:1"));
        Assert.That(() => AttentionDevice.Cuda(-1), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void A_transposed_view_keeps_the_memory()
    {
        AttentionTensor tensor = AttentionTensor.Borrow<float>(new float[24], [1, 2, 3, 4]);
        using AttentionTensor view = tensor.Transpose(1, 2);
        tensor.Dispose();
        Assert.That(view.Shape.ToArray(), Is.EqualTo(new long[] { 1, 3, 2, 4 }));
        Assert.That(view.Strides.ToArray(), Is.EqualTo(new long[] { 24, 4, 12, 1 }));
        Assert.That(view.Address, Is.Not.Zero);
        Assert.That(() => view.Transpose(0, 4), Throws.InstanceOf<ArgumentOutOfRangeException>());
        AttentionTensor own = Contexts.Cpu.Upload<float>([1, 2], [2]);
        using AttentionTensor same = own.Transpose(0, 0);
        own.Dispose();
        Assert.That(same.AsSpan<float>().ToArray(), Is.EqualTo(new float[] { 1, 2 }));
    }

    [Test]
    public void After_dispose_nothing_is_given()
    {
        AttentionTensor tensor = AttentionTensor.Borrow<float>(new float[2], [2]);
        tensor.Dispose();
        tensor.Dispose();
        Assert.That(() => tensor.AsSpan<float>(), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => tensor.Address, Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => tensor.Transpose(0, 0), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => tensor.Download<float>(new float[2]), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void BFloat16_rounds_to_nearest_even()
    {
        Random random = new(5);
        for (int at = 0; at < 100_000; at++)
        {
            double x = BitConverter.UInt64BitsToDouble((ulong)random.NextInt64()) is var any && at % 2 == 0 ? any : Math.ScaleB(random.NextDouble() - 0.5, random.Next(-140, 129));
            Assert.That((float)(BFloat16)(float)x, Is.EqualTo((float)Reference.Elements.Round(Reference.Element.BF16, (float)x)));
            Assert.That((float)(BFloat16)x, Is.EqualTo((float)Reference.Elements.Round(Reference.Element.BF16, x)));
        }
        Assert.That(float.IsNaN((BFloat16)float.NaN), Is.True);
        Assert.That((float)(BFloat16)float.MaxValue, Is.EqualTo(float.PositiveInfinity));
        Assert.That(BFloat16.FromBits(0x3F80).ToString(), Is.EqualTo("1"));
        Assert.That(BFloat16.FromBits(0x8000) == BFloat16.FromBits(0), Is.True);
        Assert.That(BFloat16.FromBits(0x7FC0).Equals(BFloat16.FromBits(0x7FC1)), Is.True);
        Assert.That((BFloat16)1f < (BFloat16)2f && (BFloat16)2f >= (BFloat16)2f, Is.True);
    }
}
