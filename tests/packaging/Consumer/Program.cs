// A stranger's program: attention from the package, its checksum beside that of the definition in double precision, and where the library came from.
using Attention;

const int B = 2, H = 3, Sq = 70, Sk = 130, D = 24, Dv = 20;
int[] lengths = [130, 67];
var random = new Random(20);
float[] q = Numbers(B * H * Sq * D), k = Numbers(B * H * Sk * D), v = Numbers(B * H * Sk * Dv), o = new float[B * H * Sq * Dv];

ScaledDotProductAttention.Compute<float>(q, [B, H, Sq, D], k, [B, H, Sk, D], v, [B, H, Sk, Dv], o, Mask.KeyLengths(lengths) & Mask.Causal);

Console.WriteLine($"checksum {o.Sum(x => (double)x):R}");
Console.WriteLine($"expected {Expected():R}");
Console.WriteLine($"library {AttentionRuntime.Describe().LibraryPath}");

float[] Numbers(int count)
{
    var numbers = new float[count];
    for (int i = 0; i < count; i++)
    {
        numbers[i] = random.NextSingle() * 2 - 0.75f;
    }
    return numbers;
}

double Expected()
{
    double sum = 0;
    for (int bh = 0; bh < B * H; bh++)
    {
        for (int i = 0; i < Sq; i++)
        {
            double l = 0, O = 0;
            for (int j = 0; j < Math.Min(lengths[bh / H], i + 1); j++)
            {
                double s = 0, row = 0;
                for (int d = 0; d < D; d++)
                {
                    s += (double)q[(bh * Sq + i) * D + d] * k[(bh * Sk + j) * D + d];
                }
                for (int d = 0; d < Dv; d++)
                {
                    row += v[(bh * Sk + j) * Dv + d];
                }
                double p = Math.Exp(s / Math.Sqrt(D));
                l += p;
                O += p * row;
            }
            sum += O / l;
        }
    }
    return sum;
}
