using System.Numerics.Tensors;

namespace Attention.Tests.Reference;

/// <summary>One batch and query head: O [Sq, Dv], LSE [Sq], P [Sq, Sk], the largest |S| that each row sees, the largest |V| that some row sees.</summary>
internal sealed record Head(double[] O, double[] LSE, double[] P, double[] Largest, double LargestV);

/// <summary>What attention means: in double precision (R), and the naive computation in the tensors' own dtype (N) that the error rule compares with.</summary>
internal static class Attend
{
    /// <summary>R: nothing rounded.</summary>
    public static Head Exact(Problem p, int b, int h) =>
        Over(p, b, h, (q, k) => TensorPrimitives.Dot(q.Double, k.Double) * p.ScaleOrDefault, round: x => x, exp: Math.Exp, tanh: Math.Tanh);

    /// <summary>N: QK^T accumulated in float32 and scaled, each step rounded to the dtype, softmax in float32, P rounded, PV accumulated in float32, rounded.</summary>
    public static Head Naive(Problem p, int b, int h) =>
        Over(p, b, h, (q, k) => TensorPrimitives.Dot(q.Single, k.Single) * (float)p.ScaleOrDefault, round: x => p.Type.Round(x), exp: x => MathF.Exp((float)x),
            tanh: x => MathF.Tanh((float)x), single: true);

    private readonly ref struct Row(ReadOnlySpan<double> exact, ReadOnlySpan<float> single)
    {
        public ReadOnlySpan<double> Double { get; } = exact;

        public ReadOnlySpan<float> Single { get; } = single;
    }

    private delegate double Product(Row q, Row k);

    private static Head Over(Problem p, int b, int h, Product product, Func<double, double> round, Func<double, double> exp, Func<double, double> tanh, bool single = false)
    {
        int kv = (b * p.Hkv) + (h / (p.Hq / p.Hkv));
        ReadOnlySpan<double> q = p.Q.AsSpan(((b * p.Hq) + h) * p.Sq * p.D, p.Sq * p.D), k = p.K.AsSpan(kv * p.Sk * p.D, p.Sk * p.D),
            v = p.V.AsSpan(kv * p.Sk * p.Dv, p.Sk * p.Dv);
        float[] q32 = new float[q.Length], k32 = new float[k.Length], v32 = new float[v.Length];
        TensorPrimitives.ConvertTruncating(q, q32);
        TensorPrimitives.ConvertTruncating(k, k32);
        TensorPrimitives.ConvertTruncating(v, v32);
        Head head = new(new double[p.Sq * p.Dv], new double[p.Sq], new double[p.Sq * p.Sk], new double[p.Sq], 0);
        double largestV = 0;
        bool[] seen = new bool[p.Sk];
        float[] o32 = new float[p.Dv];
        for (int i = 0; i < p.Sq; i++)
        {
            Span<double> s = head.P.AsSpan(i * p.Sk, p.Sk), o = head.O.AsSpan(i * p.Dv, p.Dv);
            double m = double.NegativeInfinity;
            for (int j = 0; j < p.Sk; j++)
            {
                s[j] = double.NegativeInfinity;
                if (!p.Sees(b, h, i, j))
                {
                    continue;
                }
                seen[j] = true;
                double score = round(product(new(q.Slice(i * p.D, p.D), q32.AsSpan(i * p.D, p.D)), new(k.Slice(j * p.D, p.D), k32.AsSpan(j * p.D, p.D))));
                if (p.Softcap > 0)
                {
                    score = round(p.Softcap * tanh(score / p.Softcap));
                }
                if (p.Bias is not null)
                {
                    score = round(score + p.Bias.At(b, h, i, j));
                }
                if (p.Slopes is not null)
                {
                    score = round(score - (p.Slopes[h] * (double)Math.Abs(p.Position(b, i) - j)));
                }
                s[j] = single ? (float)score : score;
                if (score != double.NegativeInfinity)
                {
                    m = double.IsNaN(score) || double.IsNaN(m) ? double.NaN : Math.Max(m, score);
                    head.Largest[i] = Math.Max(head.Largest[i], Math.Abs(score));
                }
            }
            head.LSE[i] = m;
            if (m == double.NegativeInfinity)
            {
                s.Clear(); // sees nothing: O stays 0
                continue;
            }
            double l = 0;
            for (int j = 0; j < p.Sk; j++)
            {
                s[j] = exp(s[j] - m);
                l = single ? (float)(l + s[j]) : l + s[j];
            }
            head.LSE[i] = m + Math.Log(l);
            o32.AsSpan().Clear();
            for (int j = 0; j < p.Sk; j++)
            {
                s[j] = round(single ? (float)s[j] / (float)l : s[j] / l);
                if (s[j] == 0)
                {
                    continue; // hidden, or too small to count
                }
                if (single)
                {
                    TensorPrimitives.MultiplyAdd(v32.AsSpan(j * p.Dv, p.Dv), (float)s[j], o32, o32);
                }
                else
                {
                    TensorPrimitives.MultiplyAdd(v.Slice(j * p.Dv, p.Dv), s[j], o, o);
                }
            }
            for (int d = 0; single && d < p.Dv; d++)
            {
                o[d] = round(o32[d]);
            }
        }
        for (int j = 0; j < p.Sk; j++)
        {
            for (int d = 0; seen[j] && d < p.Dv; d++)
            {
                largestV = Math.Max(largestV, Math.Abs(v[(j * p.Dv) + d]));
            }
        }
        return head with { LargestV = largestV };
    }
}
