using Attention.Tool.Options;
using CommandLine;
using CommandLine.Text;

namespace Attention.Tool;

/// <summary>Help that teaches: what a command is for, its options, what the masks mean, and three examples that can be pasted.</summary>
internal static class Help
{
    private const string Masks = """
        MASKS  who sees whom: query i of batch b, key j. All that are given apply together. p = i + offset is the query's position.
          --key-lengths     j < N[b]                     a padded batch: keys past the end are never computed
          --query-lengths   i < M[b]                     rows past it are 0
          --causal          j <= p                       no query sees its future
          --window L,R      p - L <= j <= p + R          a neighbourhood; -1 = unbounded
          --prefix          j < N[b] or j <= p           a prompt that all see, then causal
          --q-documents, --k-documents   the same id     several sequences in one row
          --mask (bool)     M[b, h, i, j] is true        any pattern; a tile it hides whole is never visited
        ADDED  --mask (float)  M[b, h, i, j]   --alibi  -slope[h] * |p - j|
        A query that sees no key has O = 0 and LSE = -inf.
        FILES  .npy, or FILE.safetensors:NAME. Lengths, offsets and ids are int32 or int64.
        """;

    private const string RunExamples = """
        EXAMPLES
          attn run -q Q.npy -k K.npy -v V.npy -o O.npy --causal
          attn run -q x.safetensors:Q -k x.safetensors:K -v x.safetensors:V -o O.npy --key-lengths x.safetensors:key_lengths --lse LSE.npy
          attn run -q Q.npy -k K.npy -v V.npy -o O.npy --mask keep.npy --mask bias.npy --backend flash --repeat 20 --warmup 3 --json
        EXIT  0 done   2 bad usage or input   3 the required backend refuses   4 the device or the native library failed
        """;

    private const string ExplainExamples = """
        EXAMPLES
          attn explain --shape 1,32,32,4096,4096,128,128 --causal --window 1024,0 --plot tiles.png
          attn explain --shape 8,20,20,1500,1500,64,64 --key-lengths lengths.npy --json
          attn explain -q Q.npy -k K.npy -v V.npy --mask keep.npy --probabilities P.npy
        EXIT  0 done   2 bad usage or input   3 the required backend refuses   4 the device or the native library failed
        """;

    private const string BenchExamples = """
        SUITES
          whisper   a speech encoder's batch: real Q, K, V of four clips, and B8 H20 S1500 D64; no mask, lengths, dense keep, bias; each backend
          masks     what each kind of mask costs at B2 H8 S2048 D64
          prefill   one long prompt, full and causal, D128
          decode    one query against 4096 cached keys, with and without grouped heads
          all       one after the other
        Cases of a group alternate, round by round, so that a noisy machine is noisy for all; the ratio is the median over rounds of time / own unmasked time.
        EXAMPLES
          attn bench
          attn bench --suite masks --dtype f16 --threads 2 --plot masks.png
          attn bench --suite all --output results.json
        EXIT  0 done   2 bad usage or input   4 the device or the native library failed   130 interrupted
        """;

    private const string InfoExamples = """
        EXAMPLES
          attn info
          attn info --json
          ATTENTION_CPU=avx2 attn info
        """;

    private const string Overview = """
        attn  scaled dot-product attention in which a mask costs nothing

          attn run       computes attention over arrays in files (.npy, .safetensors)
          attn explain   says what would run, who refuses and why, and which tiles of the scores a mask leaves
          attn bench     measures what masks cost, each against its own unmasked run
          attn info      says what was loaded: library, instruction set, devices, cache

        attn COMMAND --help tells each command's options, what every mask means, and examples. Options work as --name value and --name=value.

        EXAMPLES
          attn run -q Q.npy -k K.npy -v V.npy -o O.npy --causal
          attn explain --shape 1,8,8,2048,2048,64,64 --causal --plot tiles.png
          attn bench --suite whisper
        """;

    public static int WriteOverview()
    {
        Console.Out.WriteLine(Overview);
        return ExitCode.Success;
    }

    public static int Write<T>()
        where T : new()
    {
        (string usage, string after) = default(T) switch
        {
            _ when typeof(T) == typeof(RunOptions) => ("attn run -q Q.npy -k K.npy -v V.npy -o O.npy [options]", $"{Masks}\n{RunExamples}"),
            _ when typeof(T) == typeof(ExplainOptions) =>
                ("attn explain (-q Q.npy -k K.npy -v V.npy | --shape B,Hq,Hkv,Sq,Sk,D,Dv) [options]", $"{Masks}\n{ExplainExamples}"),
            _ when typeof(T) == typeof(BenchOptions) => ("attn bench [options]", BenchExamples),
            _ => ("attn info [--json]", InfoExamples),
        };
        VerbAttribute verb = (VerbAttribute)typeof(T).GetCustomAttributes(typeof(VerbAttribute), inherit: false)[0];
        using Parser parser = new(settings =>
        {
            settings.HelpWriter = null;
            settings.AutoHelp = false;
            settings.AutoVersion = false;
        });
        HelpText help = new($"attn {verb.Name}  {verb.HelpText}")
        {
            AddDashesToOption = true,
            AdditionalNewLineAfterOption = false,
            AutoHelp = false,
            AutoVersion = false,
            MaximumDisplayWidth = Width(),
        };
        help.AddPreOptionsLine($"USAGE  {usage}");
        help.AddOptions(parser.ParseArguments<T>([]));
        Console.Out.WriteLine(help.ToString().Trim('\n', '\r'));
        Console.Out.WriteLine();
        Console.Out.WriteLine(after);
        return ExitCode.Success;
    }

    private static int Width()
    {
        const int Narrow = 100, Wide = 160;
        return Console.IsOutputRedirected ? Wide : Math.Clamp(Console.WindowWidth, Narrow, Wide);
    }
}
