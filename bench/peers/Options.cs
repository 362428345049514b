using CommandLine;

namespace Attention.Peers;

/// <summary>What the command line says.</summary>
internal sealed class Options
{
    public const int FewestRounds = 15;

    [Option("rounds", MetaValue = "N", Default = FewestRounds, HelpText = "rounds of every row, 15 to 1000")]
    public int Rounds { get; set; }

    [Option("threads", MetaValue = "N", Default = 2, HelpText = "threads that compute, of either side, 1 to 1024")]
    public int Threads { get; set; }

    [Option("only", MetaValue = "NAME", HelpText = "measures this row alone, and the row without a mask where a goal needs it; may be given more than once")]
    public IEnumerable<string> Only { get; set; } = [];

    [Option("quick", HelpText = "three rounds, to see whether all is well: no measurement")]
    public bool Quick { get; set; }

    [Option("json", MetaValue = "FILE", HelpText = "also writes everything to a file, each round's times too")]
    public string? Json { get; set; }
}
