using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention.Tests;

/// <summary>The structures of the C ABI as .NET lays them out, against what the loaded library says of its own.</summary>
[TestFixture]
internal sealed unsafe class LayoutTests
{
    private static List<(string Structure, string Field, uint Offset, uint Bytes)> Native()
    {
        NativeLoader.Load();
        List<(string, string, uint, uint)> entries = [];
        byte* structure, field;
        uint offset, bytes;
        for (uint index = 0; NativeMethods.attn_layout(index, &structure, &field, &offset, &bytes) == NativeStatus.Ok; index++)
        {
            entries.Add((Marshal.PtrToStringUTF8((nint)structure)!, Marshal.PtrToStringUTF8((nint)field)!, offset, bytes));
        }
        return entries;
    }

    // attn_run_args is NativeRunArgs.
    private static Type Managed(string structure)
    {
        string name = string.Concat(structure["attn_".Length..].Split('_').Select(word => char.ToUpperInvariant(word[0]) + word[1..]));
        return typeof(NativeMethods).Assembly.GetType($"Attention.Interop.Native{name}") ?? throw new AssertionException($"{structure} has no counterpart Native{name}");
    }

    [Test]
    public void Every_field_lies_where_the_library_has_it()
    {
        var native = Native();
        Assert.That(native.Select(entry => entry.Structure).Distinct().Count(), Is.GreaterThanOrEqualTo(12));
        foreach ((string structure, string field, uint offset, uint bytes) in native)
        {
            Type type = Managed(structure);
            if (field.Length == 0)
            {
                Assert.That(Marshal.SizeOf(type), Is.EqualTo((int)bytes), structure);
                continue;
            }
            var own = type.GetField(field);
            Assert.That(own, Is.Not.Null, $"{structure}.{field}");
            Assert.That((uint)Marshal.OffsetOf(type, field), Is.EqualTo(offset), $"offset of {structure}.{field}");
            int size = own!.FieldType.IsPointer ? sizeof(nint) : Marshal.SizeOf(own.FieldType);
            Assert.That((uint)size, Is.EqualTo(bytes), $"size of {structure}.{field}");
        }
    }

    [Test]
    public void No_structure_has_a_field_that_the_library_lacks()
    {
        foreach (var structure in Native().GroupBy(entry => entry.Structure))
        {
            Assert.That(Managed(structure.Key).GetFields().Select(field => field.Name), Is.EquivalentTo(structure.Select(entry => entry.Field).Where(field => field.Length > 0)),
                structure.Key);
        }
    }

    [Test]
    public void Past_the_end_there_is_no_entry()
    {
        NativeLoader.Load();
        byte* text;
        uint number;
        Assert.That(NativeMethods.attn_layout(uint.MaxValue, &text, &text, &number, &number), Is.EqualTo(NativeStatus.InvalidArgument));
        Assert.That(Marshal.PtrToStringUTF8((nint)NativeMethods.attn_last_error()), Does.Contain("4294967295"));
    }

    [Test]
    public void The_versions_agree()
    {
        NativeLoader.Load();
        Assert.That(NativeMethods.attn_abi_version(), Is.EqualTo(NativeMethods.AbiVersion));
    }
}
