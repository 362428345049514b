namespace Attention.Peers;

/// <summary>What is being done, on stderr: one line that changes, or where that is a file, lines.</summary>
internal static class Progress
{
    private static readonly Lock s_gate = new();
    private static string s_last = "";

    public static void Say(string what)
    {
        lock (s_gate)
        {
            if (what == s_last)
            {
                return;
            }
            s_last = what;
            if (Console.IsErrorRedirected)
            {
                Console.Error.WriteLine(what);
            }
            else
            {
                Console.Error.Write($"\r\e[K{what}");
            }
        }
    }

    public static void Clear()
    {
        if (!Console.IsErrorRedirected)
        {
            Console.Error.Write("\r\e[K");
        }
    }
}
