using System.Globalization;

namespace Attention;

/// <summary>What a self-test found of one kernel (<see cref="AttentionContext.SelfTest"/>).</summary>
/// <param name="Backend">Who computed.</param>
/// <param name="Kernel">The kernel, e.g. cuda.flash_sm80.d32.bf16.rule.scaled.</param>
/// <param name="DType">What it computed in.</param>
/// <param name="LargestError">Of an element of the output, against arithmetic in double precision on the same inputs; NaN where it wrote one.</param>
/// <param name="Allowed">The largest that passes: what rounding to the dtype explains.</param>
public sealed record SelfTestResult(AttentionBackend Backend, string Kernel, AttentionDType DType, double LargestError, double Allowed)
{
    /// <summary>Whether the kernel computes what it must.</summary>
    public bool Passed => LargestError <= Allowed; // not where it is NaN

    /// <summary>flash (cpu.flash.avx512), float32: passed, error 1.2e-07 of 2e-05 allowed.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"{Backend.Name()} ({Kernel}), {DTypes.Name(DType)}: {(Passed ? "passed" : "FAILED")}, error {LargestError:g2} of {Allowed:g2} allowed");
}

/// <summary>A small problem with grouped heads, lengths and a causal mask through every backend and dtype that a context takes it in.</summary>
internal static class SelfTest
{
    private const int B = 2, Hq = 4, Hkv = 2, Sq = 40, Sk = 70, D = 32;

    private static readonly int[] s_keys = [Sk, 33];

    internal static IReadOnlyList<SelfTestResult> Run(AttentionContext context)
    {
        List<SelfTestResult> results = [];
        foreach (AttentionBackend backend in Enum.GetValues<AttentionBackend>())
        {
            Add<float>(context, backend, 2e-5, x => (float)x, x => x, results);
            Add<Half>(context, backend, 4e-3, x => (Half)x, x => (double)x, results);
            Add<BFloat16>(context, backend, 3e-2, x => (BFloat16)x, x => x, results);
        }
        return results.AsReadOnly();
    }

    private static void Add<T>(
        AttentionContext context, AttentionBackend backend, double allowed, Func<double, T> round, Func<T, double> number, List<SelfTestResult> results)
        where T : unmanaged
    {
        long[] qShape = [B, Hq, Sq, D], kShape = [B, Hkv, Sk, D];
        AttentionProblem problem = AttentionProblem.For(DTypes.Of<T>(), qShape, kShape, kShape) with
        {
            Mask = MaskKind.KeyLengths | MaskKind.Causal,
            Offset = QueryOffset.BottomRight,
        };
        BackendPolicy policy = BackendPolicy.Only(backend);
        if (context.Query(problem, policy).Count > 0)
        {
            return;
        }
        T[] q = Numbers(1, B * Hq * Sq * D, round), k = Numbers(2, B * Hkv * Sk * D, round), v = Numbers(3, B * Hkv * Sk * D, round), output = new T[q.Length];
        using AttentionPlan plan = context.Plan(problem, policy);
        using AttentionTensor qTensor = context.Upload<T>(q, qShape), kTensor = context.Upload<T>(k, kShape), vTensor = context.Upload<T>(v, kShape);
        using AttentionTensor oTensor = context.Allocate<T>(qShape);
        plan.Run(qTensor, kTensor, vTensor, oTensor, Mask.KeyLengths(s_keys.AsSpan()) & Mask.Causal);
        oTensor.Download<T>(output);
        double error = Error(Array.ConvertAll(q, x => number(x)), Array.ConvertAll(k, x => number(x)), Array.ConvertAll(v, x => number(x)), output, number);
        results.Add(new(backend, plan.Kernel, DTypes.Of<T>(), error, allowed));
    }

    /// <summary>Between -1 and 1, the same everywhere.</summary>
    private static T[] Numbers<T>(ulong seed, int count, Func<double, T> round)
    {
        ulong state = seed * 0x9E3779B97F4A7C15;
        T[] numbers = new T[count];
        for (int i = 0; i < count; i++)
        {
            state = (state * 6364136223846793005) + 1442695040888963407;
            numbers[i] = round(((state >> 40) / (double)(1 << 23)) - 1);
        }
        return numbers;
    }

    private static double Error<T>(double[] q, double[] k, double[] v, T[] output, Func<T, double> number)
    {
        double largest = 0;
        double[] weights = new double[Sk], right = new double[D];
        for (int row = 0; row < B * Hq * Sq; row++)
        {
            int b = row / (Hq * Sq), head = (b * Hkv) + (row / Sq % Hq / (Hq / Hkv)), i = row % Sq;
            int seen = Math.Clamp(i + s_keys[b] - Sq + 1, 0, s_keys[b]); // causal, bottom right
            double sum = 0;
            right.AsSpan().Clear();
            for (int j = 0; j < seen; j++)
            {
                double score = 0;
                for (int d = 0; d < D; d++)
                {
                    score += q[(row * D) + d] * k[(((head * Sk) + j) * D) + d];
                }
                weights[j] = Math.Exp(score / Math.Sqrt(D)); // small numbers: no need of the largest
                sum += weights[j];
            }
            for (int j = 0; j < seen; j++)
            {
                for (int d = 0; d < D; d++)
                {
                    right[d] += weights[j] / sum * v[(((head * Sk) + j) * D) + d];
                }
            }
            for (int d = 0; d < D; d++)
            {
                double error = Math.Abs(number(output[(row * D) + d]) - right[d]);
                largest = error <= largest ? largest : error; // NaN stays
                if (double.IsNaN(error))
                {
                    return error;
                }
            }
        }
        return largest;
    }
}
