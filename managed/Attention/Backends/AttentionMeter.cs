using System.Diagnostics;
using System.Diagnostics.Metrics;
using Attention.Interop;

namespace Attention;

/// <summary>The meter <c>Attention</c>. Without a listener nothing is measured and nothing allocated.</summary>
internal static class AttentionMeter
{
    private static readonly Meter s_meter = new("Attention", "0.1.0");
    private static readonly Counter<long> s_calls = s_meter.CreateCounter<long>("attention.calls", "{call}", "Calls of attention, whatever came of them.");

    private static readonly Histogram<double> s_duration = s_meter.CreateHistogram<double>(
        "attention.duration", "s", "From the call to finished output, waiting on a stream included.");

    private static readonly Counter<long> s_refusals = s_meter.CreateCounter<long>(
        "attention.refusals", "{refusal}", "Reasons why backends did not take problems.");

    internal static long Begin() => s_duration.Enabled ? Stopwatch.GetTimestamp() : 0;

    internal static void Call(AttentionPlan plan, NativeStatus status, long began)
    {
        if (!s_calls.Enabled && !s_duration.Enabled)
        {
            return;
        }
        TagList tags = new()
        {
            { "backend", plan.Backend.Name() },
            { "kernel", plan.Kernel },
            { "device", plan.DeviceName },
            { "dtype", DTypes.Name(plan.Problem.DType) },
            { "outcome", Outcome(status) },
        };
        s_calls.Add(1, tags);
        if (began != 0)
        {
            s_duration.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, tags);
        }
    }

    internal static void Refused(IReadOnlyList<Refusal> refusals, AttentionDType dtype, AttentionDevice device)
    {
        if (!s_refusals.Enabled)
        {
            return;
        }
        foreach (Refusal refusal in refusals)
        {
            s_refusals.Add(1, new TagList
            {
                { "backend", refusal.Backend.Name() },
                { "device", device.ToString() },
                { "dtype", DTypes.Name(dtype) },
                { "outcome", "refused" },
            });
        }
    }

    private static string Outcome(NativeStatus status) => status switch
    {
        NativeStatus.Ok => "ok",
        NativeStatus.Cancelled => "cancelled",
        NativeStatus.InvalidArgument or NativeStatus.InvalidHandle => "invalid",
        NativeStatus.OutOfMemory => "out of memory",
        _ => "failed",
    };
}
