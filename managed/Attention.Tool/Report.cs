using Attention.Tool.Options;

namespace Attention.Tool;

/// <summary>What <c>run</c> and <c>explain</c> say of a plan: the JSON object, and the same as lines for people.</summary>
internal sealed record Report(
    string Device, string Backend, string Kernel, IReadOnlyList<RefusedReport> Refused, TileReport Tile, TilesReport Tiles, Milliseconds? Milliseconds,
    Milliseconds? PreparedMilliseconds, int Threads, PlotReport? Plot)
{
    public static Report Of(AttentionContext context, AttentionPlan plan, Mask mask, QueryOffset offset)
    {
        TileCounts tiles = plan.Explain(mask, offset);
        return new(context.Device.ToString(), plan.Backend.Name(), plan.Kernel, RefusedBy(context, plan), new TileReport(tiles.TileQueries, tiles.TileKeys),
            new TilesReport(tiles.Full, tiles.Partial, tiles.Empty, null), null, null, context.Workers, null);
    }

    /// <summary>Every backend that refuses, whichever was asked for.</summary>
    public static IReadOnlyList<RefusedReport> RefusedBy(AttentionContext context, AttentionPlan plan) =>
        [.. plan.Refusals.Concat(context.Query(plan.Problem)).Where(refusal => refusal.Backend != plan.Backend).Distinct()
            .GroupBy(refusal => refusal.Backend).Select(group => new RefusedReport(group.Key.Name(), [.. group.Select(refusal => refusal.Text)]))];

    /// <summary>2 threads; on a GPU 132 multiprocessors.</summary>
    public static string Workers(string device, int count) => $"{count} {(device == "cpu" ? "thread" : "multiprocessor")}{(count == 1 ? "" : "s")}";

    public void Print(ProblemSizes sizes, bool json)
    {
        if (json)
        {
            Console.Out.WriteLine(Json.Text(this));
            return;
        }
        Console.Out.WriteLine($"{Backend} ({Kernel}) on {Device}, {Workers(Device, Threads)}: {sizes}");
        foreach (RefusedReport refusal in Refused)
        {
            Console.Out.WriteLine($"refused by {refusal.Backend}: {string.Join("; ", refusal.Reasons)}");
        }
        string visited = Tiles.Visited is { } count ? $"; {count} visited" : "";
        long all = Tiles.Full + Tiles.Partial + Tiles.Empty;
        string share = all == 0 ? "" : FormattableString.Invariant($" ({100.0 * (Tiles.Full + Tiles.Partial) / all:0.0} % of all are left)");
        Console.Out.WriteLine($"tiles of {Tile.Queries} × {Tile.Keys}: {Tiles.Full} full, {Tiles.Partial} partial, {Tiles.Empty} empty{share}{visited}");
        PrintTimes("time", Milliseconds);
        PrintTimes("with the mask prepared", PreparedMilliseconds);
    }

    private static void PrintTimes(string what, Milliseconds? times)
    {
        if (times is not null)
        {
            string spread = times.Repeat == 1 ? "" : FormattableString.Invariant($" (median of {times.Repeat}, {times.Min:0.###} to {times.Max:0.###})");
            Console.Out.WriteLine(FormattableString.Invariant($"{what}: {times.Median:0.###} ms{spread}"));
        }
    }
}

/// <summary>Where the picture of <c>explain --plot</c> has which map: pixels, and the colours of the three classes.</summary>
internal sealed record PlotReport(string File, CellReport Cell, ColorsReport Colors, IReadOnlyList<Pictures.TileMapPanel> Maps);

internal sealed record CellReport(int Width, int Height);

internal sealed record ColorsReport(string Full, string Partial, string Empty);
