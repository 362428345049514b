using Attention.Interop;

namespace Attention;

/// <summary>Operands in host memory of one run on a GPU: copied there, and the outputs back. What lies between an output's rows stays as it was.</summary>
internal sealed unsafe class DeviceCopies(AttentionContext context) : IDisposable
{
    private readonly List<(AttentionTensor Copy, nint Host, long Bytes, bool Output)> _all = [];

    /// <summary>Copies what the frame has in host memory, and puts the copies in its place.</summary>
    internal void Take(RunFrame* frame)
    {
        Take(&frame->Q, output: false);
        Take(&frame->K, output: false);
        Take(&frame->V, output: false);
        Take(&frame->O, output: true);
        if (frame->Args.lse is not null)
        {
            Take(&frame->Lse, output: true);
        }
        if (frame->Args.probabilities is not null)
        {
            Take(&frame->P, output: true);
        }
    }

    internal void BringBack()
    {
        foreach ((AttentionTensor copy, nint host, long bytes, bool output) in _all)
        {
            if (output)
            {
                copy.Download((void*)host, bytes);
            }
        }
    }

    public void Dispose()
    {
        foreach ((AttentionTensor copy, _, _, _) in _all)
        {
            copy.Dispose();
        }
    }

    private void Take(NativeArray* array, bool output)
    {
        ReadOnlySpan<long> shape = new(array->shape, array->rank);
        Span<long> strides = stackalloc long[TensorShape.MaxRank];
        if (array->has_strides != 0)
        {
            new ReadOnlySpan<long>(array->strides, array->rank).CopyTo(strides);
        }
        else
        {
            TensorShape.Contiguous(shape, strides);
        }
        long bytes = TensorShape.Extent(shape, strides[..array->rank], "shape") * DTypes.Size((AttentionDType)array->dtype);
        AttentionTensor copy = context.Allocate<byte>([bytes]);
        _all.Add((copy, (nint)array->data, bytes, output));
        if (bytes != 0)
        {
            copy.Upload(array->data, bytes);
        }
        array->data = (void*)copy.Address;
        array->device_type = (int)context.Device.Type;
        array->device = context.Device.Ordinal;
    }
}
