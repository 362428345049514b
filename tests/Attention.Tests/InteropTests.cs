using System.Numerics.Tensors;
using Attention.Tests.Reference;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;

namespace Attention.Tests;

/// <summary>Memory of others: ILGPU's buffers by their address, .NET's tensor spans, arrays.</summary>
[TestFixture]
internal sealed class InteropTests
{
    private const int B = 2, H = 3, S = 50, D = 24;

    private static readonly long[] s_shape = [B, H, S, D];

    private static float[] Numbers(int seed) => Array.ConvertAll(RandomProblems.Normal(new Random(seed), Element.F32, B * H * S * D), x => (float)x);

    private static float[] Right(Mask mask)
    {
        float[] right = new float[B * H * S * D];
        ScaledDotProductAttention.Compute<float>(Numbers(1), s_shape, Numbers(2), s_shape, Numbers(3), s_shape, right, mask);
        return right;
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public async Task Memory_and_streams_of_ILGPU_are_used_where_they_are(string device)
    {
        Contexts.Needs(device);
        Problem p = RandomProblems.Shaped(new Random(1), Element.F32, B, H, H, S, S, D, D) with { Causal = true };
        using Context ilgpu = ILGPU.Context.Create(builder => _ = device == "cuda" ? builder.Cuda() : builder.CPU());
        using Accelerator theirs = ilgpu.Devices[0].CreateAccelerator(ilgpu);
        MemoryBuffer1D<float, Stride1D.Dense> Buffer(double[] data) => theirs.Allocate1D(Array.ConvertAll(data, x => (float)x));
        using MemoryBuffer1D<float, Stride1D.Dense> q = Buffer(p.Q), k = Buffer(p.K), v = Buffer(p.V), output = Buffer(p.Q);
        using AttentionContext context = theirs is CudaAccelerator
            ? AttentionContext.Create(AttentionDevice.Cuda(), new() { NativeContext = theirs.NativePtr })
            : AttentionContext.Create(AttentionDevice.Cpu);
        AttentionTensor Of(MemoryBuffer buffer) => AttentionTensor.FromDevicePointer(buffer.NativePtr, AttentionDType.Float32, s_shape, device: context.Device, owner: buffer);
        using AttentionTensor qTensor = Of(q), kTensor = Of(k), vTensor = Of(v), oTensor = Of(output);
        using AttentionPlan plan = context.Plan(Library.Describe(p));
        plan.Warmup();
        float[] met;
        if (theirs.DefaultStream is CudaStream queue)
        {
            using AttentionStream stream = context.WrapStream(queue.StreamPtr);
            Task run = plan.RunAsync(qTensor, kTensor, vTensor, oTensor, Mask.Causal, stream: stream);
            met = output.GetAsArray1D(); // on that stream, and so after the run
            await run;
        }
        else
        {
            theirs.Synchronize();
            plan.Run(qTensor, kTensor, vTensor, oTensor, Mask.Causal);
            met = output.GetAsArray1D();
        }
        Assert.That(plan.Kernel, Does.StartWith(device));
        Assert.That(new Judge(p).Fault(new(Array.ConvertAll(met, x => (double)x))), Is.Null);
        Assert.That(Array.ConvertAll(q.GetAsArray1D(), x => (double)x), Is.EqualTo(p.Q), "operands are only read");
    }

    [Test]
    public void Tensor_spans_with_sizes_of_one_and_their_strides_of_zero()
    {
        float[] q = Numbers(1)[..(S * D)], k = Numbers(2)[..(S * D)], v = Numbers(3)[..(S * D)], output = new float[S * D], right = new float[S * D];
        ReadOnlyTensorSpan<float> qSpan = new(q, [1, 1, S, D]), kSpan = new(k, [1, 1, S, D]), vSpan = new(v, [1, 1, S, D]);
        Assert.That((long)qSpan.Strides[0], Is.Zero, "what .NET says of a size of one");
        RunReport report = ScaledDotProductAttention.Compute(qSpan, kSpan, vSpan, new TensorSpan<float>(output, [1, 1, S, D]), Mask.Causal);
        Assert.That(report.Backend, Is.EqualTo(AttentionBackend.Flash));
        ScaledDotProductAttention.Compute<float>(q, [1, 1, S, D], k, [1, 1, S, D], v, [1, 1, S, D], right, Mask.Causal);
        Assert.That(output, Is.EqualTo(right));
    }

    [Test]
    public void Tensor_spans_with_strides_are_not_copied()
    {
        // [B, S, H, D] in memory, seen as [B, H, S, D].
        float[] Turned(float[] data) => Array.ConvertAll(Library.Turned(Array.ConvertAll(data, x => (double)x), B, H, S, D), x => (float)x);
        float[] q = Turned(Numbers(1)), k = Turned(Numbers(2)), v = Turned(Numbers(3)), output = new float[q.Length];
        ReadOnlySpan<nint> lengths = [B, H, S, D], strides = [S * H * D, D, H * D, 1];
        float[] lse = new float[B * H * S];
        ScaledDotProductAttention.Compute(
            new ReadOnlyTensorSpan<float>(q, lengths, strides), new ReadOnlyTensorSpan<float>(k, lengths, strides), new ReadOnlyTensorSpan<float>(v, lengths, strides),
            new TensorSpan<float>(output, lengths, strides), Mask.KeyLengths(20, 50), lse);
        Assert.That(output, Is.EqualTo(Turned(Right(Mask.KeyLengths(20, 50)))));
        Assert.That(lse, Is.All.Not.NaN.And.All.Not.EqualTo(0f));
    }

    [Test]
    public void A_broadcast_span_is_read_where_it_stands()
    {
        // One head of K and V for all batches: stride 0.
        float[] q = Numbers(1), k = Numbers(2)[..(H * S * D)], v = Numbers(3)[..(H * S * D)], output = new float[q.Length], right = new float[q.Length];
        ReadOnlySpan<nint> lengths = [B, H, S, D], strides = [0, S * D, D, 1];
        ScaledDotProductAttention.Compute(new ReadOnlyTensorSpan<float>(q, lengths), new(k, lengths, strides), new(v, lengths, strides), new TensorSpan<float>(output, lengths));
        ScaledDotProductAttention.Compute<float>(q, s_shape, [.. k, .. k], s_shape, [.. v, .. v], s_shape, right);
        Assert.That(output, Is.EqualTo(right));
    }

    [Test]
    public void Spans_of_another_size_are_refused()
    {
        float[] data = Numbers(1);
        Assert.That(() => ScaledDotProductAttention.Compute<float>(data, s_shape, data[1..], s_shape, data, s_shape, new float[data.Length]),
            Throws.ArgumentException.With.Property("ParamName").EqualTo("k").And.Message.Contains($"{data.Length - 1}"));
        Assert.That(() => ScaledDotProductAttention.Compute<float>(data, s_shape, data, s_shape, data, s_shape, new float[3]),
            Throws.ArgumentException.With.Property("ParamName").EqualTo("output").And.Message.Contains("3"));
        Assert.That(() => ScaledDotProductAttention.Compute<int>(new int[1], [1, 1, 1, 1], new int[1], [1, 1, 1, 1], new int[1], [1, 1, 1, 1], new int[1]), Throws.ArgumentException);
    }
}
