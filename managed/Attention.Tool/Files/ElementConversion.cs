using System.Runtime.InteropServices;

namespace Attention.Tool.Files;

/// <summary>From a file's elements to the type asked for. Float types are rounded once, to nearest even, whatever the pair.</summary>
internal static class ElementConversion
{
    /// <summary>Converts <paramref name="bytes"/>, elements of the file from index <paramref name="first"/> on.</summary>
    public static void Convert<T>(ArrayFile file, long first, ReadOnlySpan<byte> bytes, Span<T> destination)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            ToFloat32(file, bytes, MemoryMarshal.Cast<T, float>(destination));
        }
        else if (typeof(T) == typeof(Half))
        {
            ToFloat16(file, bytes, MemoryMarshal.Cast<T, Half>(destination));
        }
        else if (typeof(T) == typeof(BFloat16))
        {
            ToBFloat16(file, bytes, MemoryMarshal.Cast<T, BFloat16>(destination));
        }
        else if (typeof(T) == typeof(int))
        {
            ToInt32(file, first, bytes, MemoryMarshal.Cast<T, int>(destination));
        }
        else if (typeof(T) == typeof(byte))
        {
            ToByte(file, bytes, MemoryMarshal.Cast<T, byte>(destination));
        }
        else
        {
            throw new NotSupportedException($"elements are not read as {typeof(T)}");
        }
    }

    private static void ToFloat32(ArrayFile file, ReadOnlySpan<byte> bytes, Span<float> destination)
    {
        switch (file.Type)
        {
            case ElementType.Float32:
                bytes.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case ElementType.Float16:
                Each<Half, float>(bytes, destination, value => (float)value);
                break;
            case ElementType.BFloat16:
                Each<BFloat16, float>(bytes, destination, value => value);
                break;
            case ElementType.Float64:
                Each<double, float>(bytes, destination, value => (float)value);
                break;
            default:
                throw NotFloat(file);
        }
    }

    private static void ToFloat16(ArrayFile file, ReadOnlySpan<byte> bytes, Span<Half> destination)
    {
        switch (file.Type)
        {
            case ElementType.Float16:
                bytes.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case ElementType.Float32:
                Each<float, Half>(bytes, destination, value => (Half)value);
                break;
            case ElementType.BFloat16:
                Each<BFloat16, Half>(bytes, destination, value => (Half)(float)value);
                break;
            case ElementType.Float64:
                Each<double, Half>(bytes, destination, value => (Half)value);
                break;
            default:
                throw NotFloat(file);
        }
    }

    private static void ToBFloat16(ArrayFile file, ReadOnlySpan<byte> bytes, Span<BFloat16> destination)
    {
        switch (file.Type)
        {
            case ElementType.BFloat16:
                bytes.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case ElementType.Float16:
                Each<Half, BFloat16>(bytes, destination, value => (BFloat16)(float)value);
                break;
            case ElementType.Float32:
                Each<float, BFloat16>(bytes, destination, value => (BFloat16)value);
                break;
            case ElementType.Float64:
                Each<double, BFloat16>(bytes, destination, value => (BFloat16)value);
                break;
            default:
                throw NotFloat(file);
        }
    }

    private static void ToInt32(ArrayFile file, long first, ReadOnlySpan<byte> bytes, Span<int> destination)
    {
        switch (file.Type)
        {
            case ElementType.Int32:
                bytes.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case ElementType.Int64:
                ReadOnlySpan<long> source = MemoryMarshal.Cast<byte, long>(bytes);
                for (int i = 0; i < source.Length; i++)
                {
                    destination[i] = source[i] is >= int.MinValue and <= int.MaxValue
                        ? (int)source[i]
                        : throw file.Wrong($"element {first + i} is {source[i]}; {int.MinValue} to {int.MaxValue} is allowed");
                }
                break;
            default:
                throw file.Wrong($"holds {file.Type.Name()}; int32 or int64 is needed");
        }
    }

    private static void ToByte(ArrayFile file, ReadOnlySpan<byte> bytes, Span<byte> destination)
    {
        switch (file.Type)
        {
            case ElementType.UInt8:
                bytes.CopyTo(destination);
                break;
            case ElementType.Bool:
                Each<byte, byte>(bytes, destination, value => value == 0 ? (byte)0 : (byte)1);
                break;
            default:
                throw file.Wrong($"holds {file.Type.Name()}; bool or uint8 is needed");
        }
    }

    private static void Each<TFile, T>(ReadOnlySpan<byte> bytes, Span<T> destination, Func<TFile, T> convert)
        where TFile : unmanaged
    {
        ReadOnlySpan<TFile> source = MemoryMarshal.Cast<byte, TFile>(bytes);
        for (int i = 0; i < source.Length; i++)
        {
            destination[i] = convert(source[i]);
        }
    }

    private static InputException NotFloat(ArrayFile file) =>
        file.Wrong($"holds {file.Type.Name()}; float16, bfloat16, float32 or float64 is needed");
}
