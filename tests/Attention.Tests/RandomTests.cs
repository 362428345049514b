using System.Collections.Concurrent;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>Random problems on every backend, judged by the reference and by ONNX Runtime.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class RandomTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private const int Problems = 300, OnnxAttention = 240, OnnxMultiHead = 100;

    private static readonly ConcurrentDictionary<int, (Problem Problem, Judge Judge)> s_drawn = new(); // the backends share the reference's work
    private static readonly ConcurrentDictionary<int, (Problem Problem, Judge Judge, double[] Onnx)> s_answered = new();

    [Test]
    public void Judged_by_the_reference()
    {
        int refused = 0;
        for (int seed = 0; seed < Problems; seed++)
        {
            (Problem p, Judge judge) = s_drawn.GetOrAdd(seed, static seed =>
            {
                Problem drawn = RandomProblems.Draw(seed);
                return (drawn, new(drawn));
            });
            Random random = new(seed);
            Manner manner = new((Layout)random.Next(4), Probabilities: random.Next(6) == 0, Prepared: random.Next(2) == 0, Deterministic: random.Next(3) == 0);
            if (IsRefused(p, manner))
            {
                refused++;
                continue;
            }
            Assert.That(judge.Fault(Library.Run(Context, p, Backend, manner).Result), Is.Null, $"seed {seed}: {p}, {manner}");
        }
        TestContext.Out.WriteLine($"{Backend.Name()} refused {refused} of {Problems} random problems");
    }

    [Test]
    public void Judged_by_ONNX_Runtime([Values] bool multiHead)
    {
        int problems = multiHead ? OnnxMultiHead : OnnxAttention, judged = 0;
        for (int seed = 0; seed < problems; seed++)
        {
            (Problem p, Judge judge, double[] onnx) = s_answered.GetOrAdd((multiHead ? 1 << 20 : 0) + seed, _ =>
            {
                Problem drawn = multiHead ? OnnxRuntime.DrawForMultiHead(seed) : OnnxRuntime.DrawForAttention(seed);
                return (drawn, new(drawn), multiHead ? OnnxRuntime.MultiHead(drawn) : OnnxRuntime.Attention(drawn));
            });
            if (IsRefused(p))
            {
                continue;
            }
            double[] ours = Library.Run(Context, p, Backend).Result.O;
            Assert.That(judge.Disagreement(ours, onnx), Is.Null, $"seed {seed}: {p}");
            judged++;
        }
        TestContext.Out.WriteLine($"{Backend.Name()}: ONNX Runtime agrees on {judged} problems");
    }
}
