using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>The command <c>attn</c>, as a process of its own or, where only its answer counts, in this one.</summary>
internal static class Attn
{
    public static Outcome Run(params string[] arguments) => RunWith(environment: null, arguments);

    public static Outcome RunWith(Dictionary<string, string?>? environment, params string[] arguments) =>
        Processes.Run(Path.Combine(AppContext.BaseDirectory, OperatingSystem.IsWindows() ? "attn.exe" : "attn"), arguments, environment);

    /// <summary>In this process, with the console redirected.</summary>
    public static Outcome Here(params string[] arguments)
    {
        TextWriter output = Console.Out, error = Console.Error;
        using StringWriter ownOutput = new(), ownError = new();
        try
        {
            Console.SetOut(ownOutput);
            Console.SetError(ownError);
            return new(Tool.Program.Main(arguments), ownOutput.ToString(), ownError.ToString());
        }
        finally
        {
            Console.SetOut(output);
            Console.SetError(error);
        }
    }

    /// <summary>A problem as files, and the options that say it.</summary>
    public static List<string> Options(Folder folder, Problem p, bool bshd = false)
    {
        string Operand(string name, double[] data, int heads, int length, int dim)
        {
            int[] shape = bshd ? [p.B, length, heads, dim] : [p.B, heads, length, dim];
            data = bshd ? Library.Turned(data, p.B, heads, length, dim) : data;
            switch (p.Type)
            {
                case Element.F32:
                    return folder.Write($"{name}.npy", Arrays.Npy(Array.ConvertAll(data, x => (float)x), shape));
                case Element.F16:
                    return folder.Write($"{name}.npy", Arrays.Npy(Array.ConvertAll(data, x => (Half)x), shape));
                default:
                    ushort[] bits = Array.ConvertAll(data, x => (ushort)(BitConverter.SingleToUInt32Bits((float)x) >> 16));
                    return $"{folder.Write($"{name}.safetensors", Arrays.SafeTensors((name, "BF16", shape, Arrays.Bytes<ushort>(bits))))}:{name}";
            }
        }
        List<string> options =
        [
            "-q", Operand("Q", p.Q, p.Hq, p.Sq, p.D), "-k", Operand("K", p.K, p.Hkv, p.Sk, p.D), "-v", Operand("V", p.V, p.Hkv, p.Sk, p.Dv),
        ];
        void Give<T>(string option, T[]? data, params int[] shape)
            where T : unmanaged
        {
            if (data is not null)
            {
                options.AddRange([option, folder.Write($"{option[2..]}.npy", Arrays.Npy(data, shape))]);
            }
        }
        Give("--key-lengths", p.KeyLengths, p.B);
        Give("--query-lengths", p.QueryLengths?.Select(length => (long)length).ToArray(), p.B);
        Give("--prefix", p.Prefix, p.B);
        Give("--q-documents", p.QueryDocuments, p.B, p.Sq);
        Give("--k-documents", p.KeyDocuments, p.B, p.Sk);
        Give("--alibi", p.Slopes, p.Hq);
        if (p.Keep is not null)
        {
            options.AddRange(["--mask", folder.Write("keep.npy", Arrays.Npy(p.Keep.Data, p.Keep.Shape))]);
        }
        if (p.Bias is not null)
        {
            byte[] file = p.BiasOfType && p.Type == Element.F16 ? Arrays.Npy(Array.ConvertAll(p.Bias.Data, x => (Half)x), p.Bias.Shape) : Arrays.Npy(Array.ConvertAll(p.Bias.Data, x => (float)x), p.Bias.Shape);
            options.Add($"--mask={folder.Write("bias.npy", file)}");
        }
        if (p.Causal)
        {
            options.Add("--causal");
        }
        if (p.Window is var (left, right))
        {
            options.AddRange(["--window", $"{left},{right}"]);
        }
        switch (p.OffsetKind)
        {
            case OffsetKind.BottomRight:
                options.AddRange(["--offset", "bottom-right"]);
                break;
            case OffsetKind.Value:
                options.AddRange(["--offset", $"{p.Offset}"]);
                break;
            case OffsetKind.PerBatch:
                Give("--offset", p.Offsets, p.B);
                break;
            default:
                break;
        }
        if (p.Scale is not null)
        {
            options.AddRange(["--scale", FormattableString.Invariant($"{p.Scale:R}")]);
        }
        if (p.Softcap > 0)
        {
            options.Add(FormattableString.Invariant($"--softcap={p.Softcap:R}"));
        }
        if (bshd)
        {
            options.AddRange(["--layout", "bshd"]);
        }
        return options;
    }
}
