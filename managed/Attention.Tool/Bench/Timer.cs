using System.Diagnostics;

namespace Attention.Tool.Bench;

/// <summary>The ratio to the group's own unmasked time: the median over rounds, and the quartiles.</summary>
internal sealed record Ratio(double Median, double LowerQuartile, double UpperQuartile)
{
    public static Ratio Of(IReadOnlyList<double> ratios) => new(Quantile(ratios, 0.5), Quantile(ratios, 0.25), Quantile(ratios, 0.75));

    private static double Quantile(IReadOnlyList<double> ratios, double share) => Math.Round(Tool.Milliseconds.Quantile(ratios, share), 4);
}

/// <summary>One line of the result.</summary>
/// <param name="Group">Shape and data.</param>
/// <param name="Case">Mask or bias.</param>
/// <param name="Backend">Who computed.</param>
/// <param name="Kernel">What computed, in full.</param>
/// <param name="Auto">What auto takes for this problem.</param>
/// <param name="Refused">Who would not take it, and why.</param>
/// <param name="Milliseconds">One whole call: mask pass and run.</param>
/// <param name="RatioToUnmasked">Time / time of the first case, round by round.</param>
/// <param name="VisibleTiles">The share of this kernel's tiles that are full or partial.</param>
/// <param name="Visited">Tiles the kernel counted.</param>
/// <param name="Difference">To rows computed beforehand in float64; null where there are none.</param>
internal sealed record BenchRow(
    string Group, string Case, string Backend, string Kernel, string Auto, IReadOnlyList<RefusedReport> Refused, Milliseconds Milliseconds,
    Ratio RatioToUnmasked,
    double VisibleTiles, long Visited, double? Difference);

/// <summary>Times the cases of a group by turns: a round is one call of each.</summary>
internal sealed class Timer(AttentionContext context, Action<string, double> progress, CancellationToken stop)
{
    private readonly Dictionary<AttentionBackend, double> _secondsPerOperation = [];
    private readonly List<string> _leftOut = [];

    /// <summary>What was not timed, and why.</summary>
    public IReadOnlyList<string> LeftOut => _leftOut;

    public List<BenchRow> Measure(BenchGroup group)
    {
        List<BenchRow> rows = [];
        foreach (Budget budget in group.Budgets)
        {
            BackendPolicy policy = BackendPolicy.Only(budget.Backend);
            if (group.Cases.SelectMany(one => context.Query(Asked(group, one), policy)).FirstOrDefault() is { } refusal)
            {
                _leftOut.Add($"{budget.Backend.Name()} at {group.Sizes}: it refuses, {refusal.Text}");
                continue;
            }
            double expected = group.Operations * _secondsPerOperation.GetValueOrDefault(budget.Backend) * group.Cases.Count;
            if (expected > budget.Seconds)
            {
                _leftOut.Add(FormattableString.Invariant(
                    $"{budget.Backend.Name()} at {group.Sizes}: one round would take about {expected:0} s of the {budget.Seconds:0} s it has"));
                continue;
            }
            rows.AddRange(Measure(group, budget));
        }
        return rows;
    }

    private List<BenchRow> Measure(BenchGroup group, Budget budget)
    {
        List<AttentionPlan> plans = [];
        try
        {
            foreach (BenchCase one in group.Cases)
            {
                plans.Add(context.Plan(Asked(group, one), BackendPolicy.Only(budget.Backend)));
            }
            List<double>[] times = [.. plans.Select(_ => new List<double>())];
            RunReport[] reports = new RunReport[plans.Count];
            double?[] differences = new double?[plans.Count];
            Stopwatch spent = Stopwatch.StartNew();
            int round = 0;
            for (double last = 0; round < budget.Rounds && (round == 0 || spent.Elapsed.TotalSeconds + last <= budget.Seconds); round++)
            {
                double began = spent.Elapsed.TotalSeconds;
                for (int c = 0; c < plans.Count; c++)
                {
                    double done = Math.Max((double)round / budget.Rounds, spent.Elapsed.TotalSeconds / budget.Seconds);
                    progress($"{budget.Backend.Name()}: {group.Cases[c].Name}", done);
                    times[c].Add(Call(group, plans[c], group.Cases[c], out reports[c]));
                    if (round == 0 && group.Cases[c].Expected is { } expected)
                    {
                        differences[c] = group.Difference(expected);
                    }
                }
                last = spent.Elapsed.TotalSeconds - began;
            }
            // The first round warms caches and threads; it counts only where there is no other.
            times = round > 2 ? [.. times.Select(rounds => rounds.Skip(1).ToList())] : times;
            _secondsPerOperation[budget.Backend] = times[0].Min() / 1000 / group.Operations;
            return [.. group.Cases.Select((one, c) => RowOf(group, one, plans[c], times[c], times[0], reports[c], differences[c]))];
        }
        finally
        {
            plans.ForEach(plan => plan.Dispose());
        }
    }

    private static AttentionProblem Asked(BenchGroup group, BenchCase one) =>
        AttentionProblem.For(group.Query, group.Key, group.Value, group.Output) with { Mask = one.Mask.Kinds, Bias = one.Bias?.Kinds ?? BiasKinds.None };

    private double Call(BenchGroup group, AttentionPlan plan, BenchCase one, out RunReport report)
    {
        stop.ThrowIfCancellationRequested();
        long start = Stopwatch.GetTimestamp();
        report = plan.Run(group.Query, group.Key, group.Value, group.Output, one.Mask, null, one.Bias, cancellationToken: stop);
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private BenchRow RowOf(BenchGroup group, BenchCase one, AttentionPlan plan, List<double> times, List<double> unmasked, RunReport report, double? difference)
    {
        TileCounts tiles = plan.Explain(one.Mask);
        long all = tiles.Full + tiles.Partial + tiles.Empty;
        using AttentionPlan auto = context.Plan(plan.Problem, BackendPolicy.Auto);
        return new(group.Name, one.Name, plan.Backend.Name(), plan.Kernel, auto.Kernel, Report.RefusedBy(context, auto), Milliseconds.Of(times),
            Ratio.Of([.. times.Zip(unmasked, (time, own) => time / own)]), Math.Round(all == 0 ? 0 : (double)tiles.Visited / all, 4), report.TilesVisited,
            difference);
    }
}
