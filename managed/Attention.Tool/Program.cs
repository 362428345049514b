using System.Runtime.InteropServices;
using Attention.Tool.Options;
using CommandLine;

namespace Attention.Tool;

/// <summary>The command <c>attn</c>: one line on stderr and an exit code for every failure, never a stack trace.</summary>
internal static class Program
{
    public static int Main(string[] arguments)
    {
        using CancellationTokenSource stop = new();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            return Run(arguments, stop.Token);
        }
        catch (OperationCanceledException)
        {
            return Fail("interrupted", ExitCode.Interrupted);
        }
        catch (Exception failure)
        {
            return Fail(Sentence(failure), CodeOf(failure));
        }

        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }
    }

    private static int Run(string[] arguments, CancellationToken stop)
    {
        if (arguments.Length == 0)
        {
            throw new InputException("a command is needed: run, explain, bench or info; see attn --help");
        }
        string command = arguments[0];
        string[] rest = arguments[1..];
        bool help = rest.Any(word => word is "--help" or "-h");
        switch (command)
        {
            case "run":
                return help ? Help.Write<RunOptions>() : RunCommand.Execute(Parse<RunOptions>(command, rest), stop);
            case "explain":
                return help ? Help.Write<ExplainOptions>() : ExplainCommand.Execute(Parse<ExplainOptions>(command, rest));
            case "bench":
                return help ? Help.Write<BenchOptions>() : BenchCommand.Execute(Parse<BenchOptions>(command, rest), stop);
            case "info":
                return help ? Help.Write<InfoOptions>() : InfoCommand.Execute(Parse<InfoOptions>(command, rest));
            case "help" when rest.Length > 0 && rest[0] is "run" or "explain" or "bench" or "info":
                return Run([rest[0], "--help"], stop);
            case "help" or "--help" or "-h":
                return Help.WriteOverview();
            case "version" or "--version":
                Console.Out.WriteLine($"attn {typeof(Program).Assembly.GetName().Version?.ToString(3)}");
                return ExitCode.Success;
            default:
                throw new InputException($"{Files.NpyDictionary.Quote(command)} is no command: run, explain, bench and info are; see attn --help");
        }
    }

    private static T Parse<T>(string command, string[] arguments)
    {
        string[] canonical = Arguments.Canonical(command, typeof(T), arguments);
        using Parser parser = new(settings =>
        {
            settings.HelpWriter = null;
            settings.AutoHelp = false;
            settings.AutoVersion = false;
            settings.AllowMultiInstance = true;
        });
        return parser.ParseArguments<T>(canonical) switch
        {
            Parsed<T> parsed => parsed.Value,
            NotParsed<T> wrong => throw new InputException($"{string.Join(", ", wrong.Errors.Select(error => error.Tag))}; see attn {command} --help"),
            _ => throw new InvalidOperationException("the parser has a third answer"),
        };
    }

    private static int CodeOf(Exception failure) => failure switch
    {
        InputException or ArgumentException => ExitCode.BadInput,
        BackendRefusedException => ExitCode.Refused,
        NotSupportedException => ExitCode.BadInput,
        _ => ExitCode.DeviceFailed,
    };

    private static string Sentence(Exception failure)
    {
        string message = failure.Message.ReplaceLineEndings(" ").Trim();
        if (failure is ArgumentException { ParamName: { } parameter })
        {
            message = message.Replace($" (Parameter '{parameter}')", "", StringComparison.Ordinal);
            return message.Contains(parameter, StringComparison.Ordinal) ? message : $"{parameter}: {message}";
        }
        return failure is InputException or BackendRefusedException or NotSupportedException or DeviceOutOfMemoryException or CudaException
            or AttentionLibraryException
            ? message
            : $"{failure.GetType().Name}: {message}";
    }

    private static int Fail(string message, int code)
    {
        Console.Error.WriteLine($"attn: {message}");
        return code;
    }
}
