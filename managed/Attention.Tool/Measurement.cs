using System.Text.Json.Serialization;

namespace Attention.Tool;

/// <summary>Times of one thing, in milliseconds.</summary>
internal sealed record Milliseconds(double Median, double Min, double Max, int Repeat)
{
    public static Milliseconds Of(IReadOnlyList<double> times) =>
        new(Round(Quantile(times, 0.5)), Round(times.Min()), Round(times.Max()), times.Count);

    private static double Round(double milliseconds) => Math.Round(milliseconds, 6); // a nanosecond

    /// <summary>The value below which a share of the others lies, interpolated.</summary>
    public static double Quantile(IReadOnlyList<double> values, double share)
    {
        double[] sorted = [.. values.Order()];
        double at = share * (sorted.Length - 1);
        int below = (int)at;
        return below + 1 < sorted.Length ? sorted[below] + ((at - below) * (sorted[below + 1] - sorted[below])) : sorted[below];
    }
}

/// <summary>A backend that would not take the problem, and why.</summary>
internal sealed record RefusedReport(string Backend, IReadOnlyList<string> Reasons);

internal sealed record TileReport(long Queries, long Keys);

/// <summary>Tiles over batch × query heads × blocks. <c>visited</c> is what the kernel counted as it went; absent where nothing ran.</summary>
internal sealed record TilesReport(long Full, long Partial, long Empty, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? Visited);

/// <summary>How objects become JSON: snake_case, absent instead of null.</summary>
internal static class Json
{
    private static readonly System.Text.Json.JsonSerializerOptions s_options = new()
    {
        PropertyNamingPolicy = System.Text.Json.JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
    };

    public static string Text<T>(T report) => System.Text.Json.JsonSerializer.Serialize(report, s_options);
}
