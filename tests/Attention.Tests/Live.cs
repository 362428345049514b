namespace Attention.Tests;

/// <summary>What lives of the library's objects, in the whole process.</summary>
internal static class Live
{
    /// <summary>How many objects live, once the collector has finished what nobody holds.</summary>
    public static long Objects()
    {
        for (int round = 0; round < 3; round++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        AttentionCounters live = AttentionRuntime.Counters();
        return live.LiveContexts + live.LiveStreams + live.LiveTensors + live.LiveMasks + live.LivePlans;
    }

    public static string Text() => AttentionRuntime.Counters().ToString();
}
