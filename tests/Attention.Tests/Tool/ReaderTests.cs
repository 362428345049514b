using System.Buffers.Binary;
using System.Text;
using Attention.Tool;
using Attention.Tool.Files;

namespace Attention.Tests;

/// <summary>The readers of .npy and safetensors: what they read, and a line for everything they do not.</summary>
[TestFixture]
internal sealed class ReaderTests
{
    private readonly Folder _folder = new();

    [OneTimeTearDown]
    public void Clean() => _folder.Dispose();

    private ArrayFile Npy(byte[] file) => ArrayFile.Open("--mask", _folder.Write("a.npy", file));

    private ArrayFile Safe(byte[] file, string name) => ArrayFile.Open("--mask", $"{_folder.Write("a.safetensors", file)}:{name}");

    private static string Refused(Action open, params string[] holding)
    {
        string message = Assert.Throws<InputException>(open)!.Message;
        Assert.That(message, Does.StartWith("--mask ").And.Not.Contain("\n"));
        foreach (string part in holding)
        {
            Assert.That(message, Does.Contain(part));
        }
        return message;
    }

    [Test]
    public void Every_type_of_npy_is_read()
    {
        Assert.That(Npy(Arrays.Npy([1.5f, -2f], 2)).Read<float>(), Is.EqualTo(new[] { 1.5f, -2f }));
        Assert.That(Npy(Arrays.Npy([(Half)1.5f, (Half)(-2f)], 2)).Read<float>(), Is.EqualTo(new[] { 1.5f, -2f }));
        Assert.That(Npy(Arrays.Npy([1.5, 1e300], 2)).Read<float>(), Is.EqualTo(new[] { 1.5f, float.PositiveInfinity }));
        Assert.That(Npy(Arrays.Npy([true, false], 2)).Read<byte>(), Is.EqualTo(new byte[] { 1, 0 }));
        Assert.That(Npy(Arrays.Npy(new byte[] { 7, 0 }, 2)).Read<byte>(), Is.EqualTo(new byte[] { 7, 0 }));
        Assert.That(Npy(Arrays.Npy([3, -4], 2)).Read<int>(), Is.EqualTo(new[] { 3, -4 }));
        Assert.That(Npy(Arrays.Npy([3L, -4L], 2)).Read<int>(), Is.EqualTo(new[] { 3, -4 }));
    }

    [Test]
    public void Every_type_of_safetensors_is_read()
    {
        byte[] file = Arrays.SafeTensors(
            ("f16", "F16", [2], Arrays.Bytes((Half)1.5f, (Half)(-2f))), ("bf16", "BF16", [2], Arrays.Bytes<ushort>(0x3FC0, 0xC000)),
            ("f32", "F32", [2], Arrays.Bytes(1.5f, -2f)), ("f64", "F64", [2], Arrays.Bytes(1.5, -2.0)), ("i32", "I32", [2], Arrays.Bytes(3, -4)),
            ("i64", "I64", [2], Arrays.Bytes(3L, -4L)), ("bool", "BOOL", [2], Arrays.Bytes(true, false)), ("u8", "U8", [2], Arrays.Bytes<byte>(7, 0)));
        foreach (string name in new[] { "f16", "bf16", "f32", "f64" })
        {
            Assert.That(Safe(file, name).Read<float>(), Is.EqualTo(new[] { 1.5f, -2f }), name);
        }
        Assert.That(Safe(file, "i32").Read<int>(), Is.EqualTo(new[] { 3, -4 }));
        Assert.That(Safe(file, "i64").Read<int>(), Is.EqualTo(new[] { 3, -4 }));
        Assert.That(Safe(file, "bool").Read<byte>(), Is.EqualTo(new byte[] { 1, 0 }));
        Assert.That(Safe(file, "u8").Read<byte>(), Is.EqualTo(new byte[] { 7, 0 }));
    }

    [Test]
    public void Versions_2_and_3_of_npy_are_read([Values(2, 3)] int version) =>
        Assert.That(Npy(Arrays.Npy("<i4", "(2,)", Arrays.Bytes(3, 4), version: version)).Read<int>(), Is.EqualTo(new[] { 3, 4 }));

    [Test]
    public void Fortran_order_is_turned()
    {
        // [2, 3, 2] numbered in C order, written with the first index fastest.
        int[] written = new int[12];
        for (int a = 0; a < 2; a++)
        {
            for (int b = 0; b < 3; b++)
            {
                for (int c = 0; c < 2; c++)
                {
                    written[a + (2 * b) + (6 * c)] = (((a * 3) + b) * 2) + c;
                }
            }
        }
        ArrayFile file = Npy(Arrays.Npy("<i4", "(2, 3, 2)", Arrays.Bytes<int>(written), fortran: true));
        Assert.That(file.Shape, Is.EqualTo(new long[] { 2, 3, 2 }));
        Assert.That(file.Read<int>(), Is.EqualTo(Enumerable.Range(0, 12)));
    }

    [Test]
    public void A_scalar_and_an_array_without_elements_are_read()
    {
        Assert.That(Npy(Arrays.Npy("<f4", "()", Arrays.Bytes(2f))).Read<float>(), Is.EqualTo(new[] { 2f }));
        Assert.That(Npy(Arrays.Npy("<f4", "(0, 3)", [])).Read<float>(), Is.Empty);
    }

    [Test]
    public void Float64_is_rounded_once_to_nearest_even()
    {
        // Just above the middle between two bfloat16 numbers: rounding to float32 first would land on the middle, and then on the even one below.
        double tie = 1 + Math.ScaleB(1, -8), above = tie + Math.ScaleB(1, -40);
        Assert.That(Npy(Arrays.Npy([tie, above, -above], 3)).Read<BFloat16>().Select(value => (float)value),
            Is.EqualTo(new[] { 1f, 1 + MathF.ScaleB(1, -7), -1 - MathF.ScaleB(1, -7) }));
    }

    [Test]
    public void Integers_out_of_range_name_the_element() =>
        Refused(() => Npy(Arrays.Npy([1L, 1L << 40], 2)).Read<int>(), "element 1", "1099511627776", "2147483647");

    [Test]
    public void A_type_that_does_not_fit_its_use_is_refused()
    {
        Refused(() => Npy(Arrays.Npy([1f], 1)).Read<int>(), "float32", "int32 or int64");
        Refused(() => Npy(Arrays.Npy([1], 1)).Read<float>(), "int32", "float16, bfloat16, float32 or float64");
        Refused(() => Npy(Arrays.Npy([1f], 1)).Read<byte>(), "float32", "bool or uint8");
    }

    [Test]
    public void Big_endian_is_refused([Values(">f4", ">i8", ">f2")] string descr) => Refused(() => Npy(Arrays.Npy(descr, "(1,)", new byte[8])), descr);

    [Test]
    public void Unknown_types_are_refused([Values("<c8", "|O", "<U3", "<f16", "|i1", "<u4")] string descr) => Refused(() => Npy(Arrays.Npy(descr, "(1,)", new byte[16])), descr);

    [Test]
    public void Truncated_at_every_byte_is_refused()
    {
        byte[] npy = Arrays.Npy([1f, 2f, 3f], 3), safe = Arrays.SafeTensors(("x", "F32", [3], Arrays.Bytes(1f, 2f, 3f)));
        for (int length = 0; length < npy.Length; length++)
        {
            Refused(() => Npy(npy[..length]));
        }
        for (int length = 0; length < safe.Length; length++)
        {
            Refused(() => Safe(safe[..length], "x"));
        }
        Refused(() => Npy(npy[..60]), "truncated", $"its header has {BitConverter.ToUInt16(npy, 8)} bytes", "50 are there");
        Refused(() => Npy(npy[..^1]), "truncated", "12 bytes", "11");
    }

    [Test]
    public void A_huge_header_is_refused_before_it_is_read()
    {
        byte[] npy = Arrays.Npy("<f4", "(1,)", Arrays.Bytes(1f), version: 2);
        BinaryPrimitives.WriteUInt32LittleEndian(npy.AsSpan(8), uint.MaxValue);
        Refused(() => Npy(npy), "4294967295");
        byte[] safe = Arrays.SafeTensors(("x", "F32", [1], Arrays.Bytes(1f)));
        BinaryPrimitives.WriteUInt64LittleEndian(safe, ulong.MaxValue);
        Refused(() => Safe(safe, "x"), "18446744073709551615");
    }

    [Test]
    public void Overflowing_shapes_are_refused([Values("(9223372036854775807, 2)", "(99999999999999999999,)", "(4294967296, 4294967296, 0)", "(2305843009213693952,)")] string shape) =>
        Refused(() => Npy(Arrays.Npy("<f4", shape, [])), "overflow");

    [Test]
    public void Damaged_headers_are_refused()
    {
        foreach (string shape in new[] { "(-1,)", "(1.5,)", "('a',)", "(1,", "1" })
        {
            Refused(() => Npy(Arrays.Npy("<f4", shape, new byte[64])), "damaged");
        }
        byte[] WithHeader(string json) => [.. Arrays.Bytes((long)Encoding.UTF8.GetByteCount(json)), .. Encoding.UTF8.GetBytes(json), .. new byte[64]];
        foreach (string json in new[]
        {
            "", "[]", "{", "{\"x\":1}", "{\"x\":{}}", "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
            "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", "{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
            "{\"x\":{\"dtype\":\"F9\",\"shape\":[1],\"data_offsets\":[0,4]}}", "{\"x\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
        })
        {
            Refused(() => Safe(WithHeader(json), "x"));
        }
    }

    [Test]
    public void What_is_no_array_is_refused()
    {
        Refused(() => Npy("PK\u0003\u0004 a zip archive"u8.ToArray()), "not a .npy file");
        Refused(() => Npy([]), "not a .npy file");
        Refused(() => ArrayFile.Open("--mask", _folder.Path), "folder");
        Refused(() => ArrayFile.Open("--mask", _folder["absent.npy"]), "absent.npy", "no such file");
        byte[] safe = Arrays.SafeTensors(("x", "F32", [1], Arrays.Bytes(1f)));
        Refused(() => Safe(safe, "y"), "x");
        Refused(() => ArrayFile.Open("--mask", _folder.Write("b.safetensors", safe)), "NAME");
    }

    /// <summary>Whatever a file holds, opening and reading it gives an array or one line.</summary>
    [Test]
    public void Mutated_files_give_an_array_or_one_line()
    {
        byte[][] seeds =
        [
            Arrays.Npy([1f, 2f, 3f, 4f, 5f, 6f], 2, 3), Arrays.Npy([1L, 2L], 2), Arrays.Npy("<f2", "(2, 2)", new byte[8], fortran: true, version: 2),
            Arrays.SafeTensors(("x", "F16", [2, 2], new byte[8]), ("y", "I32", [3], new byte[12])),
        ];
        const int Seed = 20260101;
        int files = Suite.Full ? 100_000 : 10_000, arrays = 0, lines = 0;
        Random random = new(Seed);
        for (int file = 0; file < files; file++)
        {
            int kind = random.Next(seeds.Length);
            byte[] bytes = Mutate(seeds[kind], random);
            string path = _folder.Write(kind == 3 ? "m.safetensors" : "m.npy", bytes);
            try
            {
                ArrayFile array = ArrayFile.Open("--mask", kind == 3 ? $"{path}:x" : path);
                _ = array.Type.IsFloat() ? array.Read<float>().Length : array.Type.IsInteger() ? array.Read<int>().Length : array.Read<byte>().Length;
                arrays++;
            }
            catch (InputException refused)
            {
                Assert.That(refused.Message, Does.Not.Contain("\n"), $"file {file} of seed {Seed}");
                lines++;
            }
            catch (Exception other)
            {
                Assert.Fail($"file {file} of seed {Seed}: {other}");
            }
        }
        TestContext.Out.WriteLine($"{files} mutated files: {arrays} arrays, {lines} refused");
        Assert.That(arrays, Is.GreaterThan(0));
        Assert.That(lines, Is.GreaterThan(0));
    }

    private static byte[] Mutate(byte[] seed, Random random)
    {
        List<byte> bytes = [.. seed];
        for (int change = random.Next(1, 5); change > 0; change--)
        {
            int at = random.Next(Math.Max(1, bytes.Count));
            switch (random.Next(6))
            {
                case 0 when bytes.Count > 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1 when bytes.Count > 0:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 2:
                    bytes.InsertRange(at, Enumerable.Repeat((byte)random.Next(256), random.Next(1, 40)));
                    break;
                case 3 when bytes.Count > 0:
                    bytes.RemoveRange(at, Math.Min(bytes.Count - at, random.Next(1, 40)));
                    break;
                case 4:
                    byte[] number = Encoding.ASCII.GetBytes(random.Next(4) switch { 0 => "9223372036854775807", 1 => "-1", 2 => "4294967296", _ => "0" });
                    int digit = bytes.FindIndex(Math.Min(at, bytes.Count), b => b is >= (byte)'0' and <= (byte)'9');
                    if (digit >= 0)
                    {
                        bytes.RemoveAt(digit);
                        bytes.InsertRange(digit, number);
                    }
                    break;
                default:
                    int cut = Math.Min(at, bytes.Count);
                    bytes.RemoveRange(cut, bytes.Count - cut);
                    break;
            }
        }
        return [.. bytes];
    }
}
