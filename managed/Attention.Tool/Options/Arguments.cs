using System.Reflection;
using CommandLine;

namespace Attention.Tool.Options;

/// <summary>
/// The user's words, brought into the one form that the parser reads without guessing: <c>--name=value</c> and <c>--flag</c>. So a value may begin with a
/// minus, an option given twice is an error, and a word that belongs to no option is one too.
/// </summary>
internal static class Arguments
{
    /// <summary>Canonical arguments of one command.</summary>
    /// <param name="command">The command's name, for messages.</param>
    /// <param name="options">The type whose properties carry <see cref="OptionAttribute"/>.</param>
    /// <param name="arguments">What follows the command.</param>
    /// <exception cref="InputException">An unknown or repeated option, a missing value, a stray word.</exception>
    public static string[] Canonical(string command, Type options, IReadOnlyList<string> arguments)
    {
        Known[] known = [.. options.GetProperties().Select(property => (property, option: property.GetCustomAttribute<OptionAttribute>()))
            .Where(pair => pair.option is not null)
            .Select(pair => new Known(pair.option!, pair.property.PropertyType))];
        List<string> canonical = [];
        HashSet<string> given = [];
        for (int i = 0; i < arguments.Count; i++)
        {
            (string name, string? value) = Split(arguments[i]);
            Known option = known.FirstOrDefault(candidate => candidate.Goes(name)) ?? throw Unknown(command, arguments[i], name, known);
            if (!given.Add(option.Long) && !option.Repeats)
            {
                throw new InputException($"{name} is given twice; once is allowed");
            }
            if (option.IsFlag)
            {
                canonical.Add(value is null ? $"--{option.Long}" : throw InputException.Of(name, value, "takes no value"));
                continue;
            }
            if (value is null && i + 1 < arguments.Count && !known.Any(candidate => candidate.Goes(Split(arguments[i + 1]).Name)))
            {
                value = arguments[++i];
            }
            canonical.Add(string.IsNullOrEmpty(value) ? throw new InputException($"{name} needs a value: {option.Value}") : $"--{option.Long}={value}");
        }
        return [.. canonical];
    }

    // "--name=value", "--name", "-q=value", "-qvalue", "-q"; a word without a minus is its own name.
    private static (string Name, string? Value) Split(string word)
    {
        if (word.StartsWith("--", StringComparison.Ordinal))
        {
            int equals = word.IndexOf('=');
            return equals < 0 ? (word, null) : (word[..equals], word[(equals + 1)..]);
        }
        if (word.Length <= 2 || word[0] != '-')
        {
            return (word, null);
        }
        return (word[..2], word[2] == '=' ? word[3..] : word[2..]);
    }

    private static InputException Unknown(string command, string word, string name, Known[] known)
    {
        if (!word.StartsWith('-'))
        {
            return new InputException($"{Files.NpyDictionary.Quote(word)} belongs to no option; see attn {command} --help");
        }
        string? near = known.Select(option => $"--{option.Long}").MinBy(candidate => Distance(name, candidate));
        string hint = near is not null && Distance(name, near) <= 2 ? $"; {near} was meant?" : "";
        return new InputException($"{name}: attn {command} has no such option{hint}; see attn {command} --help");
    }

    private static string NpyText(string word) => Files.NpyDictionary.Quote(word);

    /// <summary>How many letters to insert, drop or change to get from one word to the other.</summary>
    private static int Distance(string from, string to)
    {
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        for (int i = 0; i < from.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i + 1;
            for (int j = 0; j < to.Length; j++)
            {
                int above = row[j + 1];
                row[j + 1] = Math.Min(diagonal + (from[i] == to[j] ? 0 : 1), Math.Min(row[j], above) + 1);
                diagonal = above;
            }
        }
        return row[^1];
    }

    private sealed record Known(OptionAttribute Attribute, Type Property)
    {
        public string Long => Attribute.LongName;

        public bool IsFlag => Property == typeof(bool);

        public bool Repeats => Property != typeof(string) && !IsFlag;

        public string Value => string.IsNullOrEmpty(Attribute.MetaValue) ? "VALUE" : Attribute.MetaValue;

        public bool Goes(string name) => name == $"--{Attribute.LongName}" || (Attribute.ShortName.Length == 1 && name == $"-{Attribute.ShortName}");
    }
}
