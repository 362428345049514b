using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Attention.Interop;

/// <summary>
/// Finds, loads and checks the native library, once, when it is first needed. Nothing runs in a static constructor: a failure is an
/// <see cref="AttentionLibraryException"/> of the call that needed the library, and the next call tries again.
/// </summary>
internal static unsafe class NativeLoader
{
    internal const string PathVariable = "ATTENTION_LIBRARY";

    private static readonly Lock s_gate = new();
    private static nint s_library;
    private static string s_path = "";
    private static bool s_resolving;

    /// <summary>Where the library was loaded from, once it is.</summary>
    internal static string Path => Volatile.Read(ref s_path);

    private static string FileName =>
        OperatingSystem.IsWindows() ? "attention.dll" : OperatingSystem.IsMacOS() ? "libattention.dylib" : "libattention.so";

    internal static void Load()
    {
        if (Volatile.Read(ref s_library) != 0)
        {
            return;
        }
        lock (s_gate)
        {
            if (s_library != 0)
            {
                return;
            }
            List<string> tried = [];
            foreach (string path in Candidates())
            {
                if (TryOpen(path, tried, out nint library))
                {
                    CheckVersion(library, path, tried);
                    if (!s_resolving)
                    {
                        NativeLibrary.SetDllImportResolver(typeof(NativeLoader).Assembly, Resolve);
                        s_resolving = true;
                    }
                    Volatile.Write(ref s_path, path);
                    Volatile.Write(ref s_library, library);
                    return;
                }
            }
            throw new AttentionLibraryException(Describe(tried), tried);
        }
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath) =>
        name == NativeMethods.Library ? Volatile.Read(ref s_library) : 0;

    /// <summary>What <see cref="PathVariable"/> names and nothing else, or: beside this assembly, beside the application, where the host keeps packages' native
    /// assets, and last by bare name wherever the system's loader looks.</summary>
    private static IEnumerable<string> Candidates()
    {
        if (Environment.GetEnvironmentVariable(PathVariable) is { Length: > 0 } given)
        {
            return [System.IO.Path.GetFullPath(given)];
        }
        List<string> folders = [AppContext.BaseDirectory];
        if (AssemblyFolder() is { } beside)
        {
            folders.Insert(0, beside);
        }
        if (AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") is string known)
        {
            folders.AddRange(known.Split(System.IO.Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries));
        }
        string assets = System.IO.Path.Combine("runtimes", RuntimeInformation.RuntimeIdentifier, "native");
        return folders.Select(System.IO.Path.GetFullPath)
            .SelectMany(folder => new[] { System.IO.Path.Combine(folder, FileName), System.IO.Path.Combine(folder, assets, FileName) })
            .Append(FileName)
            .Distinct(StringComparer.Ordinal);
    }

    [UnconditionalSuppressMessage("SingleFile", "IL3000", Justification = "A single file has no assembly location; the application's folder is asked too.")]
    private static string? AssemblyFolder()
    {
        string location = typeof(NativeLoader).Assembly.Location;
        return location.Length == 0 ? null : System.IO.Path.GetDirectoryName(location);
    }

    private static bool TryOpen(string path, List<string> tried, out nint library)
    {
        library = 0;
        bool isFile = System.IO.Path.IsPathRooted(path);
        if (isFile && !File.Exists(path))
        {
            tried.Add($"{path}: no such file");
            return false;
        }
        try
        {
            library = isFile ? NativeLibrary.Load(path) : NativeLibrary.Load(path, typeof(NativeLoader).Assembly, DllImportSearchPath.SafeDirectories);
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            string why = isFile ? OneLine(e.Message, path) : "not known to the system's loader";
            tried.Add($"{path}: {why}");
            return false;
        }
    }

    private static void CheckVersion(nint library, string path, List<string> tried)
    {
        string? fault = null;
        if (!NativeLibrary.TryGetExport(library, nameof(NativeMethods.attn_abi_version), out nint export))
        {
            fault = $"is not the attention library: it has no {nameof(NativeMethods.attn_abi_version)}";
        }
        else if (((delegate* unmanaged[Cdecl]<uint>)export)() is uint version && version != NativeMethods.AbiVersion)
        {
            fault = $"has ABI version {version}; this assembly needs {NativeMethods.AbiVersion}";
        }
        if (fault is not null)
        {
            NativeLibrary.Free(library);
            tried.Add($"{path}: {fault}");
            throw new AttentionLibraryException($"The native library {path} {fault}.", tried);
        }
    }

    private static string Describe(List<string> tried)
    {
        string cause = Cause(RuntimeInformation.RuntimeIdentifier, GlibcVersion(), tried);
        return $"The native library {FileName} could not be loaded.{cause} Tried: {string.Join("; ", tried)}. Set {PathVariable} to its path to use another.";
    }

    /// <summary>The reason behind the loader's own words, where it is one that users meet.</summary>
    internal static string Cause(string runtime, string? glibc, IReadOnlyList<string> tried)
    {
        bool Says(string text) => tried.Any(t => t.Contains(text, StringComparison.Ordinal));
        if (runtime.Contains("musl", StringComparison.Ordinal) || Says("libc.musl"))
        {
            return " This system's C library is musl; the native library needs glibc 2.34 or newer.";
        }
        if (Says("`GLIBC_") || (Version.TryParse(glibc, out Version? version) && version < new Version(2, 34)))
        {
            return $" This system's glibc{(glibc is null ? "" : $", {glibc},")} is too old: the native library needs 2.34 or newer.";
        }
        return runtime == "linux-x64" ? "" : $" This process is {runtime}; the library is built for linux-x64.";
    }

    private static string? GlibcVersion()
    {
        if (!OperatingSystem.IsLinux() || !NativeLibrary.TryLoad("libc.so.6", out nint libc)
            || !NativeLibrary.TryGetExport(libc, "gnu_get_libc_version", out nint export))
        {
            return null;
        }
        return Marshal.PtrToStringUTF8((nint)((delegate* unmanaged[Cdecl]<byte*>)export)());
    }

    /// <summary>Of what the host says, the line that the system's loader said about this file.</summary>
    private static string OneLine(string message, string path)
    {
        string[] lines = message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return (lines.FirstOrDefault(l => l.Contains("version `", StringComparison.Ordinal))
            ?? lines.FirstOrDefault(l => l.StartsWith(path + ":", StringComparison.Ordinal)) ?? lines[0]).Replace(path + ": ", "", StringComparison.Ordinal);
    }
}
