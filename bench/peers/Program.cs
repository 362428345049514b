using System.Runtime.InteropServices;
using Attention.Tool;
using CommandLine;
using CommandLine.Text;

namespace Attention.Peers;

/// <summary>Compares this library with ONNX Runtime, and a call through .NET with one through the C ABI.</summary>
internal static class Program
{
    private const int Done = 0, Wrong = 1, BadUsage = 2, Interrupted = 130;

    public static int Main(string[] arguments)
    {
        HugeMemory.ForMalloc();
        using Parser parser = new(settings =>
        {
            settings.HelpWriter = null;
            settings.AutoVersion = false;
            settings.AllowMultiInstance = true;
        });
        ParserResult<Options> parsed = parser.ParseArguments<Options>(arguments);
        if (parsed.Errors.Any())
        {
            bool asked = parsed.Errors.IsHelp();
            (asked ? Console.Out : Console.Error).WriteLine(asked ? Help(parsed) : $"peers: {string.Join("; ", parsed.Errors.Select(Sentence))}; see --help");
            return asked ? Done : BadUsage;
        }
        using CancellationTokenSource stop = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            return Run(parsed.Value, arguments, stop.Token);
        }
        catch (ArgumentException wrong)
        {
            Console.Error.WriteLine($"peers: {wrong.Message}");
            return BadUsage;
        }

        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
            Progress.Say("stopping after this round");
        }
    }

    private static int Run(Options options, string[] arguments, CancellationToken stop)
    {
        Group[] groups = ReadRows();
        string[] names = Names(groups), only = [.. options.Only];
        string? unknown = only.FirstOrDefault(name => !names.Contains(name));
        if (unknown is not null)
        {
            throw new ArgumentException($"--only {unknown}: {string.Join(", ", names)} are allowed");
        }
        if (options.Rounds is < Options.FewestRounds or > 1000)
        {
            throw new ArgumentException($"--rounds {options.Rounds}: 15 to 1000 are allowed; --quick takes three");
        }
        if (options.Threads is < 1 or > 1024)
        {
            throw new ArgumentException($"--threads {options.Threads}: 1 to 1024 are allowed");
        }
        if (options.Json is not null && !Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(options.Json))))
        {
            throw new ArgumentException($"--json {options.Json}: there is no such folder");
        }

        using AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = options.Threads });
        Report report = new(Machine.Describe(context, arguments), !options.Quick, options.Quick ? 3 : options.Rounds, false, [], [], []);
        foreach (Group group in groups)
        {
            Row[] wanted = [.. group.Rows.Where(row => only.Length == 0 || only.Contains(row.Name))];
            if (wanted.Length == 0 || stop.IsCancellationRequested)
            {
                continue;
            }
            // A row that is also measured against its group's unmasked one brings it along.
            Row[] rows = wanted.Any(row => row.OwnGoal is not null) ? [.. wanted.Prepend(group.Rows[0]).Distinct()] : wanted;
            try
            {
                using Comparison comparison = new(context, group, rows, Progress.Say, stop);
                report.Rows.AddRange(comparison.Measure(report.Rounds, Progress.Say, stop));
                (long operands, long huge) = comparison.Memory;
                report.Memory.Add(new(string.Join(", ", rows.Select(row => row.Name)), operands, huge));
            }
            catch (OperationCanceledException)
            {
                // before its first round: there is nothing to report of this group
            }
        }
        if (only.Length == 0 || only.Contains(Rows.Overhead))
        {
            foreach (int workers in new[] { 1, 2 })
            {
                Progress.Say($"{Rows.Overhead}: {workers} {(workers == 1 ? "worker" : "workers")}");
                using CallOverhead overhead = new(workers);
                report.Overhead.AddRange(overhead.Measure(report.Rounds, options.Quick ? 1000 : 10000, stop));
            }
        }
        Progress.Clear();
        report = report with { Interrupted = stop.IsCancellationRequested };
        report.Print();
        if (options.Json is not null)
        {
            string part = options.Json + ".part";
            File.WriteAllText(part, Json.Text(report) + "\n");
            File.Move(part, options.Json, overwrite: true);
        }
        return report.Interrupted ? Interrupted : report.Right ? Done : Wrong;
    }

    private static Group[] ReadRows() => Rows.Read(Path.Combine(Machine.RepoRoot, "bench", "data"));

    private static string[] Names(Group[] groups) => [.. groups.SelectMany(group => group.Rows).Select(row => row.Name), Rows.Overhead];

    private static string Help(ParserResult<Options> parsed)
    {
        HelpText help = new("Attention.Peers  compares this library with ONNX Runtime on the CPU, and a call through .NET with one through the C ABI")
        {
            AddDashesToOption = true,
            AdditionalNewLineAfterOption = false,
            AutoVersion = false,
            MaximumDisplayWidth = 160,
        };
        help.AddOptions(parsed);
        string[] names = Names(ReadRows());
        help.AddPostOptionsText($"""

            Rows: {string.Join(", ", names)}.
            Every way of asking ONNX Runtime (MultiHeadAttention, Attention-23 and -24, each form of mask) is tried once; the fastest that is right is the
            peer. Rounds alternate between the two and among the rows of a group; a ratio is the median of the rounds' ratios. Outputs of both are checked
            against double precision on sampled rows. Ctrl-C ends after the current round and prints what is done.

            EXAMPLES
              ./build.sh bench --peers --quick
              ./build.sh bench --peers --rounds 31 --only whisper-lengths --json lengths.json
            EXIT  0 done   1 an output was wrong   2 bad usage   130 interrupted
            """);
        return help.ToString();
    }

    private static string Sentence(Error error) => error switch
    {
        NamedError named => $"--{named.NameInfo.LongName}: {error.Tag}",
        TokenError token => $"{token.Token}: {error.Tag}",
        _ => error.Tag.ToString(),
    };
}
