using System.Text.Json;
using Attention.Tests.Reference;
using SkiaSharp;

namespace Attention.Tests;

/// <summary><c>attn explain</c>, <c>info</c>, <c>bench</c> and help, on each device: what would run, and the picture of the tiles.</summary>
[TestFixture("cpu")]
[TestFixture("cuda")]
internal sealed class ExplainCommandTests(string device)
{
    private readonly bool _onGpu = device == "cuda";

    private Folder _folder = null!;

    /// <summary>The type that flash takes on the device.</summary>
    private Element Usual => _onGpu ? Element.F16 : Element.F32;

    private AttentionContext Context => Contexts.Of(device);

    [OneTimeSetUp]
    public void NeedsItsDevice() => Contexts.Needs(device);

    [SetUp]
    public void Make() => _folder = new();

    [TearDown]
    public void Clean() => _folder.Dispose();

    private static (long Full, long Partial, long Empty) Tiles(JsonElement json)
    {
        JsonElement tiles = json.GetProperty("tiles");
        return (tiles.GetProperty("full").GetInt64(), tiles.GetProperty("partial").GetInt64(), tiles.GetProperty("empty").GetInt64());
    }

    [Test]
    public void A_shape_is_enough()
    {
        string dtype = _onGpu ? "f16" : "f32";
        JsonElement json = Attn.Run("explain", "--shape", "2,8,2,512,512,64,64", "--causal", "--device", device, "--dtype", dtype, "--json").Json();
        Problem p = new() { Type = Usual, B = 2, Hq = 8, Hkv = 2, Sq = 512, Sk = 512, D = 64, Dv = 64, Causal = true };
        using AttentionPlan plan = Context.Plan(Library.Describe(p));
        TileCounts counts = plan.Explain(Mask.Causal);
        Assert.That(json.GetProperty("backend").GetString(), Is.EqualTo("flash"));
        Assert.That(json.GetProperty("tile").GetProperty("keys").GetInt64(), Is.EqualTo(plan.TileKeys));
        Assert.That(Tiles(json), Is.EqualTo((counts.Full, counts.Partial, counts.Empty)));
    }

    [Test]
    public void Every_refusal_is_told()
    {
        string[] options = ["explain", "--shape", "1,1,1,10,10,600,64", "--dtype", "f16", "--device", device];
        string most = _onGpu ? "256" : "512";
        JsonElement json = Attn.Here([.. options, "--json"]).Json();
        Assert.That(json.GetProperty("backend").GetString(), Is.EqualTo("memory-efficient"));
        JsonElement refused = json.GetProperty("refused")[0];
        Assert.That(refused.GetProperty("backend").GetString(), Is.EqualTo("flash"));
        Assert.That(refused.GetProperty("reasons")[0].GetString(), Does.Contain("600").And.Contain(most));
        Attn.Here([.. options, "--backend", "flash"]).IsError(3, "600", most);
    }

    [Test]
    public void Without_json_it_is_said_in_words()
    {
        Outcome outcome = Attn.Run("explain", "--shape", "2,8,2,512,512,64,64", "--causal", "--dtype", "f16", "--device", device);
        Assert.That(outcome.Code, Is.Zero, outcome.Error);
        Assert.That(outcome.Out, Does.Contain("flash").And.Contain("full").And.Contain("partial").And.Contain("empty"));
        Assert.That(outcome.Out, Does.Contain(_onGpu ? $"on cuda:0, {Context.Workers} multiprocessors: " : $"on cpu, {AttentionRuntime.Describe().Workers} thread"));
    }

    [TestCase("1,2,3")]
    [TestCase("1,1,1,10,10,0,64")]
    [TestCase("1,1,1,10,10,64,x")]
    [TestCase("1,3,2,10,10,64,64")]
    [TestCase("-1,1,1,10,10,64,64")]
    public void Shapes_that_are_none(string shape) => Attn.Here("explain", "--shape", shape, "--device", device).IsError(2);

    /// <summary>The colours of the drawn cells, counted, are the counts the plan tells.</summary>
    [Test]
    public void The_picture_shows_the_counted_tiles([Values("causal", "lengths", "keep")] string kind)
    {
        Random random = new(3);
        Problem p = RandomProblems.Shaped(random, Usual, 2, 2, 1, 300, 520, 16, 16);
        p = kind switch
        {
            "causal" => p with { Causal = true },
            "lengths" => p with { KeyLengths = [100, 520] },
            _ => p with { Keep = RandomProblems.Keep(random, [2, 1, 300, 520]) },
        };
        string picture = _folder["tiles.png"];
        JsonElement json = Attn.Run(["explain", .. Attn.Options(_folder, p), "--device", device, "--plot", picture, "--json"]).Json();
        (long full, long partial, long empty) = Tiles(json);
        using AttentionPlan plan = Context.Plan(Library.Describe(p));
        Mask mask = Library.MaskOf(p);
        Assert.That((full, partial, empty), Is.EqualTo((plan.Explain(mask).Full, plan.Explain(mask).Partial, plan.Explain(mask).Empty)));

        // Every cell of the maps is one colour; a map stands for all the heads that share it. Where the cells lie, the answer says.
        JsonElement plot = json.GetProperty("plot"), cell = plot.GetProperty("cell"), colors = plot.GetProperty("colors");
        SKColor Color(string tile) => SKColor.Parse(colors.GetProperty(tile).GetString());
        using SKBitmap bitmap = SKBitmap.Decode(picture);
        Assert.That(bitmap, Is.Not.Null);
        Dictionary<SKColor, long> drawn = [];
        foreach (JsonElement panel in plot.EnumerateObject().Single(part => part.Value.ValueKind == JsonValueKind.Array).Value.EnumerateArray())
        {
            int Number(string name) => panel.GetProperty(name).GetInt32();
            for (int r = 0; r < Number("rows"); r++)
            {
                for (int c = 0; c < Number("columns"); c++)
                {
                    int width = cell.GetProperty("width").GetInt32(), height = cell.GetProperty("height").GetInt32();
                    SKColor color = bitmap!.GetPixel(Number("x") + (c * width) + (width / 2), Number("y") + (r * height) + (height / 2));
                    drawn[color] = drawn.GetValueOrDefault(color) + Number("heads");
                }
            }
        }
        (long drawnFull, long drawnPartial, long drawnEmpty) = (drawn.GetValueOrDefault(Color("full")), drawn.GetValueOrDefault(Color("partial")), drawn.GetValueOrDefault(Color("empty")));
        Assert.That((drawnFull, drawnPartial, drawnEmpty), Is.EqualTo((full, partial, empty)));
    }

    [Test]
    public void A_picture_that_cannot_be_written() =>
        Attn.Here("explain", "--shape", "1,1,1,64,64,16,16", "--device", device, "--plot", _folder["absent/tiles.png"]).IsError(2, "--plot", "absent");

    [Test]
    public void Info_tells_what_was_loaded()
    {
        JsonElement json = Attn.Run("info", "--json").Json();
        string text = json.GetRawText();
        Assert.That(text, Does.Contain("libattention").And.Contain("cpu").And.Contain(Contexts.Cpu.InstructionSet).And.Contain(Context.Device.ToString()));
        Outcome words = Attn.Run("info");
        Assert.That(words.Code, Is.Zero, words.Error);
        Assert.That(words.Out, Does.Contain("libattention").And.Contain(Contexts.Cpu.InstructionSet).And.Contain(Context.Device.ToString()));
    }

    [Test]
    public void Auto_takes_the_GPU_where_there_is_one()
    {
        JsonElement json = Attn.Here("explain", "--shape", "1,1,1,64,64,16,16", "--json").Json();
        Assert.That(json.GetProperty("device").GetString(), Is.EqualTo(Contexts.Of(Contexts.HasCuda ? "cuda" : "cpu").Device.ToString()));
    }

    [Test]
    public void Help_teaches()
    {
        foreach (string command in new[] { "run", "explain", "bench", "info" })
        {
            Outcome outcome = Attn.Here(command, "--help");
            Assert.That(outcome.Code, Is.Zero);
            Assert.That(outcome.Error, Is.Empty);
            Assert.That(outcome.Out, Does.Contain("EXAMPLES").And.Contain($"attn {command}"));
        }
        string run = Attn.Here("run", "--help").Out;
        foreach (string option in new[]
        {
            "--mask", "--causal", "--prefix", "--window", "--offset", "--key-lengths", "--query-lengths", "--q-documents", "--k-documents", "--alibi", "--scale", "--softcap", "--lse",
            "--probabilities", "--device", "--backend", "--threads", "--repeat", "--warmup", "--json", "--layout", "--dtype",
        })
        {
            Assert.That(run, Does.Contain(option));
        }
        Assert.That(Attn.Here("--help").Code, Is.Zero);
    }

    [TestCase("--suite fast", "fast", "whisper")]
    [TestCase("--threads 0", "--threads", "0")]
    [TestCase("--dtype f8", "f8", "bf16")]
    [TestCase("--output absent/x.json", "absent")]
    public void Bench_refuses_bad_usage(string words, params string[] holding) => Attn.Here(["bench", .. words.Split(' ')]).IsError(2, holding);
}
