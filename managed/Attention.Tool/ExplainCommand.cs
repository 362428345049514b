using Attention.Tool.Files;
using Attention.Tool.Options;
using Attention.Tool.Pictures;

namespace Attention.Tool;

/// <summary><c>attn explain</c>: the plan of a problem, every refusal, and the tiles that its mask leaves. Nothing is computed.</summary>
internal static class ExplainCommand
{
    /// <summary>More maps than this no picture shows.</summary>
    private const int MostMaps = 1024;

    public static int Execute(ExplainOptions options)
    {
        OptionValues.Count("--repeat", options.Repeat, least: 1, most: 1_000_000, otherwise: 1);
        OptionValues.Count("--warmup", options.Warmup, least: 0, most: 1_000_000, otherwise: 0);
        bool probabilities = options.Probabilities is not null;
        BackendPolicy policy = OptionValues.Policy(options.Backend, probabilities);
        Question question = Question.Of(options);
        using OutputFile? png = options.Plot is null ? null : OutputFile.Create("--plot", options.Plot);
        using AttentionContext context = OptionValues.Context(options.Device, options.Threads);

        Mask mask = question.Mask(context);
        AttentionBias? bias = question.Bias(context);
        AttentionProblem problem = question.Problem(mask, bias, probabilities);
        using AttentionPlan plan = context.Plan(problem, policy);
        Report report = Report.Of(context, plan, mask, problem.Offset);
        if (png is not null)
        {
            report = report with { Plot = Draw(png, options.Plot!, question, plan, mask, report) };
            png.Commit();
        }
        report.Print(question.Sizes, options.Json);
        return ExitCode.Success;
    }

    private static PlotReport Draw(OutputFile png, string path, Question question, AttentionPlan plan, Mask mask, Report report)
    {
        long heads = question.HeadsShareTiles ? question.Sizes.QueryHeads : 1;
        List<DrawnMap> maps = [];
        long all = question.Sizes.Batch * (heads == 0 ? 0 : question.Sizes.QueryHeads / heads);
        for (long i = 0; i < Math.Min(all, MostMaps); i++)
        {
            (long batch, long head) = Math.DivRem(i, question.Sizes.QueryHeads / heads);
            maps.Add(new DrawnMap(batch, head * heads, heads, plan.TileMap(batch, head * heads, mask, plan.Problem.Offset)));
        }
        string title = $"{report.Backend} ({report.Kernel})   {question.Sizes}   {mask}   tiles of {report.Tile.Queries} queries × {report.Tile.Keys} keys";
        TileMapPicture picture = new(maps, all, report.Tile.Queries, report.Tile.Keys, title, (report.Tiles.Full, report.Tiles.Partial, report.Tiles.Empty));
        png.Write(picture.WritePng);
        if (Fonts.Missing is { } missing)
        {
            Console.Error.WriteLine($"attn: {missing}");
        }
        return new PlotReport(path, new CellReport(picture.CellWidth, picture.CellHeight),
            new ColorsReport(Text(TileMapPicture.Full), Text(TileMapPicture.Partial), Text(TileMapPicture.Empty)), picture.Panels);

        static string Text(SkiaSharp.SKColor color) => $"#{color.Red:X2}{color.Green:X2}{color.Blue:X2}";
    }
}
