using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>Real Q, K, V of a speech encoder against references that were computed in float64 elsewhere.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class WhisperTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private static string Sample => Path.Combine(Suite.RepoRoot, "bench", "data", "sample.safetensors");

    private static string Whole => Path.Combine(Suite.RepoRoot, "..", "shared", "whisper");

    /// <summary>The layers that lie beside the checkout; none where it stands alone.</summary>
    private static IEnumerable<int> Layers => new[] { 0, 5 }.Where(layer => File.Exists(Path.Combine(Whole, $"layer{layer}.safetensors")));

    [Test]
    public void The_sample([Values] bool lengths) => Compare(Sample, Sample, "", lengths);

    [Test]
    public void A_whole_layer([ValueSource(nameof(Layers))] int layer, [Values] bool lengths) =>
        Compare(Path.Combine(Whole, $"layer{layer}.safetensors"), Path.Combine(Whole, "reference-attention.safetensors"), $"layer{layer}.", lengths);

    private void Compare(string input, string reference, string prefix, bool lengths)
    {
        (int[] shape, double[] q) = Arrays.ReadSafeTensors(input, "Q");
        double[] k = Arrays.ReadSafeTensors(input, "K").Data, v = Arrays.ReadSafeTensors(input, "V").Data;
        int[] keyLengths = [.. Arrays.ReadSafeTensors(input, "key_lengths").Data.Select(n => (int)n)], rows = [.. Arrays.ReadSafeTensors(reference, "rows").Data.Select(row => (int)row)];
        string kind = $"{prefix}{(lengths ? "lengths" : "none")}";
        (int[] oShape, double[] o) = Arrays.ReadSafeTensors(reference, $"{kind}.O");
        double[] lse = Arrays.ReadSafeTensors(reference, $"{kind}.LSE").Data;
        (int b, int h, int s, int d) = (shape[0], shape[1], shape[2], shape[3]);
        Assert.That(oShape, Is.EqualTo(new[] { b, h, rows.Length, d }));

        Problem p = new()
        {
            Type = Element.F16,
            B = b,
            Hq = h,
            Hkv = h,
            Sq = s,
            Sk = s,
            D = d,
            Dv = d,
            Q = q,
            K = k,
            V = v,
            Scale = 0.125f,
            KeyLengths = lengths ? keyLengths : null,
        };
        (Result result, RunReport report) = Library.Run(Context, p, Backend);
        double largest = 0;
        for (int head = 0; head < b * h; head++)
        {
            // The error rule wants N on the rows that the reference kept.
            double[] kept = [.. rows.SelectMany(row => q.AsSpan(((head * s) + row) * d, d).ToArray())];
            Problem one = p with
            {
                B = 1,
                Hq = 1,
                Hkv = 1,
                Sq = rows.Length,
                Q = kept,
                K = k[(head * s * d)..((head + 1) * s * d)],
                V = v[(head * s * d)..((head + 1) * s * d)],
                KeyLengths = lengths ? [keyLengths[head / h]] : null,
            };
            Head exact = Attend.Exact(one, 0, 0), naive = Attend.Naive(one, 0, 0);
            double allowed = 1e-5 * Math.Max(1, exact.LargestV);
            for (int at = 0; at < naive.O.Length; at++)
            {
                allowed = Math.Max(allowed, (2 * Math.Abs(naive.O[at] - o[(head * rows.Length * d) + at])) + (1e-5 * Math.Max(1, exact.LargestV)));
            }
            for (int r = 0; r < rows.Length; r++)
            {
                int row = (head * s) + rows[r], stored = (head * rows.Length) + r;
                for (int c = 0; c < d; c++)
                {
                    double error = Math.Abs(result.O[(row * d) + c] - o[(stored * d) + c]);
                    largest = Math.Max(largest, error / allowed);
                    Assert.That(error, Is.LessThanOrEqualTo(allowed), $"head {head}, row {rows[r]}, {c}");
                }
                Assert.That(result.LSE![row], Is.EqualTo(lse[stored]).Within(Math.Max(1, exact.Largest[r]) * 2e-4), $"LSE of head {head}, row {rows[r]}");
            }
        }
        TestContext.Out.WriteLine(FormattableString.Invariant($"{report.Kernel}: {report.TilesVisited} tiles, error {largest:P0} of what is allowed"));
    }
}
