namespace Attention.Tests.Reference;

/// <summary>What was computed, converted to double: O [B, Hq, Sq, Dv], LSE [B, Hq, Sq] or null, P [B, Hq, Sq, Sk] or null.</summary>
internal sealed record Result(double[] O, double[]? LSE = null, double[]? P = null);

/// <summary>
/// The error rule, per batch and head: max|out - R| &lt;= 2 max|N - R| + 1e-5 max(1, max|V|), and LSE within A * 1e-5 (A * 2e-4 for 16-bit inputs) with
/// A = max(1, largest visible |S|). A row that sees nothing is exactly 0 and -inf. NaN never passes.
/// </summary>
internal sealed class Judge
{
    private readonly Problem _problem;
    private readonly Lazy<Head>[] _exact;
    private readonly Lazy<double>[] _tolerance;

    /// <summary>The reference of a problem, computed once however many results are judged by it.</summary>
    public Judge(Problem problem)
    {
        _problem = problem;
        int heads = problem.B * problem.Hq;
        _exact = new Lazy<Head>[heads];
        _tolerance = new Lazy<double>[heads];
        for (int at = 0; at < heads; at++)
        {
            (int b, int h) = (at / problem.Hq, at % problem.Hq);
            Lazy<Head> exact = _exact[at] = new(() => Attend.Exact(problem, b, h) with { P = [] }); // P is large and rarely asked for
            _tolerance[at] = new(() => (2 * Distance(Attend.Naive(problem, b, h).O, exact.Value.O)) + (1e-5 * Math.Max(1, exact.Value.LargestV)));
        }
    }

    public Head Exact(int b, int h) => _exact[(b * _problem.Hq) + h].Value;

    /// <summary>The first element that is wrong, in words; null where all is well.</summary>
    public string? Fault(Result result)
    {
        Problem p = _problem;
        int rows = p.B * p.Hq * p.Sq;
        if (result.O.Length != rows * p.Dv)
        {
            return $"O has {result.O.Length} elements; {rows * p.Dv} are right";
        }
        double[] probabilities = [];
        for (int row = 0; row < rows; row++)
        {
            (int head, int i) = (row / p.Sq, row % p.Sq);
            probabilities = result.P is not null && i == 0 ? Attend.Exact(p, head / p.Hq, head % p.Hq).P : probabilities;
            Head exact = _exact[head].Value;
            bool nothing = double.IsNegativeInfinity(exact.LSE[i]);
            double tolerance = nothing ? 0 : _tolerance[head].Value;
            string at = $"of batch {head / p.Hq}, head {head % p.Hq}, row {i}";
            for (int d = 0; d < p.Dv; d++)
            {
                if (Wrong($"O[{d}] {at}", result.O[(row * p.Dv) + d], exact.O[(i * p.Dv) + d], tolerance) is { } fault)
                {
                    return fault;
                }
            }
            double allowed = Math.Max(1, exact.Largest[i]) * (p.Type.Is16Bit() ? 2e-4 : 1e-5);
            if (result.LSE is { } lse && Wrong($"LSE {at}", lse[row], exact.LSE[i], allowed) is { } wrong)
            {
                return wrong;
            }
            for (int j = 0; result.P is not null && j < p.Sk; j++)
            {
                double right = probabilities[(i * p.Sk) + j];
                if (Wrong($"P[{j}] {at}", result.P[((long)row * p.Sk) + j], right, right == 0 ? 0 : allowed) is { } off)
                {
                    return off;
                }
            }
        }
        return null;
    }

    /// <summary>Where two computations of O are further apart than both may be from R; null: nowhere. Rows that see nothing are left out: others answer them otherwise.</summary>
    public string? Disagreement(double[] ours, double[] theirs)
    {
        Problem p = _problem;
        for (int at = 0; at < ours.Length; at++)
        {
            (int row, int d) = (at / p.Dv, at % p.Dv);
            (int head, int i) = (row / p.Sq, row % p.Sq);
            if (!double.IsNegativeInfinity(_exact[head].Value.LSE[i]) && !(Math.Abs(ours[at] - theirs[at]) <= 2 * _tolerance[head].Value))
            {
                return $"O[{d}] of batch {head / p.Hq}, head {head % p.Hq}, row {i} is {ours[at]:R}; theirs is {theirs[at]:R}, R says {_exact[head].Value.O[(i * p.Dv) + d]:R}";
            }
        }
        return ours.Length == theirs.Length ? null : $"O has {ours.Length} elements, theirs {theirs.Length}";
    }

    private static string? Wrong(string what, double met, double right, double allowed) =>
        met == right || Math.Abs(met - right) <= allowed ? null : $"{what} is {met:R}; the reference says {right:R} +- {allowed:G3}";

    private static double Distance(double[] one, double[] other)
    {
        double largest = 0;
        for (int at = 0; at < one.Length; at++)
        {
            largest = Math.Max(largest, Math.Abs(one[at] - other[at]));
        }
        return largest;
    }
}
