using System.Diagnostics;
using Microsoft.ML.OnnxRuntime;

namespace Attention.Peers;

/// <summary>A way of asking the peer that was tried.</summary>
/// <param name="Way">Operator and form of the mask.</param>
/// <param name="Milliseconds">Of the better of two runs, or of one that was far behind; null where it does not compute this.</param>
/// <param name="Why">Why it was not taken; null: it was.</param>
internal sealed record Tried(string Way, double? Milliseconds, string? Why);

/// <summary>One side of a row.</summary>
/// <param name="What">The kernel, or the operator.</param>
/// <param name="Milliseconds">Of all rounds.</param>
/// <param name="GflopPerSecond">Of the median time, over the scores in visible cells of 64 x 64.</param>
/// <param name="LargestError">On the sampled rows, to double precision.</param>
/// <param name="Fault">What is beyond the error rule; null: nothing.</param>
/// <param name="Rounds">Each round's time in milliseconds.</param>
internal sealed record Side(string What, Spread Milliseconds, double GflopPerSecond, double LargestError, string? Fault, IReadOnlyList<double> Rounds);

/// <summary>A row's result.</summary>
/// <param name="Row">Its name.</param>
/// <param name="Title">What is compared.</param>
/// <param name="Shape">[B, H, S, D].</param>
/// <param name="KeyLengths">[B]; null: none.</param>
/// <param name="Share">Of the scores in visible cells of 64 x 64.</param>
/// <param name="Ratio">Own time / the peer's, round by round.</param>
/// <param name="Goal">The largest median that will do.</param>
/// <param name="OwnRatio">Own time / own time without a mask, round by round; null where there is no such row.</param>
/// <param name="OwnGoal">The largest median that will do; null: there is none.</param>
/// <param name="Own">This library.</param>
/// <param name="Peer">ONNX Runtime.</param>
/// <param name="Tried">Every way of asking it.</param>
internal sealed record RowResult(
    string Row, string Title, IReadOnlyList<long> Shape, IReadOnlyList<int>? KeyLengths, double Share, Spread Ratio, double Goal, Spread? OwnRatio,
    double? OwnGoal, Side Own, Side Peer, IReadOnlyList<Tried> Tried)
{
    public string? Fault => Own.Fault ?? Peer.Fault;
}

/// <summary>Compares the rows of a group by turns: a round is one run of each side of each row, every other round in the opposite order.</summary>
internal sealed class Comparison : IDisposable
{
    private readonly Group _group;
    private readonly Operands _operands;
    private readonly List<Contest> _contests = [];

    /// <param name="context">Where this library computes.</param>
    /// <param name="group">What is compared.</param>
    /// <param name="rows">Which of its rows.</param>
    /// <param name="progress">Told what is done.</param>
    /// <param name="stop">Looked at between the ways that are tried.</param>
    /// <exception cref="OperationCanceledException">It was stopped before there was anything to compare.</exception>
    public Comparison(AttentionContext context, Group group, IReadOnlyList<Row> rows, Action<string> progress, CancellationToken stop)
    {
        _group = group;
        progress("filling memory");
        _operands = new(group, seed: 20260101);
        try
        {
            foreach (Row row in rows)
            {
                Check check = new(group, row, _operands, seed: 7);
                (Peer peer, List<Tried> tried) = Choose(row, check, context.Workers, progress, stop);
                _contests.Add(new(row, check, new(context, group, row, _operands), peer, tried));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Bytes of operands and outputs, and bytes of the process on huge pages, between the rounds.</summary>
    public (long Operands, long Huge) Memory => ((6 + (2 * _contests.Count)) * _operands.Bhsd.Q.Bytes, HugeMemory.OfProcess());

    public List<RowResult> Measure(int rounds, Action<string> progress, CancellationToken stop)
    {
        Contest[] turns = [.. _contests];
        foreach (Contest contest in turns.TakeWhile(_ => !stop.IsCancellationRequested))
        {
            progress($"{contest.Row.Name}: warming up");
            contest.Own.Run();
            contest.Peer.Run();
        }
        for (int round = 0; round < rounds && !stop.IsCancellationRequested; round++)
        {
            progress($"{string.Join(", ", turns.Select(contest => contest.Row.Name))}: round {round + 1} of {rounds}");
            foreach (Contest contest in round % 2 == 0 ? turns : turns.Reverse())
            {
                contest.Round(ownFirst: round % 2 == 0);
            }
        }
        return turns[0].OwnTimes.Count == 0 ? [] : [.. turns.Select(Result)];
    }

    public void Dispose()
    {
        foreach (Contest contest in _contests)
        {
            contest.Own.Dispose();
            contest.Peer.Dispose();
        }
        _operands.Dispose();
    }

    /// <summary>The fastest of the ways that give what is right.</summary>
    private (Peer, List<Tried>) Choose(Row row, Check check, int threads, Action<string> progress, CancellationToken stop)
    {
        Peer? best = null;
        double shortest = double.PositiveInfinity;
        List<Tried> tried = [];
        foreach (PeerWay way in PeerWay.Of(_group, row))
        {
            if (stop.IsCancellationRequested)
            {
                best?.Dispose();
                throw new OperationCanceledException(stop);
            }
            progress($"{row.Name}: trying {way.Name}");
            Peer? peer = null;
            double milliseconds;
            string? why;
            try
            {
                peer = new(way, _group, _operands, threads);
                peer.Run();
                milliseconds = Time(peer.Run);
                milliseconds = milliseconds > 1.3 * shortest ? milliseconds : Math.Min(milliseconds, Time(peer.Run));
                why = check.Of(peer.Output, peer.RowAt).Fault;
            }
            catch (OnnxRuntimeException refusal)
            {
                peer?.Dispose();
                tried.Add(new(way.Name, null, $"refused: {refusal.Message.ReplaceLineEndings(" ")}"));
                continue;
            }
            why ??= milliseconds < shortest ? null : "slower";
            tried.Add(new(way.Name, Math.Round(milliseconds, 3), why));
            if (why is null)
            {
                (peer, best, shortest) = (best, peer, milliseconds);
            }
            peer?.Dispose();
        }
        if (best is null)
        {
            string refusals = string.Join("; ", tried.Select(t => $"{t.Way}: {t.Why}"));
            throw new InvalidOperationException($"{row.Name}: no way of asking ONNX Runtime gives what is right: {refusals}");
        }
        return (best, [.. tried.Select(t => t.Why is null && t.Way != best.Way.Name ? t with { Why = "slower" } : t)]);
    }

    private RowResult Result(Contest contest)
    {
        Contest first = _contests[0];
        (Row row, double operations) = (contest.Row, _group.Operations(contest.Row));
        bool besideUnmasked = contest != first && first.Row is { Lengths: null, Causal: false };
        Spread? ownRatio = besideUnmasked ? Over(contest.OwnTimes, first.OwnTimes) : null;
        Side Side(string what, List<double> times, HugeMemory output, Func<int, int, int, int> rowAt)
        {
            Spread spread = Spread.Of(times);
            (string? fault, double error) = contest.Check.Of(output, rowAt);
            return new(what, spread, Math.Round(operations / spread.Median / 1e6, 1), error, fault, times);
        }
        return new(
            row.Name, row.Title, _group.Shape, row.Lengths, Math.Round(_group.Share(row), 6), Over(contest.OwnTimes, contest.PeerTimes), row.Goal, ownRatio,
            ownRatio is null ? null : row.OwnGoal, Side(contest.Own.Kernel, contest.OwnTimes, contest.Own.Output, contest.Own.RowAt),
            Side(contest.Peer.Way.Name, contest.PeerTimes, contest.Peer.Output, contest.Peer.RowAt), contest.Tried);
    }

    private static Spread Over(List<double> times, List<double> others) => Spread.Of([.. times.Zip(others, (time, other) => time / other)]);

    private static double Time(Action run)
    {
        long began = Stopwatch.GetTimestamp();
        run();
        return Stopwatch.GetElapsedTime(began).TotalMilliseconds;
    }

    /// <summary>Both sides of a row, and their times so far.</summary>
    private sealed record Contest(Row Row, Check Check, Own Own, Peer Peer, IReadOnlyList<Tried> Tried)
    {
        public List<double> OwnTimes { get; } = [];

        public List<double> PeerTimes { get; } = [];

        public void Round(bool ownFirst)
        {
            // What an earlier run wrote must not pass for what this one should have.
            Own.Output.Span.Fill(float.NaN);
            Peer.Output.Span.Fill(float.NaN);
            double own = ownFirst ? Time(Own.Run) : 0;
            PeerTimes.Add(Time(Peer.Run));
            OwnTimes.Add(ownFirst ? own : Time(Own.Run));
        }
    }
}
