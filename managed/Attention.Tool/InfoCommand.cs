using Attention.Tool.Options;

namespace Attention.Tool;

/// <summary><c>attn info</c>: what was loaded and what there is to compute with.</summary>
internal static class InfoCommand
{
    public static int Execute(InfoOptions options)
    {
        AttentionRuntimeInfo info = AttentionRuntime.Describe();
        string tool = typeof(Program).Assembly.GetName().Version?.ToString(3) ?? "";
        if (options.Json)
        {
            Console.Out.WriteLine(Json.Text(new InfoReport(
                tool, info.LibraryPath, info.AbiVersion, info.Build, info.InstructionSet, info.DeviceName, info.Workers,
                [.. info.Devices.Select(device => device.ToString())], info.CudaUnavailable, info.CudaDriver, info.Nvrtc, info.CacheFolder,
                info.EmbeddedArchitectures)));
            return ExitCode.Success;
        }
        Console.Out.WriteLine($"attn             {tool}");
        Console.Out.WriteLine(info);
        return ExitCode.Success;
    }

    private sealed record InfoReport(
        string Version, string Library, int Abi, string Build, string InstructionSet, string Cpu, int Threads, IReadOnlyList<string> Devices,
        string? CudaUnavailable,
        string? CudaDriver, string? Nvrtc, string? CacheFolder, string? EmbeddedArchitectures);
}
