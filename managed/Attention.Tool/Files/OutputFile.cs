namespace Attention.Tool.Files;

/// <summary>
/// A file that appears whole or not at all: written under a temporary name in the same folder and renamed by <see cref="Commit"/>.
/// Disposed without a commit it leaves nothing, and an older file of that name untouched.
/// </summary>
internal sealed class OutputFile : IDisposable
{
    private readonly string _option, _path, _target;
    private readonly string? _temporary; // null: a device, written straight
    private FileStream? _stream;

    private OutputFile(string option, string path, string target, string? temporary, FileStream stream) =>
        (_option, _path, _target, _temporary, _stream) = (option, path, target, temporary, stream);

    /// <summary>Claims the name: from here on only a full disk can fail the writing.</summary>
    /// <exception cref="InputException">The folder is missing or cannot be written.</exception>
    public static OutputFile Create(string option, string path)
    {
        try
        {
            string full = Path.GetFullPath(path);
            if (Directory.Exists(full) || Path.EndsInDirectorySeparator(path))
            {
                throw InputException.Of(option, path, "is a folder; the name of a file is needed");
            }
            full = File.Exists(full) ? File.ResolveLinkTarget(full, returnFinalTarget: true)?.FullName ?? full : full;
            string folder = Path.GetDirectoryName(full)!;
            if (!Directory.Exists(folder))
            {
                throw InputException.Of(option, path, $"there is no folder {folder}; it is not created");
            }
            string? temporary = full.StartsWith("/dev/", StringComparison.Ordinal)
                ? null
                : Path.Combine(folder, $".{Path.GetFileName(full)}.{Guid.NewGuid().ToString("N")[..8]}.part");
            FileStream stream = temporary is null
                ? new FileStream(full, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)
                : new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None);
            return new OutputFile(option, path, full, temporary, stream);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw InputException.Of(option, path, failure switch
            {
                UnauthorizedAccessException => "may not be written",
                FileNotFoundException or DirectoryNotFoundException => "its folder takes no new file",
                _ => $"cannot be written: {OneLine(failure)}",
            });
        }
    }

    /// <summary>Writes the contents; nothing is to be seen of them before <see cref="Commit"/>.</summary>
    public void Write(Action<Stream> contents)
    {
        Guard(() =>
        {
            contents(_stream!);
            _stream!.Flush();
        });
    }

    /// <summary>Closes the file and gives it its name.</summary>
    public void Commit()
    {
        Guard(() =>
        {
            _stream!.Dispose();
            if (_temporary is not null)
            {
                File.Move(_temporary, _target, overwrite: true);
            }
            _stream = null;
        });
    }

    public void Dispose()
    {
        if (_stream is null)
        {
            return;
        }
        try
        {
            _stream.Dispose();
        }
        catch (IOException)
        {
            // What it still held could not be written; it is thrown away with the file.
        }
        _stream = null;
        if (_temporary is not null)
        {
            File.Delete(_temporary);
        }
    }

    private void Guard(Action write)
    {
        try
        {
            write();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw InputException.Of(_option, _path, $"cannot be written: {OneLine(failure)}");
        }
    }

    private static string OneLine(Exception failure) => failure.Message.ReplaceLineEndings(" ");
}
