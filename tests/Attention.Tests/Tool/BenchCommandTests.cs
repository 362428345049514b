using System.Diagnostics;
using System.Text.Json;

namespace Attention.Tests;

/// <summary><c>attn bench</c> where nothing is to be measured: what it is given, and how it ends.</summary>
internal sealed class BenchCommandTests
{
    [Test]
    public void The_eight_clips_are_those_of_the_data()
    {
        using JsonDocument data = JsonDocument.Parse(File.ReadAllText(Path.Combine(Suite.RepoRoot, "bench", "data", "key_lengths.json")));
        JsonElement clips = data.RootElement.GetProperty("whisper_clips");
        int[] lengths = [.. clips.GetProperty("lengths").EnumerateArray().Select(length => length.GetInt32())];
        Assert.That(lengths, Is.EqualTo(Tool.Bench.Suites.EightClips));
        Assert.That((double)lengths.Sum() / (lengths.Length * clips.GetProperty("keys").GetInt32()), Is.EqualTo(Tool.Bench.Suites.EightClipsShare));
    }

    [Test]
    public void Two_outputs_are_two_files()
    {
        using Folder folder = new();
        Attn.Here("bench", "--output", folder["x"], "--plot", folder["x"]).IsError(2, "--plot", folder["x"]);
        Assert.That(folder.Names(), Is.Empty);
    }

    [Test]
    [Platform("Linux")]
    public void Interrupted_it_ends_soon_and_leaves_nothing()
    {
        using Folder folder = new();
        string[] arguments = ["bench", "--suite", "masks", "--threads", "1", "--output", folder["x.json"], "--plot", folder["x.png"]];
        ProcessStartInfo start = new(Path.Combine(AppContext.BaseDirectory, "attn"), arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        while (process.StandardError.ReadLine() is { } line && !line.StartsWith("B2 ", StringComparison.Ordinal))
        {
            // until it measures
        }
        Assert.That(folder.Names(), Has.Length.EqualTo(2), "both outputs are claimed");
        Assert.That(Processes.Run("/bin/sh", ["-c", $"kill -TERM {process.Id}"]).Code, Is.Zero);
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.That((process.ExitCode, output.Result, error), Is.EqualTo((130, "", "attn: interrupted\n")));
        Assert.That(folder.Names(), Is.Empty);
    }
}
