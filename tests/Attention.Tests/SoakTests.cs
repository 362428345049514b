using System.Diagnostics;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>
/// A service's life, in a process of its own: eight threads, random problems, masks prepared once and shared. Results stay right, memory flat, nothing is left.
/// </summary>
[TestFixture]
internal sealed class SoakTests
{
    // Few enough bytes for young objects that memory does not depend on when the collector last came by.
    private static readonly Dictionary<string, string?> s_environment = new() { ["DOTNET_GCgen0size"] = "0x400000" };

    [Test]
    public void Eight_threads_for_a_while()
    {
        Outcome outcome = Child.Start("soak", s_environment, Suite.Full ? "60" : "6", "0");
        TestContext.Out.WriteLine(outcome.Out);
        Assert.That(outcome.Code, Is.Zero, outcome.Out + outcome.Error);
    }

    [Test]
    public void A_leak_of_a_page_a_run_is_seen()
    {
        Outcome outcome = Child.Start("soak", s_environment, "6", "4096");
        Assert.That(outcome.Code, Is.EqualTo(1), outcome.Out + outcome.Error);
        Assert.That(outcome.Out, Does.Contain("memory grows").And.Not.Contain("wrong"));
    }
}
