using System.Globalization;
using Attention.Tool.Bench;
using Attention.Tool.Files;
using Attention.Tool.Options;
using Attention.Tool.Pictures;
using Spectre.Console;

namespace Attention.Tool;

/// <summary><c>attn bench</c>: what masks cost here, each against its own unmasked run.</summary>
internal static class BenchCommand
{
    private const string SampleName = "sample.safetensors";

    public static int Execute(BenchOptions options, CancellationToken stop)
    {
        string suite = OptionValues.Word("--suite", options.Suite, "whisper", [.. Suites.Names.Append("all").Select(name => (name, name))]);
        AttentionDType? asked = OptionValues.Word<AttentionDType?>(
            "--dtype", options.Dtype, null, ("f32", AttentionDType.Float32), ("f16", AttentionDType.Float16), ("bf16", AttentionDType.BFloat16));
        string? sample = FindSample(options.Data);
        if (options.Output is not null && options.Plot is not null && Path.GetFullPath(options.Output) == Path.GetFullPath(options.Plot))
        {
            throw InputException.Of("--plot", options.Plot, "is the file of another output; each needs its own");
        }
        using OutputFile? output = options.Output is null ? null : OutputFile.Create("--output", options.Output);
        using OutputFile? png = options.Plot is null ? null : OutputFile.Create("--plot", options.Plot);
        using AttentionContext context = OptionValues.Context(options.Device, options.Threads);
        // A GPU's flash takes no float32.
        AttentionDType dtype = asked ?? (context.Device.Type == AttentionDeviceType.Cuda ? AttentionDType.Float16 : AttentionDType.Float32);

        List<string> leftOut = [];
        bool whisper = suite is "whisper" or "all";
        if (sample is null && whisper)
        {
            leftOut.Add($"the real sample: no bench/data/{SampleName} beside or above the executable or this folder; --data names its folder");
        }
        List<BenchRow> rows = Measure(context, new Suites(context, dtype, sample), suite, leftOut, stop);
        BenchReport report = new(suite, context.Device.ToString(), context.DeviceName, context.InstructionSet, context.Workers, OptionsName(dtype),
            whisper ? Suites.EightClips : null, whisper ? Math.Round(Suites.EightClipsShare, 4) : null, rows, leftOut);
        string json = Json.Text(report);
        if (options.Json)
        {
            Console.Out.WriteLine(json);
        }
        else
        {
            Print(report);
        }
        output?.Write(stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(json + "\n")));
        png?.Write(stream => Draw(stream, report));
        output?.Commit();
        png?.Commit();
        if (png is not null && Fonts.Missing is { } missing)
        {
            Console.Error.WriteLine($"attn: {missing}");
        }
        return ExitCode.Success;
    }

    private static List<BenchRow> Measure(AttentionContext context, Suites suites, string suite, List<string> leftOut, CancellationToken stop)
    {
        IAnsiConsole stderr = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        List<BenchRow> rows = [];
        if (Console.IsErrorRedirected)
        {
            Run((_, _) => { }, group => Console.Error.WriteLine(group));
            return rows;
        }
        TaskDescriptionColumn description = new() { Alignment = Justify.Left };
        stderr.Progress().AutoClear(true).Columns(description, new ProgressBarColumn(), new ElapsedTimeColumn()).Start(bars =>
        {
            ProgressTask? bar = null;
            string name = "";
            Run(
                (what, share) =>
                {
                    bar!.Value = share;
                    bar.Description = Markup.Escape($"{name}  {what}");
                },
                group =>
                {
                    if (bar is not null)
                    {
                        bar.Value = bar.MaxValue;
                        bar.StopTask();
                    }
                    name = group;
                    bar = bars.AddTask(Markup.Escape(group), maxValue: 1);
                });
        });
        return rows;

        void Run(Action<string, double> progress, Action<string> begins)
        {
            Bench.Timer timer = new(context, progress, stop);
            foreach (Func<BenchGroup> make in suites.Groups(suite))
            {
                stop.ThrowIfCancellationRequested();
                begins("filling memory");
                using BenchGroup group = make();
                begins(group.Name);
                rows.AddRange(timer.Measure(group));
            }
            leftOut.AddRange(timer.LeftOut);
            if (suite is "whisper" or "all")
            {
                leftOut.Add("naive at the report's shape: it holds all scores in memory and computes in float64; the sample's shape shows what it costs");
            }
        }
    }

    private static void Print(BenchReport report)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Out) });
        if (Console.IsOutputRedirected)
        {
            const int Wide = 140; // a file has no width; nothing is to be broken in it
            console.Profile.Width = Wide;
        }
        console.WriteLine($"{report.Device}: {report.Processor}, {report.InstructionSet}, {Report.Workers(report.Device, report.Threads)}, {report.Dtype}");
        foreach (IGrouping<string, BenchRow> group in report.Rows.GroupBy(row => row.Group))
        {
            Table table = new Table().Border(TableBorder.Rounded).Title(Markup.Escape(group.Key));
            bool stored = group.Any(row => row.Difference is not null);
            table.AddColumns(
                new TableColumn("backend"), new TableColumn("mask or bias"), Number("ms"), Number("× unmasked"), Number("quartiles"), Number("tiles left"),
                Number("rounds"));
            if (stored)
            {
                table.AddColumn(Number("off by"));
            }
            string? backend = null;
            foreach (BenchRow row in group)
            {
                if (backend is not null && backend != row.Backend)
                {
                    table.AddEmptyRow();
                }
                List<string> cells =
                [
                    backend == row.Backend ? "" : row.Backend, row.Case, Text("0.00", row.Milliseconds.Median), Text("0.000", row.RatioToUnmasked.Median),
                    Text("0.000", row.RatioToUnmasked.LowerQuartile) + Text("–0.000", row.RatioToUnmasked.UpperQuartile), Text("0.0 %", row.VisibleTiles),
                    Text("0", row.Milliseconds.Repeat),
                ];
                if (stored)
                {
                    cells.Add(row.Difference is { } difference ? Text("0.0e0", difference) : "");
                }
                table.AddRow([.. cells.Select(Markup.Escape)]);
                backend = row.Backend;
            }
            console.Write(table);
            console.WriteLine($"auto takes {string.Join(", ", group.Select(row => row.Auto).Distinct())}; {Refusals(group)}");
            if (stored)
            {
                // The stored inputs are float16, and so float32 too.
                string rounded = report.Dtype == OptionsName(AttentionDType.BFloat16) ? "inputs that were not rounded to bf16" : "the same inputs";
                console.WriteLine($"off by: the largest difference to rows computed beforehand in float64 from {rounded}");
            }
        }
        PrintEightClips(console, report);
        foreach (string line in report.LeftOut)
        {
            console.WriteLine($"left out: {line}");
        }

        static TableColumn Number(string name) => new TableColumn(name).RightAligned();
    }

    private static string Refusals(IEnumerable<BenchRow> rows)
    {
        IEnumerable<string> refusals = rows.SelectMany(
            row => row.Refused.Select(refused => $"{refused.Backend} refuses {row.Case}: {string.Join("; ", refused.Reasons)}"));
        string[] reasons = [.. refusals.Distinct()];
        return reasons.Length == 0 ? "no backend refuses; the order is flash, memory-efficient, naive" : string.Join("; ", reasons);
    }

    private static void PrintEightClips(IAnsiConsole console, BenchReport report)
    {
        BenchRow? masked = report.Rows.FirstOrDefault(
            row => row is { Case: "key lengths", Backend: "flash" } && row.Group.Contains("eight", StringComparison.Ordinal));
        if (masked is not null)
        {
            console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"Eight real clips need {100 * report.EightClipsShare:0.0} % of the keys; "
                + $"attention over them costs {100 * masked.RatioToUnmasked.Median:0.0} % of unmasked."));
        }
    }

    private static void Draw(Stream stream, BenchReport report) => BarPicture.WritePng(stream,
        [.. report.Rows.Select(row => new Bar(
            row.Group, $"{row.Case} · {row.Backend}", row.Backend, row.RatioToUnmasked.Median,
            $"{Text("0.00×", row.RatioToUnmasked.Median)}  {Text("0.0", row.Milliseconds.Median)} ms"))],
        $"attn bench, {report.Suite}: {report.Dtype}, {Report.Workers(report.Device, report.Threads)}, {report.InstructionSet}");

    private static string Text(string format, double value) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string OptionsName(AttentionDType dtype) => dtype switch
    {
        AttentionDType.Float16 => "f16",
        AttentionDType.BFloat16 => "bf16",
        _ => "f32",
    };

    private static string? FindSample(string? folder)
    {
        if (folder is not null)
        {
            string named = Path.Combine(folder, SampleName);
            return File.Exists(named) ? named : throw InputException.Of("--data", folder, $"has no {SampleName}");
        }
        string?[] starts = [Path.GetDirectoryName(Environment.ProcessPath), AppContext.BaseDirectory, Environment.CurrentDirectory];
        return starts.Where(start => start is not null).SelectMany(start => Above(start!)).Select(above => Path.Combine(above, "bench", "data", SampleName))
            .FirstOrDefault(File.Exists);

        static IEnumerable<string> Above(string start)
        {
            for (string? at = Path.TrimEndingDirectorySeparator(start); at is not null; at = Path.GetDirectoryName(at))
            {
                yield return at;
            }
        }
    }

    private sealed record BenchReport(
        string Suite, string Device, string Processor, string InstructionSet, int Threads, string Dtype, IReadOnlyList<int>? EightClips,
        double? EightClipsShare, IReadOnlyList<BenchRow> Rows,
        IReadOnlyList<string> LeftOut);
}
