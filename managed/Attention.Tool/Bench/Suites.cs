using Attention.Tool.Files;
using Attention.Tool.Options;

namespace Attention.Tool.Bench;

/// <summary>The groups of each suite, made one by one so that only one lies in memory.</summary>
internal sealed class Suites(AttentionContext context, AttentionDType dtype, string? sample)
{
    /// <summary>How many positions of 20 ms each of eight real clips needs, of a speech encoder's 1500: its speech and two seconds of silence.</summary>
    public static readonly int[] EightClips = [250, 277, 345, 608, 650, 1049, 1200, 1500];

    private const int EncoderPositions = 1500;
    private readonly RandomData _random = new(20260101);

    /// <summary>The share of keys that the eight clips need.</summary>
    public static double EightClipsShare => EightClips.Sum() / (double)(EightClips.Length * EncoderPositions);

    public static readonly string[] Names = ["whisper", "masks", "prefill", "decode"];

    /// <summary>How many groups a suite has at most.</summary>
    public IReadOnlyList<Func<BenchGroup>> Groups(string suite) => suite switch
    {
        "whisper" => sample is null ? [ReportShape] : [RealSample, ReportShape],
        "masks" => [EveryMask],
        "prefill" => [() => Prefill(512), () => Prefill(2048)],
        "decode" => [() => Decode(8), () => Decode(32)],
        _ => [.. Names.SelectMany(Groups)],
    };

    private BenchGroup RealSample()
    {
        ArrayFile File(string name) => ArrayFile.Open("--data", $"{sample}:{name}");
        ArrayFile q = File("Q");
        ProblemSizes s = new(q.Shape[0], q.Shape[1], q.Shape[1], q.Shape[2], q.Shape[2], q.Shape[3], q.Shape[3]);
        int[] lengths = File("key_lengths").Read<int>(), rows = File("rows").Read<int>();
        StoredRows none = new(rows, File("none.O").Read<float>()), masked = new(rows, File("lengths.O").Read<float>());
        return Group("real speech: Q, K, V of four clips", s, q.Read<float>(), File("K").Read<float>(), File("V").Read<float>(),
            WhisperCases(s, lengths, none, masked), new(AttentionBackend.Flash, 41, 6), new(AttentionBackend.MemoryEfficient, 9, 6),
            new(AttentionBackend.Naive, 5, 14));
    }

    private BenchGroup ReportShape()
    {
        const int Heads = 20, Dim = 64;
        ProblemSizes s = new(EightClips.Length, Heads, Heads, EncoderPositions, EncoderPositions, Dim, Dim);
        return Random(
            "random data, the lengths of eight real clips", s, WhisperCases(s, EightClips, null, null), new(AttentionBackend.Flash, 15, 28),
            new(AttentionBackend.MemoryEfficient, 3, 22));
    }

    private List<BenchCase> WhisperCases(ProblemSizes s, int[] lengths, StoredRows? none, StoredRows? masked)
    {
        long[] shape = [s.Batch, 1, s.Queries, s.Keys];
        byte[] keep = new byte[s.Batch * s.Queries * s.Keys];
        for (long row = 0; row < s.Batch * s.Queries; row++)
        {
            keep.AsSpan((int)(row * s.Keys), lengths[row / s.Queries]).Fill(1);
        }
        Mask dense = Mask.Keep(context.Upload<byte>(keep, shape));
        AttentionBias bias = AttentionBias.Additive(context.Upload<float>(_random.Normal(keep.Length), shape));
        return
        [
            new("no mask", Mask.None, null, none),
            new("key lengths", Mask.KeyLengths(lengths.AsSpan()), null, masked),
            new("dense keep", dense, null, masked),
            new("dense keep, prepared", context.Prepare(dense), null, masked),
            new("bias", Mask.None, bias),
        ];
    }

    private BenchGroup EveryMask()
    {
        const int B = 2, H = 8, S = 2048, D = 64, Window = 256, Documents = 16;
        ProblemSizes s = new(B, H, H, S, S, D, D);
        long[] shape = [B, 1, S, S];
        int[] documents = [.. Enumerable.Range(0, B).SelectMany(_ => _random.Below(S, S)).Chunk(S).SelectMany(row => Starts(row, Documents))];
        AttentionTensor qDocuments = context.Upload<int>(documents, [B, S]), kDocuments = context.Upload<int>(documents, [B, S]);
        byte[] all = new byte[B * S * S];
        all.AsSpan().Fill(1);
        float[] slopes = [.. Enumerable.Range(1, H).Select(h => MathF.Pow(2, -8f * h / H))];
        return Random("every mask", s,
        [
            new("no mask", Mask.None),
            new("key lengths, half", Mask.KeyLengths(S / 4, 3 * S / 4)),
            new("query lengths, half", Mask.QueryLengths(S / 4, 3 * S / 4)),
            new("causal", Mask.Causal),
            new($"causal, window {Window}", Mask.Causal & Mask.Window(Window, 0)),
            new($"window ±{Window}", Mask.Window(Window, Window)),
            new("prefix, a quarter", Mask.Prefix(S / 4, S / 4)),
            new($"{Documents} documents", Mask.Documents(qDocuments, kDocuments)),
            new("dense keep that hides nothing", Mask.Keep(context.Upload<byte>(all, shape))),
            new("dense keep, random half", Mask.Keep(context.Upload<byte>(_random.Coins(B * S * S, 0.5), shape))),
            new("bias", Mask.None, AttentionBias.Additive(context.Upload<float>(_random.Normal(B * S * S), shape))),
            new("ALiBi, causal", Mask.Causal, AttentionBias.Alibi(slopes.AsSpan())),
        ], new Budget(AttentionBackend.Flash, 15, 30));
    }

    private BenchGroup Prefill(int length)
    {
        const int H = 32, D = 128;
        return Random(
            "one prompt", new(1, H, H, length, length, D, D), [new("no mask", Mask.None), new("causal", Mask.Causal)],
            new Budget(AttentionBackend.Flash, 15, 25));
    }

    private BenchGroup Decode(int keyHeads)
    {
        const int B = 8, H = 32, D = 128, Cached = 4096;
        int[] half = [.. Enumerable.Range(0, B).Select(b => ((2 * b) + 1) * Cached / (2 * B))];
        return Random($"one query, {keyHeads} key heads", new(B, H, keyHeads, 1, Cached, D, D),
            [new("no mask", Mask.None), new("key lengths, half", Mask.KeyLengths(half.AsSpan()))], new Budget(AttentionBackend.Flash, 31, 15));
    }

    // Ids that step up at random places, so many documents a row.
    private static IEnumerable<int> Starts(int[] places, int documents)
    {
        int[] ends = [.. places.Take(documents - 1).Order()];
        return Enumerable.Range(0, places.Length).Select(i => ends.Count(end => end <= i));
    }

    private BenchGroup Random(string name, ProblemSizes s, IReadOnlyList<BenchCase> cases, params Budget[] budgets) => Group(name, s,
        _random.Normal(s.Batch * s.QueryHeads * s.Queries * s.HeadDim), _random.Normal(s.Batch * s.KeyHeads * s.Keys * s.HeadDim),
        _random.Normal(s.Batch * s.KeyHeads * s.Keys * s.ValueDim), cases, budgets);

    private BenchGroup Group(string name, ProblemSizes s, float[] q, float[] k, float[] v, IReadOnlyList<BenchCase> cases, params Budget[] budgets) => new(
        $"{s}: {name}", s, Upload(q, s.Batch, s.QueryHeads, s.Queries, s.HeadDim), Upload(k, s.Batch, s.KeyHeads, s.Keys, s.HeadDim),
        Upload(v, s.Batch, s.KeyHeads, s.Keys, s.ValueDim), context.Allocate(dtype, [s.Batch, s.QueryHeads, s.Queries, s.ValueDim]), cases, budgets);

    private AttentionTensor Upload(float[] values, params long[] shape) => dtype switch
    {
        AttentionDType.Float16 => context.Upload<Half>(Array.ConvertAll(values, value => (Half)value), shape),
        AttentionDType.BFloat16 => context.Upload<BFloat16>(Array.ConvertAll(values, value => (BFloat16)value), shape),
        _ => context.Upload<float>(values, shape),
    };
}
