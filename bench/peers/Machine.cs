using System.Diagnostics;
using System.Reflection;
using Microsoft.ML.OnnxRuntime;

namespace Attention.Peers;

/// <summary>On what, when and from which sources it was measured.</summary>
internal sealed record Machine(
    string Cpu, int Cores, long MemoryBytes, string Kernel, string HugePages, double LoadBefore, string Commit, bool Dirty, string Date, string Command, string Library, string LibraryBuild,
    string InstructionSet, int Threads, string OnnxRuntime, string DotNet)
{
    public static string RepoRoot { get; } = typeof(Machine).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(data => data.Key == "RepoRoot").Value!;

    public static Machine Describe(AttentionContext context, string[] arguments)
    {
        AttentionRuntimeInfo runtime = AttentionRuntime.Describe();
        string memory = File.ReadLines("/proc/meminfo").First(line => line.StartsWith("MemTotal:", StringComparison.Ordinal));
        return new(
            context.DeviceName, Environment.ProcessorCount, long.Parse(memory.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024, Line("/proc/sys/kernel/osrelease"),
            Line("/sys/kernel/mm/transparent_hugepage/enabled"), double.Parse(Line("/proc/loadavg").Split(' ')[0]), Git("rev-parse HEAD"), Git("status --porcelain --untracked-files=no").Length > 0,
            DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'"), string.Join(' ', ["dotnet run --project bench/peers -c Release --", .. arguments]), Path.GetFileName(runtime.LibraryPath), runtime.Build,
            context.InstructionSet, context.Workers, OrtEnv.Instance().GetVersionString(), Environment.Version.ToString());
    }

    private static string Line(string file) => File.Exists(file) ? File.ReadAllText(file).Trim() : "unknown";

    private static string Git(string arguments)
    {
        try
        {
            using Process git = Process.Start(new ProcessStartInfo("git", arguments) { WorkingDirectory = RepoRoot, RedirectStandardOutput = true, RedirectStandardError = true })!;
            string output = git.StandardOutput.ReadToEnd().Trim();
            git.WaitForExit();
            return git.ExitCode == 0 ? output : "unknown";
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "unknown"; // no git
        }
    }
}
