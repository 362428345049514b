namespace Attention.Tests;

/// <summary>What shows only in a process of its own: loading, instruction sets, idling, leaving.</summary>
[TestFixture]
internal sealed class ProcessTests
{
    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    [Test]
    public void The_library_is_described()
    {
        Outcome outcome = Child.Start("describe");
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        Assert.That(outcome.Out, Does.Contain("libattention").And.Contain("ABI").And.Contain("devices").And.Contain("cpu"));
    }

    [Test]
    public void A_library_that_is_not_there_is_told_by_its_path()
    {
        using Folder folder = new();
        Outcome outcome = Child.Start("describe", new() { ["ATTENTION_LIBRARY"] = folder["absent.so"] });
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        string[] lines = Lines(outcome.Out);
        Assert.That(lines, Has.Length.EqualTo(4), "one line and one path, twice");
        Assert.That(lines[0], Does.StartWith("AttentionLibraryException: ").And.Contain("absent.so: no such file").And.Contain("ATTENTION_LIBRARY"));
        Assert.That(lines[1], Is.EqualTo($"tried {folder["absent.so"]}: no such file"));
        Assert.That((lines[2], lines[3]), Is.EqualTo((lines[0], lines[1])));
    }

    [Test]
    public void A_file_that_is_no_library_is_told_by_its_path()
    {
        using Folder folder = new();
        Outcome outcome = Child.Start("describe", new() { ["ATTENTION_LIBRARY"] = folder.Write("text.so", "no library"u8.ToArray()) });
        Assert.That(Lines(outcome.Out)[0], Does.StartWith("AttentionLibraryException: ").And.Contain("text.so"));
    }

    [Test]
    public void Another_library_is_not_taken_for_ours()
    {
        string other = Directory.GetFiles(AppContext.BaseDirectory, "libonnxruntime.so", SearchOption.AllDirectories).First(path => path.Contains("linux-x64", StringComparison.Ordinal));
        Outcome outcome = Child.Start("describe", new() { ["ATTENTION_LIBRARY"] = other });
        Assert.That(Lines(outcome.Out)[0], Does.Contain("is not the attention library").And.Contain("attn_abi_version"));
    }

    [TestCase("avx512")]
    [TestCase("avx2")]
    [TestCase("generic")]
    public void Every_instruction_set_of_this_machine_is_right(string set)
    {
        Outcome outcome = Child.Start("problems", new() { ["ATTENTION_CPU"] = set }, "60");
        if (!IsHere(set))
        {
            Assert.That(outcome.Code, Is.Not.Zero, "this machine lacks it");
            Assert.That(outcome.Error, Does.Contain(set));
            return;
        }
        Assert.That(outcome.Code, Is.Zero, outcome.Out + outcome.Error);
        string[] lines = Lines(outcome.Out);
        Assert.That(lines[0], Is.EqualTo(set));
        Assert.That(lines[1..].Where(kernel => kernel.Contains("flash", StringComparison.Ordinal)), Is.All.Contains(set));
    }

    private static bool IsHere(string set) => set switch
    {
        "avx512" => System.Runtime.Intrinsics.X86.Avx512BW.IsSupported && System.Runtime.Intrinsics.X86.Avx512DQ.IsSupported && System.Runtime.Intrinsics.X86.Avx512F.VL.IsSupported,
        "avx2" => System.Runtime.Intrinsics.X86.Avx2.IsSupported && System.Runtime.Intrinsics.X86.Fma.IsSupported,
        _ => true,
    };

    [Test]
    public void An_instruction_set_that_is_none_is_refused()
    {
        Outcome outcome = Child.Start("describe", new() { ["ATTENTION_CPU"] = "mmx" });
        Assert.That(Lines(outcome.Out)[0], Does.StartWith("ArgumentException: ").And.Contain("mmx").And.Contain("avx2").And.Contain("generic"));
    }

    [TestCase("cpu")]
    [TestCase("cuda")]
    public void Sixty_four_runs_complete_on_a_pool_of_one_thread(string device)
    {
        Contexts.Needs(device);
        Outcome outcome = Child.Start("one-thread", new() { ["DOTNET_PROCESSOR_COUNT"] = "1" }, device);
        Assert.That(outcome.Code, Is.Zero, outcome.Out + outcome.Error);
        Assert.That(outcome.Out, Does.StartWith($"64 runs of {device}.flash"));
    }

    [Test]
    public void An_idle_context_uses_no_processor()
    {
        Outcome outcome = Child.Start("idle");
        Assert.That(outcome.Code, Is.Zero, outcome.Out + outcome.Error);
    }

    [Test]
    public void Leaving_with_live_contexts_neither_hangs_nor_crashes()
    {
        Outcome outcome = Child.Start("exit");
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        Assert.That(outcome.Out, Is.EqualTo("leaving\n"));
    }
}
