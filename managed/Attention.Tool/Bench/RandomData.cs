namespace Attention.Tool.Bench;

/// <summary>Reproducible inputs for timing: nearly normal numbers and random patterns of a seed.</summary>
internal sealed class RandomData(ulong seed)
{
    private ulong _state = seed;

    /// <summary>Mean 0, deviation 1: the sum of four uniform numbers, which timing cannot tell from a normal one.</summary>
    public float[] Normal(long count)
    {
        float[] values = new float[count];
        for (int i = 0; i < values.Length; i++)
        {
            ulong bits = Next();
            float sum = (ushort)bits + (float)(ushort)(bits >> 16) + (ushort)(bits >> 32) + (ushort)(bits >> 48);
            const float Deviation = 37837.2f; // of the sum: 65536 * sqrt(4 / 12)
            values[i] = (sum - (2 * 65535f)) / Deviation;
        }
        return values;
    }

    /// <summary>Each true with the given probability.</summary>
    public byte[] Coins(long count, double probability)
    {
        byte[] values = new byte[count];
        ulong limit = (ulong)(probability * ulong.MaxValue);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Next() < limit ? (byte)1 : (byte)0;
        }
        return values;
    }

    /// <summary>Whole numbers from 0 to below <paramref name="end"/>.</summary>
    public int[] Below(int end, int count) => [.. Enumerable.Range(0, count).Select(_ => (int)(Next() % (ulong)end))];

    // splitmix64
    private ulong Next()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
