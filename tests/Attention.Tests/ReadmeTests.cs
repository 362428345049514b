namespace Attention.Tests;

/// <summary>The README's C# is compiled with this suite (see the project file); here it runs.</summary>
[TestFixture]
internal sealed class ReadmeTests
{
    private static IEnumerable<int> Blocks => Enumerable.Range(0, ReadmeBlocks.All.Length);

    [Test]
    public void Every_block_was_found() =>
        Assert.That(ReadmeBlocks.All, Has.Length.EqualTo(File.ReadAllText(Path.Combine(Suite.RepoRoot, "README.md")).Split("```csharp").Length - 1).And.Length.GreaterThanOrEqualTo(2));

    [Test]
    public void Every_block_runs_and_says_something([ValueSource(nameof(Blocks))] int block)
    {
        TextWriter output = Console.Out;
        using StringWriter said = new();
        try
        {
            Console.SetOut(said);
            ReadmeBlocks.All[block]();
        }
        finally
        {
            Console.SetOut(output);
        }
        TestContext.Out.Write(said);
        Assert.That(said.ToString(), Does.Contain("flash").Or.Contain("tiles"));
    }
}
