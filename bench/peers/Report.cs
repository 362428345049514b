using System.Globalization;
using Attention.Tool;
using Spectre.Console;

namespace Attention.Peers;

/// <summary>All that was measured, for people and as JSON.</summary>
internal sealed record Report(
    Machine Machine, bool Measurement, int Rounds, bool Interrupted, List<RowResult> Rows, List<OverheadResult> Overhead, List<MemoryUse> Memory)
{
    /// <summary>Whether every output was right.</summary>
    public bool Right => Rows.TrueForAll(row => row.Fault is null) && Overhead.TrueForAll(row => row.Fault is null);

    public void Print()
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Out) });
        if (Console.IsOutputRedirected)
        {
            const int Wide = 200; // a file has no width; nothing is to be broken in it
            console.Profile.Width = Wide;
        }
        Machine m = Machine;
        string commit = $"{m.Commit}{(m.Dirty ? " with changes" : "")}";
        console.WriteLine($"{m.Cpu}, {m.InstructionSet}, {m.Threads} threads each; ONNX Runtime {m.OnnxRuntime}; {commit}, {m.Date}");
        if (!Measurement)
        {
            console.WriteLine("NO MEASUREMENT: three rounds only show that all runs and is right.");
        }
        if (Rows.Count > 0)
        {
            PrintRows(console);
        }
        if (Overhead.Count > 0)
        {
            PrintOverhead(console);
        }
        foreach (string fault in Faults())
        {
            console.WriteLine($"WRONG  {fault}");
        }
        if (Interrupted)
        {
            console.WriteLine("interrupted: what is above was done by then");
        }
    }

    private IEnumerable<string> Faults() =>
        Rows.Where(row => row.Own.Fault is not null).Select(row => $"{row.Row}, this library: {row.Own.Fault}")
            .Concat(Rows.Where(row => row.Peer.Fault is not null).Select(row => $"{row.Row}, ONNX Runtime: {row.Peer.Fault}"))
            .Concat(Overhead.Where(row => row.Fault is not null).Select(row => $"{Peers.Rows.Overhead}, {row.Workers} workers, {row.Through}: {row.Fault}"));

    private void PrintRows(IAnsiConsole console)
    {
        Table table = new Table().Border(TableBorder.Rounded).Title("time / ONNX Runtime's");
        table.AddColumns(new TableColumn("row"), new TableColumn("[[B, H, S, D]]"), Number("share"));
        table.AddColumns(Number("own ms"), Number("GFLOP/s"), Number("ORT ms"), Number("GFLOP/s"));
        table.AddColumns(Number("own / ORT"), Number("quartiles"), Number("must"), Number("/ own unmasked"), Number("quartiles"), Number("must"));
        table.AddColumn(new TableColumn("ORT's operator"));
        foreach (RowResult row in Rows)
        {
            List<string> cells =
            [
                row.Title, string.Join(", ", row.Shape), Text("0.0 %", row.Share),
                Text("0.0", row.Own.Milliseconds.Median), Text("0.0", row.Own.GflopPerSecond),
                Text("0.0", row.Peer.Milliseconds.Median), Text("0.0", row.Peer.GflopPerSecond),
                .. Ratio(row.Ratio, row.Goal), .. row.OwnRatio is { } own ? Ratio(own, row.OwnGoal) : ["", "", ""], row.Peer.What,
            ];
            table.AddRow([.. cells.Select(Markup.Escape)]);
        }
        console.Write(table);
        console.WriteLine("share: scores in 64 x 64 cells that somebody sees, as GFLOP/s count. Ratios: by rounds, median and quartiles; ! misses its goal");
        foreach (RowResult row in Rows)
        {
            console.WriteLine($"{row.Row}: {row.Own.What}; ORT tried {string.Join(", ", row.Tried.Select(Attempt))}");
            (string own, string peer) = (Text("0.0e0", row.Own.LargestError), Text("0.0e0", row.Peer.LargestError));
            console.WriteLine($"    errors to double precision on sampled rows: own {own}, ORT {peer}");
        }
        foreach (MemoryUse use in Memory)
        {
            console.WriteLine($"{use.Rows}: operands {use.OperandBytes >> 20} MiB; {use.HugeBytes >> 20} MiB of the process on huge pages");
        }
    }

    private void PrintOverhead(IAnsiConsole console)
    {
        Table table = new Table().Border(TableBorder.Rounded).Title(".NET's overhead per call, [[1, 1, 16, 16]] D64, plan reused");
        table.AddColumns(new TableColumn("workers"), new TableColumn("operands"), Number("attn_run ns"), Number("plan.Run ns"));
        table.AddColumns(Number("overhead ns"), Number("quartiles"), Number("must"), Number("bytes allocated"));
        foreach (OverheadResult row in Overhead)
        {
            Spread overhead = row.OverheadNanoseconds;
            table.AddRow(
                Text("0", row.Workers), row.Through, Text("0", row.NativeNanoseconds.Median), Text("0", row.ManagedNanoseconds.Median),
                Text("0", overhead.Median), $"{Text("0", overhead.LowerQuartile)}–{Text("0", overhead.UpperQuartile)}",
                $"{Text("0", row.Goal)}{(overhead.Median > row.Goal ? " !" : "")}", $"{Text("0", row.BytesAllocated)}{(row.BytesAllocated > 0 ? " !" : "")}");
        }
        console.Write(table);
    }

    private static string[] Ratio(Spread ratio, double? goal)
    {
        string must = goal is { } most ? Text("0.00", most) + (ratio.Median > most ? " !" : "") : "";
        return [Text("0.000", ratio.Median), $"{Text("0.000", ratio.LowerQuartile)}–{Text("0.000", ratio.UpperQuartile)}", must];
    }

    private static string Attempt(Tried tried) =>
        $"{tried.Way}{(tried.Milliseconds is { } ms ? Text(" 0.0 ms", ms) : "")} ({tried.Why ?? "taken"})";

    private static TableColumn Number(string name) => new TableColumn(name).RightAligned();

    private static string Text(string format, double value) => value.ToString(format, CultureInfo.InvariantCulture);
}

/// <summary>What a group of rows held between its rounds.</summary>
internal sealed record MemoryUse(string Rows, long OperandBytes, long HugeBytes);
