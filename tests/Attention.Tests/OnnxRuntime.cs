using Attention.Peers;
using Attention.Tests.Reference;
using Microsoft.ML.OnnxRuntime;

namespace Attention.Tests;

/// <summary>ONNX Runtime's answer to a problem: a second opinion from code that is not ours.</summary>
internal static class OnnxRuntime
{
    private static readonly Lazy<SessionOptions> s_options = new(() => new()
    {
        IntraOpNumThreads = 1,
        InterOpNumThreads = 1,
        LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR,
    });

    /// <summary>A problem that ONNX's Attention can be asked: float32 or float16, every mask of ours as its dense form, or its own causal, grouped heads, Dv unlike D.</summary>
    public static Problem DrawForAttention(int seed)
    {
        Random random = new(seed);
        Problem p = RandomProblems.Draw(random.Next());
        if (p.Type == Element.BF16)
        {
            p = p with { Type = Element.F32 }; // its numbers are float32's too
        }
        p = p with { Scale = p.Scale is null or > 0 ? p.Scale : 0.25f }; // it takes no other
        // It caps after it adds a mask; so one or the other. And it adds a bias in the dtype of Q.
        bool masked = random.Next(4) != 0;
        Problem plain = RandomProblems.Shaped(random, p.Type, p.B, p.Hq, p.Hkv, p.Sq, p.Sk, p.D, p.Dv);
        return masked
            ? p with { Softcap = 0, Bias = p.Bias is null ? null : p.Bias with { Data = [.. p.Bias.Data.Select(x => p.Type.Round(x))] }, BiasOfType = p.Type != Element.F32, Slopes = null }
            : plain with { Softcap = random.Next(2) == 0 ? 3 : 0, Causal = false, Scale = random.Next(2) == 0 ? 0.3f : null };
    }

    /// <summary>A problem that com.microsoft.MultiHeadAttention can be asked: float32, one head to a head, key lengths, bias.</summary>
    public static Problem DrawForMultiHead(int seed)
    {
        Random random = new(seed);
        int heads = random.Next(1, 4), sq = random.Next(1, 140), sk = random.Next(1, 140);
        Problem p = RandomProblems.Shaped(random, Element.F32, random.Next(1, 4), heads, heads, sq, sk, 8 * random.Next(1, 17), 8 * random.Next(1, 17));
        if (random.Next(2) == 0)
        {
            p = p with { KeyLengths = [.. Enumerable.Range(0, p.B).Select(_ => random.Next(1, sk + 1))] };
        }
        if (random.Next(2) == 0)
        {
            p = RandomProblems.WithBias(p, random, [random.Next(2) == 0 ? 1 : p.B, random.Next(2) == 0 ? 1 : heads, sq, sk], ofType: false, infinities: false);
        }
        return random.Next(3) == 0 ? p with { Scale = 0.2f } : p;
    }

    public static double[] Attention(Problem p)
    {
        OnnxType type = p.Type == Element.F16 ? OnnxType.Float16 : OnnxType.Float32;
        OnnxValue q = new("Q", type, p.B, p.Hq, p.Sq, p.D), k = new("K", type, p.B, p.Hkv, p.Sk, p.D), v = new("V", type, p.B, p.Hkv, p.Sk, p.Dv),
            o = new("O", type, p.B, p.Hq, p.Sq, p.Dv);
        List<(OnnxValue, OrtValue)> inputs = [(q, Value(q, p.Q)), (k, Value(k, p.K)), (v, Value(v, p.V))];
        bool causal = p == p with { Causal = true, KeyLengths = null, QueryLengths = null, Window = null, Prefix = null, QueryDocuments = null, Keep = null, OffsetKind = OffsetKind.TopLeft, Bias = null };
        OnnxValue? mask = null;
        if (p.Bias is not null)
        {
            mask = new("mask", type, p.B, p.Hq, p.Sq, p.Sk);
            inputs.Add((mask, Value(mask, Dense(p, (b, h, i, j) => p.Sees(b, h, i, j) ? p.Bias.At(b, h, i, j) : double.NegativeInfinity))));
        }
        else if (!causal && Masked(p))
        {
            mask = new("mask", OnnxType.Bool, p.B, p.Hq, p.Sq, p.Sk);
            inputs.Add((mask, OrtValue.CreateTensorValueFromMemory(Dense(p, p.Sees), mask.Shape)));
        }
        return Run(OnnxModels.Attention(q, k, v, o, mask, causal, p.Scale, p.Softcap), inputs, type);
    }

    public static double[] MultiHead(Problem p)
    {
        OnnxValue q = new("Q", OnnxType.Float32, p.B, p.Sq, p.Hq * p.D), k = new("K", OnnxType.Float32, p.B, p.Sk, p.Hq * p.D),
            v = new("V", OnnxType.Float32, p.B, p.Sk, p.Hq * p.Dv), o = new("O", OnnxType.Float32, p.B, p.Sq, p.Hq * p.Dv);
        List<(OnnxValue, OrtValue)> inputs =
            [(q, Value(q, Library.Turned(p.Q, p.B, p.Hq, p.Sq, p.D))), (k, Value(k, Library.Turned(p.K, p.B, p.Hq, p.Sk, p.D))), (v, Value(v, Library.Turned(p.V, p.B, p.Hq, p.Sk, p.Dv)))];
        OnnxValue? lengths = null, bias = null;
        if (p.KeyLengths is not null)
        {
            lengths = new("lengths", OnnxType.Int32, p.B);
            inputs.Add((lengths, OrtValue.CreateTensorValueFromMemory(p.KeyLengths, lengths.Shape)));
        }
        if (p.Bias is not null)
        {
            bias = new("bias", OnnxType.Float32, [.. p.Bias.Shape.Select(size => (long)size)]);
            inputs.Add((bias, Value(bias, p.Bias.Data)));
        }
        double[] result = Run(OnnxModels.MultiHeadAttention(q, k, v, o, p.Hq, lengths, bias, p.Scale), inputs, OnnxType.Float32);
        return Library.Turned(result, p.B, p.Sq, p.Hq, p.Dv);
    }

    private static bool Masked(Problem p) => p.Causal || p.KeyLengths is not null || p.QueryLengths is not null || p.Window is not null || p.Prefix is not null
        || p.QueryDocuments is not null || p.Keep is not null;

    private static T[] Dense<T>(Problem p, Func<int, int, int, int, T> at)
    {
        T[] dense = new T[p.B * p.Hq * p.Sq * p.Sk];
        int next = 0;
        for (int b = 0; b < p.B; b++)
        {
            for (int h = 0; h < p.Hq; h++)
            {
                for (int i = 0; i < p.Sq; i++)
                {
                    for (int j = 0; j < p.Sk; j++)
                    {
                        dense[next++] = at(b, h, i, j);
                    }
                }
            }
        }
        return dense;
    }

    private static OrtValue Value(OnnxValue description, double[] data) => description.Type == OnnxType.Float16
        ? OrtValue.CreateTensorValueFromMemory(Array.ConvertAll(data, value => new Float16(BitConverter.HalfToUInt16Bits((Half)value))), description.Shape)
        : OrtValue.CreateTensorValueFromMemory(Array.ConvertAll(data, value => (float)value), description.Shape);

    private static double[] Run(byte[] model, List<(OnnxValue Description, OrtValue Value)> inputs, OnnxType type)
    {
        using InferenceSession session = new(model, s_options.Value);
        using RunOptions options = new();
        using IDisposableReadOnlyCollection<OrtValue> outputs =
            session.Run(options, [.. inputs.Select(input => input.Description.Name)], [.. inputs.Select(input => input.Value)], ["O"]);
        double[] result = type == OnnxType.Float16
            ? [.. outputs[0].GetTensorDataAsSpan<Float16>().ToArray().Select(value => (double)BitConverter.UInt16BitsToHalf(value.value))]
            : [.. outputs[0].GetTensorDataAsSpan<float>().ToArray().Select(value => (double)value)];
        inputs.ForEach(input => input.Value.Dispose());
        return result;
    }
}
