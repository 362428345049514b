using System.Globalization;

namespace Attention.Tool.Files;

/// <summary>The header of a .npy file: the literal of a Python dictionary with exactly the keys descr, fortran_order and shape, in any order.</summary>
internal readonly record struct NpyDictionary(string Descr, bool FortranOrder, long[] Shape)
{
    /// <exception cref="FormatException">Anything else.</exception>
    public static NpyDictionary Parse(string text) => new Parser(text).Dictionary();

    /// <summary>Text from a file, fit for one line of an error message.</summary>
    public static string Quote(string text)
    {
        const int Longest = 40;
        char[] shown = [.. text.Take(Longest).Select(c => char.IsControl(c) || c is '\u2028' or '\u2029' || char.IsSurrogate(c) ? '?' : c)];
        return $"'{new string(shown)}{(text.Length > Longest ? "…" : "")}'";
    }

    private ref struct Parser(string text)
    {
        private int _at;

        public NpyDictionary Dictionary()
        {
            string? descr = null;
            bool? fortranOrder = null;
            long[]? shape = null;
            Expect('{');
            while (!Accept('}'))
            {
                string key = String();
                Expect(':');
                bool again = key switch
                {
                    "descr" => descr is not null,
                    "fortran_order" => fortranOrder is not null,
                    "shape" => shape is not null,
                    _ => throw Defect($"key {Quote(key)} is not one of descr, fortran_order, shape"),
                };
                if (again)
                {
                    throw Defect($"key {Quote(key)} comes twice");
                }
                switch (key)
                {
                    case "descr":
                        descr = Descr();
                        break;
                    case "fortran_order":
                        fortranOrder = Bool();
                        break;
                    default:
                        shape = Tuple();
                        break;
                }
                if (!Accept(','))
                {
                    Expect('}');
                    break;
                }
            }
            if (!text.AsSpan(_at).Trim(" \n\0").IsEmpty)
            {
                throw Defect("something follows the dictionary");
            }
            return new NpyDictionary(
                descr ?? throw Defect("key 'descr' is missing"),
                fortranOrder ?? throw Defect("key 'fortran_order' is missing"),
                shape ?? throw Defect("key 'shape' is missing"));
        }

        private string Descr()
        {
            SkipSpace();
            return _at < text.Length && text[_at] is '[' or '('
                ? throw new FormatException("holds records of several fields; plain arrays are read")
                : String();
        }

        private string String()
        {
            SkipSpace();
            if (_at >= text.Length || text[_at] is not ('\'' or '"'))
            {
                throw Defect("a quoted name was expected");
            }
            int end = text.IndexOf(text[_at], _at + 1);
            if (end < 0)
            {
                throw Defect("a quote is not closed");
            }
            string value = text[(_at + 1)..end];
            _at = end + 1;
            return value;
        }

        private bool Bool()
        {
            SkipSpace();
            foreach ((string word, bool value) in (ReadOnlySpan<(string, bool)>)[("True", true), ("False", false)])
            {
                if (text.AsSpan(_at).StartsWith(word))
                {
                    _at += word.Length;
                    return value;
                }
            }
            throw Defect("fortran_order must be True or False");
        }

        private long[] Tuple()
        {
            List<long> sizes = [];
            Expect('(');
            while (!Accept(')'))
            {
                sizes.Add(Size());
                if (sizes.Count > ArrayHeader.MaxRank)
                {
                    throw new FormatException($"has more than {ArrayHeader.MaxRank} dimensions; at most {ArrayHeader.MaxRank} are read");
                }
                if (!Accept(','))
                {
                    Expect(')');
                    break;
                }
            }
            return [.. sizes];
        }

        private long Size()
        {
            SkipSpace();
            int begin = _at;
            while (_at < text.Length && (char.IsAsciiDigit(text[_at]) || (text[_at] == '-' && _at == begin)))
            {
                _at++;
            }
            ReadOnlySpan<char> digits = text.AsSpan(begin, _at - begin);
            if (!long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long size))
            {
                throw Defect(
                    digits.IsEmpty
                        ? "a dimension must be a whole number"
                        : $"dimension {Quote(digits.ToString())} overflows: at most 2^63 - 1 is counted");
            }
            if (size < 0)
            {
                throw Defect($"dimension {size} is negative");
            }
            _ = _at < text.Length && text[_at] == 'L' ? _at++ : 0; // Python 2 wrote long integers so
            return size;
        }

        private void Expect(char expected)
        {
            if (!Accept(expected))
            {
                throw Defect($"'{expected}' was expected");
            }
        }

        private bool Accept(char expected)
        {
            SkipSpace();
            bool found = _at < text.Length && text[_at] == expected;
            _at += found ? 1 : 0;
            return found;
        }

        private void SkipSpace()
        {
            while (_at < text.Length && text[_at] is ' ' or '\n' or '\t')
            {
                _at++;
            }
        }

        private readonly FormatException Defect(string what) => new($"has a damaged .npy header: {what}");
    }
}
