using Microsoft.Extensions.Diagnostics.Metrics.Testing;

namespace Attention.Tests;

/// <summary>The meter <c>Attention</c>: calls, their duration, refusals.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class MeterTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private static AttentionProblem Problem => AttentionProblem.For(AttentionDType.Float16, [1, 1, 8, 16], [1, 1, 8, 16], [1, 1, 8, 16]) with { Mask = MaskKind.KeyLengths };

    [Test]
    public async Task Calls_are_counted_and_timed_with_their_tags()
    {
        using MetricCollector<long> calls = new(null, "Attention", "attention.calls");
        using MetricCollector<double> durations = new(null, "Attention", "attention.duration");
        using AttentionPlan plan = Context.Plan(Problem, BackendPolicy.Only(Backend));
        Half[] data = new Half[8 * 16], output = new Half[8 * 16];
        plan.Run<Half>(data, data, data, output, Mask.KeyLengths(5));
        Assert.That(() => plan.Run<Half>(data, data, data, output, Mask.KeyLengths(9)), Throws.ArgumentException);
        using AttentionTensor q = Context.Upload<Half>(data, [1, 1, 8, 16]), o = Context.Allocate<Half>([1, 1, 8, 16]);
        await plan.RunAsync(q, q, q, o, Mask.KeyLengths(5));
        var measured = calls.GetMeasurementSnapshot().Where(call => (string?)call.Tags["kernel"] == plan.Kernel).ToArray();
        Assert.That(measured.Select(call => call.Value), Is.EqualTo(new long[] { 1, 1, 1 }));
        Assert.That(measured.Select(call => call.Tags["outcome"]), Is.EqualTo(new[] { "ok", "invalid", "ok" }));
        foreach (var call in measured)
        {
            Assert.That(call.Tags["backend"], Is.EqualTo(Backend.Name()));
            Assert.That(call.Tags["device"], Is.EqualTo(Context.Device.ToString()));
            Assert.That(call.Tags["dtype"], Is.EqualTo("float16"));
        }
        Assert.That(durations.GetMeasurementSnapshot().Select(duration => duration.Value), Has.Exactly(3).Items.And.All.GreaterThan(0));
        Assert.That(calls.Instrument!.Unit, Is.EqualTo("{call}"));
        Assert.That(durations.Instrument!.Unit, Is.EqualTo("s"));
    }

    [Test]
    public void Refusals_are_counted()
    {
        using MetricCollector<long> refusals = new(null, "Attention", "attention.refusals");
        using AttentionPlan plan = Context.Plan(Problem with { Probabilities = true });
        Assert.That(refusals.GetMeasurementSnapshot().Select(refusal => refusal.Tags["backend"]), Is.EqualTo(new[] { "flash", "memory-efficient" }));
        Assert.That(refusals.Instrument!.Unit, Is.EqualTo("{refusal}"));
    }
}
