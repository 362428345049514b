using System.Text.Json;

namespace Attention.Peers;

/// <summary>What is compared: a mask over a group's Q, K, V.</summary>
/// <param name="Name">As <c>--only</c> takes it.</param>
/// <param name="Title">As the table has it.</param>
/// <param name="Lengths">Key lengths [B]; null: none.</param>
/// <param name="Causal">Top-left.</param>
/// <param name="Goal">The largest ratio to ONNX Runtime that will do.</param>
/// <param name="OwnGoal">The largest ratio to the group's first row, which has no mask; null: no such goal.</param>
internal sealed record Row(string Name, string Title, double Goal, int[]? Lengths = null, bool Causal = false, double? OwnGoal = null);

/// <summary>Rows over the same Q, K, V, which alternate: self-attention, [B, H, S, D].</summary>
internal sealed record Group(int Batch, int Heads, int Length, int Dim, params Row[] Rows)
{
    public long[] Shape => [Batch, Heads, Length, Dim];

    public long Count => (long)Batch * Heads * Length * Dim;

    /// <summary>Which share of the scores lies in cells of 64 x 64 that somebody sees: what a mask leaves to do, whoever computes it.</summary>
    public double Share(Row row)
    {
        const int Cell = 64;
        long left = 0;
        for (int b = 0; b < Batch; b++)
        {
            for (int i = 0; i < Length; i += Cell)
            {
                int rows = Math.Min(Cell, Length - i), sees = Math.Min(row.Lengths?[b] ?? Length, row.Causal ? i + rows : Length);
                left += (long)rows * Math.Min(Length, (sees + Cell - 1) / Cell * Cell);
            }
        }
        return left / ((double)Batch * Length * Length);
    }

    /// <summary>Multiplications and additions over that share.</summary>
    public double Operations(Row row) => 4.0 * Count * Length * Share(row);
}

/// <summary>The rows that name ONNX Runtime.</summary>
internal static class Rows
{
    public const string Overhead = "overhead";

    public static Group[] Read(string data)
    {
        Dictionary<string, KeyLengths> lengths = JsonSerializer.Deserialize<Dictionary<string, KeyLengths>>(
            File.ReadAllText(Path.Combine(data, "key_lengths.json")), new JsonSerializerOptions { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower })!;
        int[] Of(string name) => lengths[name].Lengths;
        return
        [
            new(8, 20, 1500, 64,
                new("whisper", "Whisper, no mask", 0.90),
                new("whisper-lengths", "Whisper, lengths 49.8 %", 0.43, Of("whisper_half"), OwnGoal: 0.52),
                new("whisper-clips", "Whisper, real clips 49.0 %", 0.43, Of("whisper_clips"), OwnGoal: 0.52)),
            new(8, 12, 512, 64, new Row("bert-lengths", "BERT, lengths 50 %", 0.45, Of("bert_half"))),
            new(1, 32, 2048, 128,
                new("prefill", "prefill, no mask", 0.88),
                new("prefill-causal", "prefill, causal", 0.47, Causal: true, OwnGoal: 0.53)),
            new(1, 8, 8192, 64, new Row("long", "long, no mask", 0.85)),
        ];
    }

    private sealed record KeyLengths(int[] Lengths);
}
