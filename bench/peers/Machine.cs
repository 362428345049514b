using System.Diagnostics;
using System.Reflection;
using Microsoft.ML.OnnxRuntime;

namespace Attention.Peers;

/// <summary>On what, when and from which sources it was measured.</summary>
internal sealed record Machine(
    string Cpu, int Cores, long MemoryBytes, string Kernel, string HugePages, double LoadBefore, string Commit, bool Dirty, string Date, string Command,
    string Library, string LibraryBuild, string InstructionSet, int Threads, string OnnxRuntime, string DotNet)
{
    public static string RepoRoot { get; } =
        typeof(Machine).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(data => data.Key == "RepoRoot").Value!;

    public static Machine Describe(AttentionContext context, string[] arguments)
    {
        AttentionRuntimeInfo runtime = AttentionRuntime.Describe();
        return new(
            Cpu: context.DeviceName,
            Cores: Environment.ProcessorCount,
            MemoryBytes: Kibibytes("/proc/meminfo", "MemTotal:") * 1024,
            Kernel: Line("/proc/sys/kernel/osrelease"),
            HugePages: Line("/sys/kernel/mm/transparent_hugepage/enabled"),
            LoadBefore: double.Parse(Line("/proc/loadavg").Split(' ')[0]),
            Commit: Git("rev-parse HEAD"),
            Dirty: Git("status --porcelain --untracked-files=no").Length > 0,
            Date: DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'"),
            Command: string.Join(' ', ["dotnet run --project bench/peers -c Release --", .. arguments]),
            Library: Path.GetFileName(runtime.LibraryPath),
            LibraryBuild: runtime.Build,
            InstructionSet: context.InstructionSet,
            Threads: context.Workers,
            OnnxRuntime: OrtEnv.Instance().GetVersionString(),
            DotNet: Environment.Version.ToString());
    }

    /// <summary>The number of a line such as "MemTotal: 25325268 kB".</summary>
    public static long Kibibytes(string file, string name)
    {
        string line = File.ReadLines(file).First(line => line.StartsWith(name, StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]);
    }

    private static string Line(string file) => File.Exists(file) ? File.ReadAllText(file).Trim() : "unknown";

    private static string Git(string arguments)
    {
        try
        {
            ProcessStartInfo start = new("git", arguments) { WorkingDirectory = RepoRoot, RedirectStandardOutput = true, RedirectStandardError = true };
            using Process git = Process.Start(start)!;
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
