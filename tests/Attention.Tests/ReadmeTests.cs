using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>The README's C# is compiled with this suite (see the project file); here it runs.</summary>
[TestFixture]
internal sealed class ReadmeTests
{
    private static IEnumerable<int> Blocks => Enumerable.Range(0, ReadmeBlocks.All.Length);

    private static string[] Texts =>
        [.. File.ReadAllText(Path.Combine(Suite.RepoRoot, "README.md")).Split("```csharp")[1..].Select(from => from.Split("```")[0])];

    [Test]
    public void Every_block_was_found() => Assert.That(ReadmeBlocks.All, Has.Length.EqualTo(Texts.Length).And.Length.GreaterThanOrEqualTo(3));

    [Test]
    public async Task Every_block_runs_and_says_something([ValueSource(nameof(Blocks))] int block) => Assert.That(await Said(block), Does.Contain("flash").Or.Contain("tiles"));

    [Test]
    public async Task What_is_computed_in_the_memory_of_ILGPU_is_right()
    {
        const int B = 2, H = 8, S = 100, D = 64;
        double[] numbers = [.. Enumerable.Range(0, B * H * S * D).Select(i => (double)MathF.Sin(i))];
        Problem p = new() { B = B, Hq = H, Hkv = H, Sq = S, Sk = S, D = D, Dv = D, Q = numbers, K = numbers, V = numbers, Causal = true };
        string said = await Said(Array.FindIndex(Texts, text => text.Contains("ILGPU")));
        double[] met = [.. said.Split(" made ")[1].Split(' ').Select(number => double.Parse(number))];
        Assert.That(met, Is.EqualTo(Attend.Exact(p, B - 1, H - 1).O[^4..]).Within(1e-5), said);
    }

    private static async Task<string> Said(int block)
    {
        TextWriter output = Console.Out;
        using StringWriter said = new();
        try
        {
            Console.SetOut(said);
            await ReadmeBlocks.All[block]();
        }
        finally
        {
            Console.SetOut(output);
        }
        TestContext.Out.Write(said);
        return said.ToString();
    }
}
