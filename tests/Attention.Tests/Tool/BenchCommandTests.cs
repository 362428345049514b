using System.Diagnostics;
using System.Text.Json;
using Attention.Tool.Bench;

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
        Assert.That(lengths, Is.EqualTo(Suites.EightClips));
        Assert.That((double)lengths.Sum() / (lengths.Length * clips.GetProperty("keys").GetInt32()), Is.EqualTo(Suites.EightClipsShare));
    }

    [TestCase("cpu", 520)]
    [TestCase("cuda", 264)]
    public void What_a_backend_refuses_is_left_out_and_told(string device, int dim)
    {
        Contexts.Needs(device);
        AttentionContext context = Contexts.Of(device);
        AttentionTensor Tensor() => context.Upload<Half>(new Half[20 * dim], [1, 1, 20, dim]);
        using BenchGroup group = new("rows too wide for flash", new(1, 1, 1, 20, 20, dim, dim), Tensor(), Tensor(), Tensor(), Tensor(),
            [new("no mask", Mask.None), new("causal", Mask.Causal)], [new(AttentionBackend.Flash, 2, 60), new(AttentionBackend.MemoryEfficient, 2, 60)]);
        Tool.Bench.Timer timer = new(context, (_, _) => { }, CancellationToken.None);
        List<BenchRow> rows = timer.Measure(group);
        Assert.That(rows.Select(row => (row.Backend, row.Case)), Is.EqualTo(new[] { ("memory-efficient", "no mask"), ("memory-efficient", "causal") }));
        Assert.That(timer.LeftOut, Has.Count.EqualTo(1));
        Assert.That(timer.LeftOut[0], Does.StartWith("flash at B1 H1 S20 D").And.Contain($"{dim}"));
    }

    [Test]
    public void Two_outputs_are_two_files()
    {
        using Folder folder = new();
        Attn.Here("bench", "--output", folder["x"], "--plot", folder["x"]).IsError(2, "--plot", folder["x"]);
        Assert.That(folder.Names(), Is.Empty);
    }

    /// <summary>On a GPU without a dtype: it takes one that flash takes there.</summary>
    [TestCase("cpu", "masks")]
    [TestCase("cuda", "whisper")]
    [Platform("Linux")]
    public void Interrupted_it_ends_soon_and_leaves_nothing(string device, string suite)
    {
        Contexts.Needs(device);
        using Folder folder = new();
        string[] arguments = ["bench", "--suite", suite, "--device", device, "--threads", "1", "--output", folder["x.json"], "--plot", folder["x.png"]];
        ProcessStartInfo start = new(Path.Combine(AppContext.BaseDirectory, "attn"), arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        while (process.StandardError.ReadLine() is { } line && !line.StartsWith('B'))
        {
            // until it measures
        }
        Assert.That(folder.Names(), Has.Length.EqualTo(2), "both outputs are claimed");
        Assert.That(Processes.Run("/bin/sh", ["-c", $"kill -TERM {process.Id}"]).Code, Is.Zero);
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.That((process.ExitCode, output.Result), Is.EqualTo((130, "")), error);
        string[] lines = error.Split('\n');
        Assert.That(lines[^2..], Is.EqualTo(new[] { "attn: interrupted", "" }));
        Assert.That(lines[..^2], Is.All.EqualTo("filling memory").Or.All.StartsWith("B"), "a GPU may have been at the next group");
        Assert.That(folder.Names(), Is.Empty);
    }
}
