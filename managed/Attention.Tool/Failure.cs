namespace Attention.Tool;

/// <summary>What a command answers with.</summary>
internal static class ExitCode
{
    public const int Success = 0;
    public const int BadInput = 2;
    public const int Refused = 3;
    public const int DeviceFailed = 4;
    public const int Interrupted = 130;
}

/// <summary>Bad usage or bad input. The message is one line that names the option, its value and what is allowed.</summary>
internal sealed class InputException(string message) : Exception(message)
{
    public static InputException Of(string option, string? value, string wrong) => new($"{option} {value}: {wrong}");
}
