namespace Attention.Tool.Files;

/// <summary>The element types that files hold.</summary>
internal enum ElementType
{
    Float16,
    BFloat16,
    Float32,
    Float64,
    Int32,
    Int64,
    Bool,
    UInt8,
}

internal static class ElementTypes
{
    public static int Size(this ElementType type) => type switch
    {
        ElementType.Float64 or ElementType.Int64 => 8,
        ElementType.Float32 or ElementType.Int32 => 4,
        ElementType.Float16 or ElementType.BFloat16 => 2,
        _ => 1,
    };

    public static bool IsFloat(this ElementType type) => type <= ElementType.Float64;

    public static bool IsInteger(this ElementType type) => type is ElementType.Int32 or ElementType.Int64;

    /// <summary>The name numpy has for the type.</summary>
    public static string Name(this ElementType type) => type.ToString().ToLowerInvariant();
}
