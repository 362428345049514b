using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>A fixture per backend and device: one body of tests for all of them. Where there is no CUDA device its fixtures are skipped, and counted.</summary>
internal abstract class BackendFixture(AttentionBackend backend, string device)
{
    public const string NoCuda = "no CUDA device";

    protected AttentionBackend Backend { get; } = backend;

    protected AttentionContext Context => Contexts.Of(device);

    public static IEnumerable<TestFixtureData> All =>
        from device in new[] { "cpu", "cuda" }
        from backend in Enum.GetValues<AttentionBackend>()
        select new TestFixtureData(backend, device).SetArgDisplayNames(backend.Name(), device);

    /// <summary>Whether the backend is a GPU's flash: it takes 16-bit elements and rows that begin on 16 bytes, nothing else.</summary>
    protected bool OnTensorCores => Backend == AttentionBackend.Flash && device == "cuda";

    /// <summary>Whether the backend goes by tiles and packs dense masks for them. A GPU's naive computes every score, and reads a mask as it is.</summary>
    protected bool VisitsTiles => Backend != AttentionBackend.Naive || device == "cpu";

    /// <summary>The type in which whatever is not about types is asked: float32 where the backend takes it.</summary>
    protected Element Usual => OnTensorCores ? Element.F16 : Element.F32;

    /// <summary>A row as long as this, or the next longer one that the backend takes.</summary>
    protected int Row(int length) => OnTensorCores ? (length + 7) / 8 * 8 : length;

    /// <summary>Why the backend must refuse a problem, said independently of the library; null: it must not.</summary>
    private RefusalReason? Reason(Problem p, Manner manner)
    {
        if (Backend != AttentionBackend.Naive && manner.Probabilities)
        {
            return RefusalReason.Probabilities;
        }
        if (Backend == AttentionBackend.Flash && manner.Layout == Layout.Spread && Math.Max(p.D, p.Dv) > 1)
        {
            return RefusalReason.LastStride;
        }
        return !OnTensorCores ? null
            : p.Type == Element.F32 ? RefusalReason.DType
            : p.D > 256 ? RefusalReason.HeadDim
            : p.Dv > 256 ? RefusalReason.ValueDim
            : manner.Layout == Layout.Gaps || p.D % 8 != 0 || p.Dv % 8 != 0 ? RefusalReason.Alignment : null;
    }

    /// <summary>Whether the backend must refuse a problem; then it does, with the reason.</summary>
    protected bool IsRefused(Problem p, Manner manner = default)
    {
        if (Reason(p, manner) is not { } reason)
        {
            return false;
        }
        BackendRefusedException refused = Assert.Throws<BackendRefusedException>(() => Library.Run(Context, p, Backend, manner), $"{p}, {manner}")!;
        Assert.That(refused.Refusals.Select(refusal => refusal.Reason), Has.Some.EqualTo(reason), $"{p}, {manner}");
        return true;
    }

    [OneTimeSetUp]
    public void NeedsItsDevice()
    {
        Contexts.Needs(device);
        _ = Context; // before anything counts what lives
    }
}

/// <summary>The contexts that tests share, one a device, gone at the end of the suite; then nothing may be left of the library's objects.</summary>
[SetUpFixture]
internal sealed class Contexts
{
    private static readonly Lazy<AttentionContext> s_cpu = new(() => AttentionContext.Create(AttentionDevice.Cpu, new AttentionContextOptions { Workers = 2 }));
    private static readonly Lazy<AttentionContext> s_cuda = new(() => AttentionContext.Create(AttentionDevice.Cuda()));

    public static AttentionContext Cpu => s_cpu.Value;

    public static bool HasCuda { get; } = AttentionRuntime.Describe().Devices.Any(device => device.Type == AttentionDeviceType.Cuda);

    public static AttentionContext Of(string device) => device == "cuda" ? s_cuda.Value : s_cpu.Value;

    /// <summary>Where the device is not there, the test or fixture is skipped, and counted.</summary>
    public static void Needs(string device)
    {
        if (device == "cuda" && !HasCuda)
        {
            Assert.Ignore(BackendFixture.NoCuda);
        }
    }

    [OneTimeTearDown]
    public void NothingIsLeft()
    {
        foreach (Lazy<AttentionContext> context in new[] { s_cpu, s_cuda })
        {
            if (context.IsValueCreated)
            {
                context.Value.Dispose();
            }
        }
        AttentionContext.SharedCpu.Dispose(); // the process's own, of calls that name none
        Assert.That(Live.Objects(), Is.Zero, Live.Text());
    }
}
