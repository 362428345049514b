using Attention.Tool.Options;

namespace Attention.Tool.Bench;

/// <summary>One mask or bias to time. The first case of a group has neither: the others are measured against it.</summary>
/// <param name="Name">As the table has it.</param>
/// <param name="Mask">Who sees whom.</param>
/// <param name="Bias">What is added.</param>
/// <param name="Expected">The stored rows this case must give; null where there are none.</param>
internal sealed record BenchCase(string Name, Mask Mask, AttentionBias? Bias = null, StoredRows? Expected = null);

/// <summary>How long a backend is timed: at most so many rounds, and no further round once the seconds are spent.</summary>
internal sealed record Budget(AttentionBackend Backend, int Rounds, double Seconds);

/// <summary>Rows of O computed beforehand in float64, to hold a run against.</summary>
/// <param name="Rows">The query positions that are stored.</param>
/// <param name="Values">[B, H, rows, D].</param>
internal sealed record StoredRows(int[] Rows, float[] Values);

/// <summary>Cases over the same Q, K, V, which alternate.</summary>
internal sealed class BenchGroup(
    string name, ProblemSizes sizes, AttentionTensor q, AttentionTensor k, AttentionTensor v, AttentionTensor o, IReadOnlyList<BenchCase> cases,
    IReadOnlyList<Budget> budgets)
    : IDisposable
{
    public string Name => name;

    public ProblemSizes Sizes => sizes;

    public IReadOnlyList<BenchCase> Cases => cases;

    public IReadOnlyList<Budget> Budgets => budgets;

    public AttentionTensor Query => q;

    public AttentionTensor Key => k;

    public AttentionTensor Value => v;

    public AttentionTensor Output => o;

    /// <summary>Multiplications and additions of one unmasked run.</summary>
    public double Operations => 2.0 * sizes.Batch * sizes.QueryHeads * sizes.Queries * sizes.Keys * (sizes.HeadDim + sizes.ValueDim);

    /// <summary>The largest difference to stored rows.</summary>
    public double Difference(StoredRows expected)
    {
        float[] found = new float[o.Count];
        switch (o.DType)
        {
            case AttentionDType.Float16:
                Half[] halves = new Half[o.Count];
                o.Download<Half>(halves);
                found = Array.ConvertAll(halves, value => (float)value);
                break;
            case AttentionDType.BFloat16:
                BFloat16[] truncated = new BFloat16[o.Count];
                o.Download<BFloat16>(truncated);
                found = Array.ConvertAll(truncated, value => (float)value);
                break;
            default:
                o.Download<float>(found);
                break;
        }
        double largest = 0;
        int dim = (int)sizes.ValueDim, at = 0;
        for (long head = 0; head < sizes.Batch * sizes.QueryHeads; head++)
        {
            foreach (int row in expected.Rows)
            {
                for (int d = 0; d < dim; d++, at++)
                {
                    double difference = Math.Abs(found[(((head * sizes.Queries) + row) * dim) + d] - (double)expected.Values[at]);
                    largest = difference <= largest ? largest : difference; // a NaN stays
                }
            }
        }
        return largest;
    }

    public void Dispose()
    {
        q.Dispose();
        k.Dispose();
        v.Dispose();
        o.Dispose();
    }
}
