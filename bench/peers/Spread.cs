using Attention.Tool;

namespace Attention.Peers;

/// <summary>What lies in the middle of many numbers, and the middle of either half.</summary>
internal sealed record Spread(double Median, double LowerQuartile, double UpperQuartile)
{
    public static Spread Of(IReadOnlyList<double> values) => new(At(values, 0.5), At(values, 0.25), At(values, 0.75));

    private static double At(IReadOnlyList<double> values, double share) => Math.Round(Milliseconds.Quantile(values, share), 6);
}
