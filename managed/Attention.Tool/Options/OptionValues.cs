using System.Globalization;

namespace Attention.Tool.Options;

/// <summary>The text of an option as a value. Anything but what is allowed is an <see cref="InputException"/> that says what is.</summary>
internal static class OptionValues
{
    private const NumberStyles Whole = NumberStyles.AllowLeadingSign;

    /// <summary>A whole number of at least <paramref name="least"/>, or <paramref name="otherwise"/> where the option is absent.</summary>
    public static int Count(string option, string? text, int least, int most, int otherwise) => text is null
        ? otherwise
        : int.TryParse(text, Whole, CultureInfo.InvariantCulture, out int value) && value >= least && value <= most
            ? value
            : throw InputException.Of(option, text, $"a whole number from {least} to {most} is allowed");

    /// <summary>A finite number that float32 can hold.</summary>
    public static float? Finite(string option, string? text, bool negative)
    {
        if (text is null)
        {
            return null;
        }
        string allowed = negative ? "a finite number is allowed" : "a finite number of at least 0 is allowed";
        return float.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out float value) && float.IsFinite(value) && (negative || value >= 0)
            ? value
            : throw InputException.Of(option, text, allowed);
    }

    /// <summary>The two ends of a window: at least -1 each, -1 = unbounded.</summary>
    public static (long Left, long Right)? Window(string? text)
    {
        if (text is null)
        {
            return null;
        }
        string[] ends = text.Split(',');
        return ends.Length == 2 && End(ends[0], out long left) && End(ends[1], out long right)
            ? (Math.Min(left, int.MaxValue), Math.Min(right, int.MaxValue)) // further than any sequence reaches
            : throw InputException.Of("--window", text, "two whole numbers of at least -1 are allowed, as L,R; -1 = unbounded");

        static bool End(string end, out long value) => long.TryParse(end, Whole, CultureInfo.InvariantCulture, out value) && value >= -1;
    }

    /// <summary>B,Hq,Hkv,Sq,Sk,D,Dv.</summary>
    public static long[]? Shape(string? text)
    {
        if (text is null)
        {
            return null;
        }
        string[] parts = text.Split(',');
        long[] sizes = new long[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts.Length != 7 || !long.TryParse(parts[i], Whole, CultureInfo.InvariantCulture, out sizes[i]) || sizes[i] < (i < 5 ? 0 : 1))
            {
                throw InputException.Of(
                    "--shape", text, "seven whole numbers are allowed, as B,Hq,Hkv,Sq,Sk,D,Dv; D and Dv are at least 1, the others at least 0");
            }
        }
        return sizes;
    }

    /// <summary>One of a few words.</summary>
    public static T Word<T>(string option, string? text, T otherwise, params ReadOnlySpan<(string Word, T Value)> words)
    {
        if (text is null)
        {
            return otherwise;
        }
        List<string> allowed = [];
        foreach ((string word, T value) in words)
        {
            if (text == word)
            {
                return value;
            }
            allowed.Add(word);
        }
        throw InputException.Of(option, text, $"allowed are {string.Join(", ", allowed)}");
    }

    /// <summary>auto, cpu, cuda or cuda:N.</summary>
    public static AttentionDevice Device(string? text)
    {
        const string Numbered = "cuda:";
        if (text is not null && text.StartsWith(Numbered, StringComparison.Ordinal)
            && int.TryParse(text[Numbered.Length..], NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal))
        {
            return AttentionDevice.Cuda(ordinal);
        }
        return text is not null && text.StartsWith(Numbered, StringComparison.Ordinal)
            ? throw InputException.Of("--device", text, "allowed are auto, cpu, cuda, cuda:N")
            : Word("--device", text, AttentionDevice.Auto, ("auto", AttentionDevice.Auto), ("cpu", AttentionDevice.Cpu), ("cuda", AttentionDevice.Cuda()));
    }

    /// <summary>A context on the device of <c>--device</c> with the workers of <c>--threads</c>.</summary>
    public static AttentionContext Context(string? device, string? threads) =>
        AttentionContext.Create(Device(device), new AttentionContextOptions { Workers = Count("--threads", threads, least: 1, most: 1024, otherwise: 0) });

    /// <summary>auto, or one backend and no other. Naive has no memory ceiling where only it can answer.</summary>
    public static BackendPolicy Policy(string? text, bool probabilities)
    {
        AttentionBackend? required = Word<AttentionBackend?>("--backend", text, null, ("auto", null), ("flash", AttentionBackend.Flash),
            ("memory-efficient", AttentionBackend.MemoryEfficient), ("naive", AttentionBackend.Naive));
        BackendPolicy policy = required is { } backend ? BackendPolicy.Only(backend) : BackendPolicy.Auto;
        return probabilities ? policy with { NaiveMemoryCeiling = long.MaxValue } : policy;
    }
}
