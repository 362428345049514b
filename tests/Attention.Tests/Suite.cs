using System.Reflection;

namespace Attention.Tests;

/// <summary>What holds for the whole run.</summary>
internal static class Suite
{
    /// <summary>Whether the long forms run: ATTENTION_FULL=1.</summary>
    public static bool Full { get; } = Environment.GetEnvironmentVariable("ATTENTION_FULL") == "1";

    /// <summary>Whether a GPU's kernels run in an emulator, slower by thousands: ATTENTION_EMULATED=1. What only has to take a while is small there.</summary>
    public static bool Emulated { get; } = Environment.GetEnvironmentVariable("ATTENTION_EMULATED") == "1";

    /// <summary>The checkout: the one that was built, or where the suite runs on another machine than was built on, what ATTENTION_REPOSITORY names.</summary>
    public static string RepoRoot { get; } = Environment.GetEnvironmentVariable("ATTENTION_REPOSITORY") ?? Metadata("RepoRoot");

    /// <summary>The version of the package under test; empty: the project.</summary>
    public static string FromPackage { get; } = Metadata("AttentionFromPackage");

    private static string Metadata(string key) =>
        typeof(Suite).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(entry => entry.Key == key).Value ?? "";
}
