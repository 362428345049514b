using SkiaSharp;

namespace Attention.Tool.Pictures;

/// <summary>Pictures need a font for their words; without one Skia draws none and says nothing.</summary>
internal static class Fonts
{
    /// <summary>A plain face: DejaVu Sans where it is, else what the machine has first.</summary>
    public static SKTypeface Plain { get; } = SKFontManager.Default.MatchFamily("DejaVu Sans") ?? SKTypeface.Default;

    /// <summary>One line for stderr where this machine has no font; null where it has.</summary>
    public static string? Missing => SKFontManager.Default.FontFamilyCount > 0
        ? null
        : "no font was found on this machine: the picture has no text; Debian's package fonts-dejavu-core has some";
}
