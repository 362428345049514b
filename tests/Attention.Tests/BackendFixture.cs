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

    [OneTimeSetUp]
    public void NeedsItsDevice()
    {
        if (device == "cuda" && !Contexts.HasCuda)
        {
            Assert.Ignore(NoCuda);
        }
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
