using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention;

/// <summary>
/// An array of 1 to 4 dimensions with its dtype, shape, strides and place: memory that a context owns (<see cref="AttentionContext.Allocate{T}"/>), host memory
/// that is borrowed and pinned (<see cref="Borrow{T}(Memory{T}, ReadOnlySpan{long}, ReadOnlySpan{long})"/>), or an address of the caller's
/// (<see cref="FromDevicePointer"/>).
/// </summary>
/// <remarks>Description and place never change; any number of threads may use a tensor, and dispose it: memory goes when the last view and the last run that
/// use it are done. Who writes elements while a run reads them sees to the order himself.</remarks>
public sealed unsafe class AttentionTensor : IDisposable
{
    private readonly SafeHandle? _memory; // owned, pinned or shared; null: the caller's own, or an array that _keep roots
    private readonly object? _keep;
    private readonly NativeArray _array;
    private int _disposed;

    private AttentionTensor(NativeArray array, SafeHandle? memory, object? keep, AttentionContext? context)
    {
        _array = array;
        _memory = memory;
        _keep = keep;
        Context = context;
    }

    /// <summary>The context that owns the memory; null where the memory is borrowed.</summary>
    public AttentionContext? Context { get; }

    /// <summary>What the elements are.</summary>
    public AttentionDType DType => (AttentionDType)_array.dtype;

    /// <summary>How many dimensions, 1 to 4.</summary>
    public int Rank => _array.rank;

    /// <summary>The size of each dimension, outermost first.</summary>
    public ReadOnlySpan<long> Shape => MemoryMarshal.CreateReadOnlySpan(in _array.shape[0], _array.rank);

    /// <summary>How many elements it is to the next one along each dimension; of a dimension of size 1 it means nothing.</summary>
    public ReadOnlySpan<long> Strides => MemoryMarshal.CreateReadOnlySpan(in _array.strides[0], _array.rank);

    /// <summary>How many elements.</summary>
    public long Count => TensorShape.Count(Shape, nameof(Shape));

    /// <summary>Where the memory is.</summary>
    public AttentionDevice Device =>
        (AttentionDeviceType)_array.device_type == AttentionDeviceType.Cuda ? AttentionDevice.Cuda(_array.device) : AttentionDevice.Cpu;

    /// <summary>Whether a context owns the memory, here or through a view: only such tensors, and those on a GPU, go through <c>RunAsync</c>.</summary>
    public bool IsOwned => Context is not null;

    /// <summary>Whether the elements lie side by side, row-major.</summary>
    public bool IsContiguous => TensorShape.IsContiguous(Shape, Strides);

    /// <summary>The address of the first element, in the memory of <see cref="Device"/>; valid until the tensor is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public nint Address
    {
        get
        {
            ThrowIfDisposed();
            return (nint)_array.data;
        }
    }

    /// <summary>A tensor over host memory of the caller's: nothing is copied. The memory stays pinned until the tensor, its views and runs that use it are
    /// gone.</summary>
    /// <param name="memory">At least as many elements as shape and strides reach.</param>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <param name="strides">In elements, 0 or more, as many as sizes; empty = row-major.</param>
    /// <typeparam name="T">float, Half, BFloat16, double, int, byte or bool.</typeparam>
    /// <exception cref="ArgumentException">T is another type, the shape is no shape, or it reaches past the memory's end.</exception>
    public static AttentionTensor Borrow<T>(Memory<T> memory, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides = default)
        where T : unmanaged
    {
        NativeArray array = Describe(DTypes.Of<T>(), shape, strides, AttentionDevice.Cpu);
        long extent = TensorShape.Extent(shape, MemoryMarshal.CreateReadOnlySpan(in array.strides[0], shape.Length), nameof(strides));
        if (extent > memory.Length)
        {
            throw new ArgumentException(
                $"memory has {memory.Length} elements; shape {TensorShape.Text(shape)} with its strides reaches {extent}", nameof(memory));
        }
        PinHandle pin = new(memory.Pin());
        array.data = pin.Pointer;
        return new(array, pin, null, null);
    }

    /// <summary>A tensor over an array of the caller's, as <see cref="Borrow{T}(Memory{T}, ReadOnlySpan{long}, ReadOnlySpan{long})"/>.</summary>
    /// <param name="memory">At least as many elements as shape and strides reach.</param>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <param name="strides">In elements, 0 or more, as many as sizes; empty = row-major.</param>
    /// <typeparam name="T">float, Half, BFloat16, double, int, byte or bool.</typeparam>
    /// <exception cref="ArgumentException">T is another type, the shape is no shape, or it reaches past the array's end.</exception>
    public static AttentionTensor Borrow<T>(T[] memory, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides = default)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(memory);
        return Borrow(memory.AsMemory(), shape, strides);
    }

    /// <summary>A tensor over an address of the caller's, who keeps the memory alive until the tensor and every run that uses it are done.</summary>
    /// <param name="pointer">The address of the first element in the memory of <paramref name="device"/>.</param>
    /// <param name="dtype">What the elements are.</param>
    /// <param name="shape">1 to 4 sizes, outermost first.</param>
    /// <param name="strides">In elements, as many as sizes; empty = row-major. Negative ones are legal: the caller answers for what they reach.</param>
    /// <param name="device">Where the memory is: the CPU or a GPU.</param>
    /// <param name="owner">Kept reachable as long as the tensor is; null: nothing.</param>
    /// <exception cref="ArgumentException">The dtype, the shape or the device is none, or the address is null though there are elements.</exception>
    public static AttentionTensor FromDevicePointer(
        nint pointer, AttentionDType dtype, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides = default, AttentionDevice device = default,
        object? owner = null)
    {
        NativeArray array = Describe(dtype, shape, strides, device);
        if (pointer == 0 && TensorShape.Count(shape, nameof(shape)) != 0)
        {
            throw new ArgumentException($"pointer is null; the address of a tensor {TensorShape.Text(shape)} is needed", nameof(pointer));
        }
        array.data = (void*)pointer;
        return new(array, null, owner, null);
    }

    /// <summary>A tensor with two dimensions exchanged, over the same memory: [B, S, H, D] becomes [B, H, S, D] by (1, 2).</summary>
    /// <remarks>The view keeps the memory until it is disposed itself.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">A dimension is not below <see cref="Rank"/>.</exception>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public AttentionTensor Transpose(int dimension1, int dimension2)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)dimension1, (uint)Rank, nameof(dimension1));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)dimension2, (uint)Rank, nameof(dimension2));
        ThrowIfDisposed();
        NativeArray array = _array;
        (array.shape[dimension1], array.shape[dimension2]) = (array.shape[dimension2], array.shape[dimension1]);
        (array.strides[dimension1], array.strides[dimension2]) = (array.strides[dimension2], array.strides[dimension1]);
        array.tensor = 0; // no longer what the handle says
        return new(array, _memory is null ? null : new ShareHandle(_memory), _keep, Context);
    }

    /// <summary>The elements of a contiguous tensor in host memory: no copy. Not to be used once the tensor is disposed.</summary>
    /// <typeparam name="T">The type that <see cref="DType"/> stands for.</typeparam>
    /// <exception cref="ArgumentException">T is not what the elements are.</exception>
    /// <exception cref="InvalidOperationException">The memory is on a GPU, has strides, or more elements than a span can have.</exception>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public Span<T> AsSpan<T>()
        where T : unmanaged
    {
        CheckType<T>();
        ThrowIfDisposed();
        if (Device.Type != AttentionDeviceType.Cpu)
        {
            throw new InvalidOperationException($"The tensor is on {Device}; a span needs host memory. Download copies it.");
        }
        if (!IsContiguous)
        {
            throw new InvalidOperationException(
                $"The tensor has strides {TensorShape.Text(Strides)} for shape {TensorShape.Text(Shape)}; a span needs elements side by side.");
        }
        long count = Count;
        return count <= int.MaxValue
            ? new(_array.data, (int)count)
            : throw new InvalidOperationException($"The tensor has {count} elements; a span has at most {int.MaxValue}.");
    }

    /// <summary>Copies the whole of a contiguous tensor to host memory; returns when done.</summary>
    /// <param name="destination">Exactly as many elements.</param>
    /// <typeparam name="T">The type that <see cref="DType"/> stands for.</typeparam>
    /// <exception cref="ArgumentException">T is not what the elements are, or the destination has another size.</exception>
    /// <exception cref="InvalidOperationException">The tensor is a view or a borrowed one and not contiguous host memory.</exception>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public void Download<T>(Span<T> destination)
        where T : unmanaged
    {
        CheckType<T>();
        CheckCount(destination.Length, nameof(destination));
        if (_memory is TensorHandle tensor && _array.tensor != 0)
        {
            fixed (T* to = destination)
            {
                Status.Check(NativeMethods.attn_tensor_download(tensor, to, (ulong)destination.Length * (ulong)sizeof(T)), nameof(destination));
            }
            return;
        }
        AsSpan<T>().CopyTo(destination);
        GC.KeepAlive(this);
    }

    /// <summary>Copies host memory over the whole of a contiguous tensor; returns when done.</summary>
    /// <param name="source">Exactly as many elements.</param>
    /// <typeparam name="T">The type that <see cref="DType"/> stands for.</typeparam>
    /// <exception cref="ArgumentException">T is not what the elements are, or the source has another size.</exception>
    /// <exception cref="InvalidOperationException">The tensor is a view or a borrowed one and not contiguous host memory.</exception>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public void Upload<T>(ReadOnlySpan<T> source)
        where T : unmanaged
    {
        CheckType<T>();
        CheckCount(source.Length, nameof(source));
        if (_memory is TensorHandle tensor && _array.tensor != 0)
        {
            fixed (T* from = source)
            {
                Status.Check(NativeMethods.attn_tensor_upload(tensor, from, (ulong)source.Length * (ulong)sizeof(T)), nameof(source));
            }
            return;
        }
        source.CopyTo(AsSpan<T>());
        GC.KeepAlive(this);
    }

    /// <summary>Copies so many bytes of host memory over the whole of a tensor that a context allocated.</summary>
    internal void Upload(void* source, long bytes) => Status.Check(NativeMethods.attn_tensor_upload((TensorHandle)_memory!, source, (ulong)bytes), "source");

    /// <summary>Copies the whole of a tensor that a context allocated over so many bytes of host memory.</summary>
    internal void Download(void* destination, long bytes) =>
        Status.Check(NativeMethods.attn_tensor_download((TensorHandle)_memory!, destination, (ulong)bytes), "destination");

    /// <summary>Gives the memory back, or lets go of it, once nothing uses it any more. Never waits.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _memory?.Dispose();
        }
    }

    /// <summary>float32 [8, 20, 1500, 64] on cpu.</summary>
    public override string ToString() => $"{DTypes.Name(DType)} {TensorShape.Text(Shape)} on {Device}";

    /// <summary>New memory of a context's.</summary>
    internal static AttentionTensor Allocate(AttentionContext context, AttentionDType dtype, ReadOnlySpan<long> shape)
    {
        NativeArray array = Describe(dtype, shape, default, context.Device);
        nint value;
        Status.Check(NativeMethods.attn_tensor_create(context.Handle, &array, &value), nameof(shape), context.Handle);
        TensorHandle tensor = new(value);
        NativeArray described = new() { size = (uint)sizeof(NativeArray) };
        Status.Check(NativeMethods.attn_tensor_describe(tensor, &described), "tensor");
        array.data = described.data;
        array.tensor = value;
        return new(array, tensor, null, context);
    }

    /// <summary>A copy of the caller's values in an array that never moves: it needs no pin, and nobody else can write it.</summary>
    internal static AttentionTensor Copy<T>(ReadOnlySpan<T> values, ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        T[] copy = GC.AllocateUninitializedArray<T>(Math.Max(1, values.Length), pinned: true);
        values.CopyTo(copy);
        NativeArray array = Describe(DTypes.Of<T>(), shape, default, AttentionDevice.Cpu);
        array.data = Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(copy));
        return new(array, null, copy, null);
    }

    /// <summary>Describes this tensor to the native library and keeps its memory until <paramref name="holds"/> are released.</summary>
    internal NativeArray* Bind(NativeArray* array, ref Holds holds)
    {
        ThrowIfDisposed();
        holds.Add(_memory ?? _keep);
        *array = _array;
        return array;
    }

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);

    internal static NativeArray Describe(AttentionDType dtype, ReadOnlySpan<long> shape, ReadOnlySpan<long> strides, AttentionDevice device)
    {
        DTypes.Size(dtype);
        TensorShape.Count(shape, nameof(shape));
        if (!strides.IsEmpty && strides.Length != shape.Length)
        {
            throw new ArgumentException($"strides has {strides.Length} entries; shape has {shape.Length} dimensions", nameof(strides));
        }
        if (device.Type == AttentionDeviceType.Auto)
        {
            throw new ArgumentException("device is auto; memory is on the CPU or on one GPU", nameof(device));
        }
        NativeArray array = new()
        {
            size = (uint)sizeof(NativeArray),
            dtype = (int)dtype,
            rank = shape.Length,
            device_type = (int)device.Type,
            device = device.Ordinal,
            has_strides = 1,
        };
        shape.CopyTo(new Span<long>(array.shape, TensorShape.MaxRank));
        Span<long> own = new(array.strides, TensorShape.MaxRank);
        if (strides.IsEmpty)
        {
            TensorShape.Contiguous(shape, own);
        }
        else
        {
            strides.CopyTo(own);
        }
        return array;
    }

    private void CheckType<T>()
        where T : unmanaged
    {
        if (DTypes.Of<T>() != DType)
        {
            throw new ArgumentException($"T is {typeof(T)}; the tensor's elements are {DTypes.Name(DType)}", nameof(T));
        }
    }

    private void CheckCount(int length, string parameter)
    {
        ThrowIfDisposed();
        if (length != Count)
        {
            throw new ArgumentException($"{parameter} has {length} elements; the tensor {TensorShape.Text(Shape)} has {Count}", parameter);
        }
    }

    /// <summary>A pin that anyone may hold.</summary>
    private sealed class PinHandle : SafeHandle
    {
        private MemoryHandle _pin;

        internal PinHandle(MemoryHandle pin)
            : base(0, ownsHandle: true)
        {
            _pin = pin;
            SetHandle(1); // the address may be null: an empty memory
        }

        public override bool IsInvalid => handle == 0;

        internal void* Pointer => _pin.Pointer;

        protected override bool ReleaseHandle()
        {
            _pin.Dispose();
            return true;
        }
    }

    /// <summary>One more holder of a tensor's memory.</summary>
    private sealed class ShareHandle : SafeHandle
    {
        private readonly SafeHandle _memory;

        internal ShareHandle(SafeHandle memory)
            : base(0, ownsHandle: true)
        {
            _memory = memory;
            bool held = false;
            memory.DangerousAddRef(ref held);
            SetHandle(1);
        }

        public override bool IsInvalid => handle == 0;

        protected override bool ReleaseHandle()
        {
            _memory.DangerousRelease();
            return true;
        }
    }
}
