using System.Text.Json;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary><c>attn run</c> on each device: what it computes, writes and says.</summary>
[TestFixture("cpu")]
[TestFixture("cuda")]
internal sealed class RunTests(string device)
{
    private static readonly string[] s_backends = ["flash", "memory-efficient", "naive"];

    private readonly bool _onGpu = device == "cuda";

    private Folder _folder = null!;

    [OneTimeSetUp]
    public void NeedsItsDevice() => Contexts.Needs(device);

    [SetUp]
    public void Make() => _folder = new();

    [TearDown]
    public void Clean() => _folder.Dispose();

    private static Problem Small(int seed = 1, Element type = Element.F32) => RandomProblems.Shaped(new Random(seed), type, 2, 4, 2, 20, 33, 16, 8);

    private Result ReadResult(Problem p, bool bshd = false, bool probabilities = false)
    {
        double[] o;
        string path = _folder["O.npy"];
        if (p.Type == Element.F16)
        {
            (string descr, string shape, Half[] data) = Arrays.Read<Half>(path);
            Assert.That(descr, Is.EqualTo("<f2"));
            o = Array.ConvertAll(data, x => (double)x);
        }
        else
        {
            (string descr, string shape, float[] data) = Arrays.Read<float>(path); // bf16 is written as f4
            Assert.That(descr, Is.EqualTo("<f4"));
            Assert.That(shape, Is.EqualTo(bshd ? $"{p.B}, {p.Sq}, {p.Hq}, {p.Dv}" : $"{p.B}, {p.Hq}, {p.Sq}, {p.Dv}"));
            o = Array.ConvertAll(data, x => (double)x);
        }
        o = bshd ? Library.Turned(o, p.B, p.Sq, p.Hq, p.Dv) : o;
        (string lseDescr, string lseShape, float[] lse) = Arrays.Read<float>(_folder["LSE.npy"]);
        Assert.That((lseDescr, lseShape), Is.EqualTo(("<f4", $"{p.B}, {p.Hq}, {p.Sq}")));
        double[]? written = null;
        if (probabilities)
        {
            (_, string shape, float[] data) = Arrays.Read<float>(_folder["P.npy"]);
            Assert.That(shape, Is.EqualTo($"{p.B}, {p.Hq}, {p.Sq}, {p.Sk}"));
            written = Array.ConvertAll(data, x => (double)x);
        }
        return new(o, Array.ConvertAll(lse, x => (double)x), written);
    }

    private string[] With(IEnumerable<string> options, params string[] more)
    {
        string[] where = more.Contains("--device") ? [] : ["--device", device];
        return ["run", .. options, "-o", _folder["O.npy"], "--lse", _folder["LSE.npy"], .. where, .. more];
    }

    [Test]
    public void Random_problems_through_files([Range(0, 29)] int seed)
    {
        Problem p = RandomProblems.Draw(seed + 200);
        if (p.Bias is not null && p.BiasOfType && p.Type == Element.BF16)
        {
            p = p with { BiasOfType = false }; // a .npy file has no bfloat16
        }
        bool bshd = seed % 3 == 0, probabilities = seed % 5 == 0;
        // A GPU's flash refuses many: there it is taken where it can be.
        string[] more = probabilities ? ["--probabilities", _folder["P.npy"]] : ["--backend", _onGpu && seed % 3 == 0 ? "auto" : s_backends[seed % 3]];
        Outcome outcome = Attn.Here(With(Attn.Options(_folder, p, bshd), more));
        Assert.That(outcome.Code, Is.Zero, $"{p}: {outcome.Error}");
        Assert.That(new Judge(p).Fault(ReadResult(p, bshd, probabilities)), Is.Null, p.ToString());
    }

    [Test]
    public void The_dtype_computed_in_is_chosen([Values("f32", "f16", "bf16")] string dtype)
    {
        Problem p = Small();
        Element type = dtype switch { "f32" => Element.F32, "f16" => Element.F16, _ => Element.BF16 };
        Problem rounded = p with { Type = type, Q = [.. p.Q.Select(x => type.Round(x))], K = [.. p.K.Select(x => type.Round(x))], V = [.. p.V.Select(x => type.Round(x))] };
        Outcome outcome = Attn.Run(With(Attn.Options(_folder, p), $"--dtype={dtype}"));
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        Assert.That(new Judge(rounded).Fault(ReadResult(rounded)), Is.Null);
    }

    [Test]
    public void Float64_files_are_computed_as_float32()
    {
        Problem p = Small();
        List<string> options = Attn.Options(_folder, p);
        _folder.Write("Q.npy", Arrays.Npy(p.Q, p.B, p.Hq, p.Sq, p.D));
        Outcome outcome = Attn.Here(With(options));
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        Assert.That(new Judge(p).Fault(ReadResult(p)), Is.Null);
    }

    [Test]
    public void Json_is_one_object_with_everything([ValueSource(nameof(s_backends))] string backend)
    {
        Problem p = Small(type: _onGpu ? Element.F16 : Element.F32) with { Keep = RandomProblems.Keep(new Random(1), [2, 1, 20, 33]) };
        Outcome outcome = Attn.Run(With(Attn.Options(_folder, p), "--backend", backend, "--threads", "2", "--repeat", "3", "--warmup", "1", "--json"));
        JsonElement json = outcome.Json();
        Assert.That(json.GetProperty("device").GetString(), Is.EqualTo(Contexts.Of(device).Device.ToString()));
        Assert.That(json.GetProperty("backend").GetString(), Is.EqualTo(backend));
        Assert.That(json.GetProperty("kernel").GetString(), Does.StartWith($"{device}."));
        Assert.That(json.GetProperty("threads").GetInt32(), Is.EqualTo(_onGpu ? Contexts.Of(device).Workers : 2), "a GPU has its own");
        Assert.That(json.GetProperty("refused").ValueKind, Is.EqualTo(JsonValueKind.Array));
        Assert.That(json.GetProperty("tile").GetProperty("queries").GetInt64(), Is.GreaterThan(0));
        Assert.That(json.GetProperty("tile").GetProperty("keys").GetInt64(), Is.GreaterThan(0));
        JsonElement tiles = json.GetProperty("tiles");
        long full = tiles.GetProperty("full").GetInt64(), partial = tiles.GetProperty("partial").GetInt64(), visited = tiles.GetProperty("visited").GetInt64();
        Assert.That(tiles.GetProperty("empty").GetInt64(), Is.GreaterThanOrEqualTo(0));
        Assert.That(visited, Is.EqualTo(_onGpu && backend == "naive" ? 0 : full + partial), "a GPU's naive does not go by tiles");
        foreach (string times in new[] { "milliseconds", "prepared_milliseconds" })
        {
            JsonElement milliseconds = json.GetProperty(times);
            double least = milliseconds.GetProperty("min").GetDouble(), median = milliseconds.GetProperty("median").GetDouble(), most = milliseconds.GetProperty("max").GetDouble();
            Assert.That(least, Is.GreaterThan(0).And.LessThanOrEqualTo(median));
            Assert.That(median, Is.LessThanOrEqualTo(most));
            Assert.That(milliseconds.GetProperty("repeat").GetInt32(), Is.EqualTo(3));
        }
    }

    [Test]
    public void Without_a_dense_mask_there_is_no_prepared_time()
    {
        JsonElement json = Attn.Here(With(Attn.Options(_folder, Small()), "--json")).Json();
        Assert.That(json.TryGetProperty("prepared_milliseconds", out _), Is.False);
    }

    [Test]
    public void Probabilities_take_naive_and_no_other()
    {
        string[] options = With(Attn.Options(_folder, Small()), "--probabilities", _folder["P.npy"]);
        JsonElement json = Attn.Here([.. options, "--json"]).Json();
        Assert.That(json.GetProperty("backend").GetString(), Is.EqualTo("naive"));
        string[] refused = [.. json.GetProperty("refused").EnumerateArray().Select(refusal => refusal.GetProperty("backend").GetString()!)];
        Assert.That(refused, Is.EqualTo(new[] { "flash", "memory-efficient" }));
        Assert.That(json.GetProperty("refused")[0].GetProperty("reasons").EnumerateArray().Select(reason => reason.GetString()), Has.Some.Contains("probability"));
        foreach (string file in _folder.Names().Where(name => name is "O.npy" or "LSE.npy" or "P.npy"))
        {
            File.Delete(_folder[file]);
        }
        Attn.Run([.. options, "--backend", "flash"]).IsError(3, "flash", "probability");
        Assert.That(_folder.Names(), Is.EqualTo(new[] { "K.npy", "Q.npy", "V.npy" }), "nothing is written");
    }

    /// <summary>What is wrong, and what its one line holds.</summary>
    private static IEnumerable<TestCaseData> BadOptions()
    {
        TestCaseData Case(string options, params string[] holding) => new TestCaseData(options, holding).SetArgDisplayNames(options);
        yield return Case("--threads 0", "--threads", "0", "1");
        yield return Case("--threads -1", "--threads", "-1", "1");
        yield return Case("--threads=two", "--threads", "two");
        yield return Case("--threads 99999999999", "--threads", "99999999999");
        yield return Case("--repeat 0", "--repeat", "0", "1");
        yield return Case("--warmup -1", "--warmup", "-1", "0");
        yield return Case("--window -2,0", "--window", "-2,0", "-1");
        yield return Case("--window=1", "--window", "L,R");
        yield return Case("--window 1,2,3", "--window", "1,2,3");
        yield return Case("--softcap -1", "--softcap", "-1", "0");
        yield return Case("--softcap nan", "--softcap", "nan");
        yield return Case("--softcap=inf", "--softcap", "inf");
        yield return Case("--scale nan", "--scale", "nan", "finite");
        yield return Case("--scale 1e99", "--scale", "1e99");
        yield return Case("--scale", "--scale");
        yield return Case("--layout sbhd", "--layout", "sbhd", "bhsd", "bshd");
        yield return Case("--dtype f64", "--dtype", "f64", "f32", "f16", "bf16");
        yield return Case("--device tpu", "--device", "tpu", "auto", "cpu", "cuda");
        yield return Case("--device cuda:x", "--device", "cuda:x");
        yield return Case("--backend fast", "--backend", "fast", "flash", "memory-efficient", "naive");
        yield return Case("--offset middle", "--offset", "middle");
        yield return Case("--causal=yes", "--causal", "yes");
        yield return Case("--unknown 3", "--unknown");
        yield return Case("stray", "stray");
        yield return Case("--causal --causal", "--causal", "twice");
        yield return Case("--scale 1 --scale 2", "--scale", "twice");
        yield return Case("--mask absent.npy", "--mask", "absent.npy");
        yield return Case("--key-lengths absent.npy", "--key-lengths", "absent.npy");
        yield return Case("--q-documents absent.npy", "--k-documents");
        yield return Case("--key-lengths lengths3.npy", "--key-lengths", "3", "2");
        yield return Case("--key-lengths toolong.npy", "--key-lengths", "34", "33");
        yield return Case("--key-lengths huge.npy", "--key-lengths", "1099511627776");
        yield return Case("--key-lengths floats.npy", "--key-lengths", "float32", "int32");
        yield return Case("--mask floats.npy --mask floats.npy", "--mask");
        yield return Case("--mask keep.npy --mask keep.npy", "--mask");
        yield return Case("--mask badkeep.npy", "--mask", "19", "20");
        yield return Case("--mask ints.npy", "--mask", "int32");
        yield return Case("--prefix lengths.npy --causal", "--prefix", "--causal");
        yield return Case("--alibi floats3.npy", "--alibi", "3", "4");
        yield return Case("-k wrong.npy", "-k", "twice");
    }

    [TestCaseSource(nameof(BadOptions))]
    public void Bad_usage_is_one_line_and_writes_nothing(string words, string[] holding)
    {
        List<string> options = Attn.Options(_folder, Small());
        _folder.Write("lengths.npy", Arrays.Npy([1, 2], 2));
        _folder.Write("lengths3.npy", Arrays.Npy([1, 2, 3], 3));
        _folder.Write("toolong.npy", Arrays.Npy([1, 34], 2));
        _folder.Write("huge.npy", Arrays.Npy([1L, 1L << 40], 2));
        _folder.Write("floats.npy", Arrays.Npy([1f, 2f], 2));
        _folder.Write("floats3.npy", Arrays.Npy([1f, 2f, 3f], 3));
        _folder.Write("ints.npy", Arrays.Npy(new int[33], 33));
        _folder.Write("keep.npy", Arrays.Npy(new bool[33], 33));
        _folder.Write("badkeep.npy", Arrays.Npy(new bool[19 * 33], 19, 33));
        string[] before = _folder.Names();
        IEnumerable<string> more = words.Split(' ').Select(word => word.EndsWith(".npy", StringComparison.Ordinal) ? _folder[word] : word);
        Attn.Here(With(options, [.. more])).IsError(2, holding);
        Assert.That(_folder.Names(), Is.EqualTo(before), "nothing is written");
    }

    [Test]
    public void Outputs_that_cannot_be_written()
    {
        List<string> options = Attn.Options(_folder, Small());
        string[] before = _folder.Names();
        Attn.Here(["run", .. options, "--device", device, "-o", _folder["absent/O.npy"]]).IsError(2, "-o", "absent");
        Attn.Here(["run", .. options, "--device", device, "-o", _folder.Path]).IsError(2, "folder");
        Attn.Here(["run", .. options, "--device", device, "-o", _folder["O.npy"], "--lse", _folder["absent/LSE.npy"]]).IsError(2, "--lse", "absent");
        Assert.That(_folder.Names(), Is.EqualTo(before), "no output, no folder, no temporary file");
        if (File.Exists("/dev/full"))
        {
            Attn.Here(["run", .. options, "--device", device, "-o", "/dev/full"]).IsError(2, "/dev/full");
        }
    }

    [Test]
    public void An_older_output_survives_a_failure()
    {
        List<string> options = Attn.Options(_folder, Small());
        string old = _folder.Write("O.npy", "old"u8.ToArray());
        Attn.Here(["run", .. options, "--device", device, "-o", old, "--key-lengths", _folder.Write("long.npy", Arrays.Npy([99, 1], 2))]).IsError(2, "99");
        Assert.That(File.ReadAllText(old), Is.EqualTo("old"));
    }

    [Test]
    public void Operands_are_needed_and_must_fit()
    {
        List<string> options = Attn.Options(_folder, Small());
        Attn.Here("run").IsError(2);
        Attn.Here(["run", .. options[..4], "-o", _folder["O.npy"]]).IsError(2, "-v");
        Attn.Here(["run", .. options]).IsError(2, "-o");
        _folder.Write("V.npy", Arrays.Npy(new float[2 * 2 * 32 * 8], 2, 2, 32, 8));
        Attn.Here(With(options)).IsError(2, "32", "33");
        _folder.Write("V.npy", Arrays.Npy(new float[33], 33));
        Attn.Here(With(options)).IsError(2, "-v");
        Attn.Here().IsError(2, "run", "explain", "bench", "info");
        Attn.Here("walk").IsError(2, "walk", "run");
    }

    [Test]
    public void A_device_that_is_not_there_is_a_failure_of_the_device() =>
        Attn.Run(With(Attn.Options(_folder, Small()), "--device", "cuda:99")).IsError(4, Contexts.HasCuda ? "99" : "cuda");

    [Test]
    public void A_library_that_is_not_there_is_a_failure_of_the_library() =>
        Attn.RunWith(new() { ["ATTENTION_LIBRARY"] = _folder["absent.so"] }, "info").IsError(4, "absent.so");

    [Test]
    public void Whisper_by_name_from_one_file()
    {
        string sample = Path.Combine(Suite.RepoRoot, "bench", "data", "sample.safetensors");
        string[] operands = ["-q", $"{sample}:Q", "-k", $"{sample}:K", "-v", $"{sample}:V", "--key-lengths", $"{sample}:key_lengths"];
        Outcome outcome = Attn.Run(["run", .. operands, "-o", _folder["O.npy"], "--device", device, "--json"]);
        Assert.That(outcome.Json().GetProperty("backend").GetString(), Is.EqualTo("flash"));
        Assert.That(Arrays.Read<Half>(_folder["O.npy"]).Shape, Is.EqualTo("4, 2, 1500, 64"));
    }
}
