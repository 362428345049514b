namespace Attention.Tests.Reference;

/// <summary>The element types as the reference knows them, and the rounding of a number to each: by arithmetic alone, ties to even.</summary>
internal enum Element
{
    F32,
    F16,
    BF16,
}

internal static class Elements
{
    public static bool Is16Bit(this Element type) => type != Element.F32;

    public static double Round(this Element type, double x) => type switch
    {
        Element.F32 => (float)x,
        Element.F16 => ToSteps(x, fraction: 10, smallest: -14, largest: 65504),
        _ => ToSteps(x, fraction: 7, smallest: -126, largest: 3.3895313892515355e38),
    };

    // The nearest multiple of the step between numbers of x's exponent.
    private static double ToSteps(double x, int fraction, int smallest, double largest)
    {
        if (x == 0 || !double.IsFinite(x))
        {
            return x;
        }
        int exponent = Math.Max(Math.ILogB(x), smallest);
        double steps = Math.Round(Math.ScaleB(x, fraction - exponent), MidpointRounding.ToEven);
        double rounded = Math.ScaleB(steps, exponent - fraction);
        return Math.Abs(rounded) > largest ? double.CopySign(double.PositiveInfinity, x) : rounded;
    }
}
