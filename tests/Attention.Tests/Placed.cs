namespace Attention.Tests;

/// <summary>A tensor over host memory where a context computes: itself on the CPU; on a GPU a copy of the whole memory, gaps between rows included.</summary>
internal sealed class Placed<T> : IDisposable
    where T : unmanaged
{
    private readonly AttentionTensor? _copy;
    private readonly T[] _memory;

    public Placed(AttentionContext context, AttentionTensor host, T[] memory)
    {
        _memory = memory;
        Tensor = host;
        if (context.Device.Type == AttentionDeviceType.Cuda)
        {
            _copy = context.Upload<T>(memory, [memory.Length]);
            Tensor = AttentionTensor.FromDevicePointer(host.Count == 0 ? 0 : _copy.Address, host.DType, host.Shape, host.Strides, context.Device);
        }
    }

    public AttentionTensor Tensor { get; }

    /// <summary>Brings what the device wrote back into the host's memory.</summary>
    public void Fetch() => _copy?.Download<T>(_memory);

    public void Dispose()
    {
        if (_copy is not null)
        {
            Tensor.Dispose();
            _copy.Dispose();
        }
    }
}
