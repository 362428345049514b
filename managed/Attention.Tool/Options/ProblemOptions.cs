using CommandLine;

namespace Attention.Tool.Options;

/// <summary>What <c>run</c> and <c>explain</c> share: the operands, who sees whom, what is added, where it runs. Values are the user's text, read by
/// <see cref="OptionValues"/>.</summary>
internal abstract class ProblemOptions
{
    [Option('q', "query", MetaValue = "Q.npy", HelpText = "queries [B, Hq, Sq, D]")]
    public string? Query { get; set; }

    [Option('k', "key", MetaValue = "K.npy", HelpText = "keys [B, Hkv, Sk, D]; Hq is a multiple of Hkv, query head h reads key head h / (Hq / Hkv)")]
    public string? Key { get; set; }

    [Option('v', "value", MetaValue = "V.npy", HelpText = "values [B, Hkv, Sk, Dv]")]
    public string? Value { get; set; }

    [Option('o', "output", MetaValue = "O.npy", HelpText = "the result [B, Hq, Sq, Dv] in the dtype computed in (bf16 is written as f4)")]
    public string? Output { get; set; }

    [Option("layout", MetaValue = "bhsd|bshd", HelpText = "order of the dimensions of Q, K, V and O; bhsd unless given")]
    public string? Layout { get; set; }

    [Option("dtype", MetaValue = "f32|f16|bf16", HelpText = "the dtype computed in; Q's own unless given, f8 as f32")]
    public string? Dtype { get; set; }

    [Option(
        "mask", MetaValue = "M.npy",
        HelpText = "bool or uint8: keep, true = takes part; float: bias, added to the scores; broadcast to [B, Hq, Sq, Sk]; "
            + "may be given twice, once of each kind")]
    public IEnumerable<string> Mask { get; set; } = [];

    [Option("causal", HelpText = "query i sees key j <= i + offset")]
    public bool Causal { get; set; }

    [Option("prefix", MetaValue = "N.npy", HelpText = "[B]: query i sees key j < N[b] or j <= i + offset; takes causal's place")]
    public string? Prefix { get; set; }

    [Option("window", MetaValue = "L,R", HelpText = "query i sees i + offset - L <= j <= i + offset + R; -1 = unbounded")]
    public string? Window { get; set; }

    [Option(
        "offset", MetaValue = "top-left|bottom-right|INTEGER|N.npy",
        HelpText = "what is added to i in causal, window, prefix, ALiBi: 0, keys - queries, a number (may be negative), or one for each batch")]
    public string? Offset { get; set; }

    [Option("key-lengths", MetaValue = "N.npy", HelpText = "[B]: keys from N[b] on are padding")]
    public string? KeyLengths { get; set; }

    [Option("query-lengths", MetaValue = "M.npy", HelpText = "[B]: queries from M[b] on are padding; their O is 0")]
    public string? QueryLengths { get; set; }

    [Option("q-documents", MetaValue = "A.npy", HelpText = "[B, Sq]: a query sees the keys of its own document; a negative number is padding")]
    public string? QueryDocuments { get; set; }

    [Option("k-documents", MetaValue = "B.npy", HelpText = "[B, Sk]: the keys' documents")]
    public string? KeyDocuments { get; set; }

    [Option("alibi", MetaValue = "SLOPES.npy", HelpText = "[Hq]: adds -slope[h] * |i + offset - j|")]
    public string? Alibi { get; set; }

    [Option("scale", MetaValue = "X", HelpText = "multiplies Q K^T; 1 / sqrt(D) unless given; any finite number")]
    public string? Scale { get; set; }

    [Option("softcap", MetaValue = "X", HelpText = "scores become X * tanh(score / X); 0 = off")]
    public string? Softcap { get; set; }

    [Option("lse", MetaValue = "LSE.npy", HelpText = "also writes log(sum(exp(scores))), f4 [B, Hq, Sq]")]
    public string? Lse { get; set; }

    [Option("probabilities", MetaValue = "P.npy", HelpText = "also writes the probabilities, f4 [B, Hq, Sq, Sk]; only naive has them")]
    public string? Probabilities { get; set; }

    [Option("device", MetaValue = "auto|cpu|cuda|cuda:N", HelpText = "auto: a GPU if there is a usable one, else the CPU")]
    public string? Device { get; set; }

    [Option(
        "backend", MetaValue = "auto|flash|memory-efficient|naive",
        HelpText = "auto: the fastest that takes the problem; another one is required: if it refuses, exit 3")]
    public string? Backend { get; set; }

    [Option("threads", MetaValue = "N", HelpText = "CPU threads that compute, 1 to 1024; the CPU quota unless given")]
    public string? Threads { get; set; }

    [Option("repeat", MetaValue = "N", HelpText = "timed calls, at least 1; 1 unless given")]
    public string? Repeat { get; set; }

    [Option("warmup", MetaValue = "N", HelpText = "calls before the timed ones; 0 unless given")]
    public string? Warmup { get; set; }

    [Option("json", HelpText = "stdout is one JSON object and nothing else")]
    public bool Json { get; set; }
}

[Verb("run", HelpText = "computes attention over arrays in files")]
internal sealed class RunOptions : ProblemOptions;

[Verb("explain", HelpText = "says what would run, who refuses and why, and which tiles of the scores a mask leaves")]
internal sealed class ExplainOptions : ProblemOptions
{
    [Option("shape", MetaValue = "B,Hq,Hkv,Sq,Sk,D,Dv", HelpText = "a problem without files; instead of -q, -k, -v")]
    public string? Shape { get; set; }

    [Option("plot", MetaValue = "F.png", HelpText = "draws the tile map: which tiles of queries x keys are full, partial, empty")]
    public string? Plot { get; set; }
}

[Verb("bench", HelpText = "measures what masks cost, each against its own unmasked run")]
internal sealed class BenchOptions
{
    [Option("suite", MetaValue = "whisper|masks|prefill|decode|all", HelpText = "which cases; whisper unless given")]
    public string? Suite { get; set; }

    [Option("device", MetaValue = "auto|cpu|cuda|cuda:N", HelpText = "auto: a GPU if there is a usable one, else the CPU")]
    public string? Device { get; set; }

    [Option("dtype", MetaValue = "f32|f16|bf16", HelpText = "the dtype computed in; f32 unless given, on a GPU f16")]
    public string? Dtype { get; set; }

    [Option("threads", MetaValue = "N", HelpText = "CPU threads that compute, 1 to 1024; the CPU quota unless given")]
    public string? Threads { get; set; }

    [Option("data", MetaValue = "FOLDER", HelpText = "where sample.safetensors lies; bench/data beside or above the executable unless given")]
    public string? Data { get; set; }

    [Option("json", HelpText = "stdout is one JSON object and nothing else")]
    public bool Json { get; set; }

    [Option("output", MetaValue = "F", HelpText = "also writes the JSON object to a file")]
    public string? Output { get; set; }

    [Option("plot", MetaValue = "F.png", HelpText = "draws each case's time relative to its own unmasked run")]
    public string? Plot { get; set; }
}

[Verb("info", HelpText = "says what was loaded: library, instruction set, devices, cache")]
internal sealed class InfoOptions
{
    [Option("json", HelpText = "stdout is one JSON object and nothing else")]
    public bool Json { get; set; }
}
