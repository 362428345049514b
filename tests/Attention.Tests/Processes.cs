using System.Diagnostics;
using System.Text.Json;

namespace Attention.Tests;

/// <summary>What a command answered.</summary>
internal sealed record Outcome(int Code, string Out, string Error)
{
    public JsonElement Json()
    {
        Assert.That(Code, Is.Zero, Error);
        using JsonDocument document = JsonDocument.Parse(Out); // throws where anything else stands beside the object
        return document.RootElement.Clone();
    }

    /// <summary>One line on stderr, no stack trace, nothing on stdout.</summary>
    public void IsError(int code, params string[] holding)
    {
        Assert.That(Code, Is.EqualTo(code), $"{Out}{Error}");
        Assert.That(Out, Is.Empty);
        Assert.That(Error, Does.StartWith("attn: ").And.EndWith("\n"));
        Assert.That(Error.TrimEnd('\n'), Does.Not.Contain("\n").And.Not.Contain("   at "));
        foreach (string part in holding)
        {
            Assert.That(Error, Does.Contain(part));
        }
    }
}

/// <summary>Processes that a test starts and waits for.</summary>
internal static class Processes
{
    private const int LimitSeconds = 300;

    public static Outcome Run(string file, IEnumerable<string> arguments, Dictionary<string, string?>? environment = null)
    {
        ProcessStartInfo start = new(file, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach ((string name, string? value) in environment ?? [])
        {
            start.Environment[name] = value;
        }
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromSeconds(LimitSeconds)))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{file} {string.Join(' ', arguments)} did not end in {LimitSeconds} s");
        }
        return new(process.ExitCode, output.Result, error.Result);
    }
}
