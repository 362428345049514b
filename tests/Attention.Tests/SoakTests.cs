using System.Diagnostics;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>A service's life: eight threads, random problems, masks prepared once and shared; results stay right, memory flat, nothing is left.</summary>
[TestFixture]
internal sealed class SoakTests
{
    private const int Threads = 8, Problems = 24;

    [Test]
    public void Eight_threads_for_a_while()
    {
        TimeSpan length = TimeSpan.FromSeconds(Suite.Full ? 60 : 5), settled = length / 3;
        long before = Live.Objects(), runs = 0;
        string? fault = null;
        long early = 0, late;
        using (AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = 2 }))
        {
            Served[] served = [.. Enumerable.Range(5000, Problems).Select(seed => new Served(context, RandomProblems.Draw(seed) with { Type = Element.F32 }))];
            Stopwatch clock = Stopwatch.StartNew();
            Thread[] threads = [.. Enumerable.Range(0, Threads).Select(number => new Thread(() =>
            {
                Random random = new(number);
                while (clock.Elapsed < length && fault is null)
                {
                    Served one = served[random.Next(Problems)];
                    try
                    {
                        if (!one.IsRight(random.Next(3)))
                        {
                            fault = $"thread {number}: {one}";
                        }
                    }
                    catch (Exception error)
                    {
                        fault = $"thread {number}: {one}: {error}";
                    }
                    Interlocked.Increment(ref runs);
                }
            }))];
            Array.ForEach(threads, thread => thread.Start());
            while (clock.Elapsed < settled)
            {
                Thread.Sleep(10);
            }
            early = ResidentBytes();
            while (clock.Elapsed < length - TimeSpan.FromMilliseconds(100))
            {
                Thread.Sleep(10);
            }
            late = ResidentBytes();
            Array.ForEach(threads, thread => thread.Join());
            Array.ForEach(served, one => one.Dispose());
        }
        TestContext.Out.WriteLine($"{runs} runs in {length.TotalSeconds} s on {Threads} threads; resident {early >> 20} MB after {settled.TotalSeconds:F1} s, {late >> 20} MB at the end");
        Assert.That(fault, Is.Null);
        Assert.That(runs, Is.GreaterThan(100));
        if (Suite.Full)
        {
            Assert.That(late, Is.LessThanOrEqualTo(early * 1.02), "in a few seconds memory has not settled: only the long run can tell");
        }
        Assert.That(Live.Objects(), Is.EqualTo(before), Live.Text());
    }

    private static long ResidentBytes()
    {
        GC.Collect();
        using Process self = Process.GetCurrentProcess();
        return self.WorkingSet64;
    }

    /// <summary>A problem with its plan, its mask prepared and its right answer, for all threads.</summary>
    private sealed class Served : IDisposable
    {
        private readonly Problem _problem;
        private readonly AttentionPlan _plan;
        private readonly PreparedMask _mask;
        private readonly AttentionBias? _bias;
        private readonly AttentionTensor _q, _k, _v;
        private readonly float[] _right;

        public Served(AttentionContext context, Problem p)
        {
            p = p with { Q = Rounded(p.Q), K = Rounded(p.K), V = Rounded(p.V), BiasOfType = false };
            _problem = p;
            _bias = Library.BiasOf(p);
            _plan = context.Plan(Library.Describe(p));
            _mask = context.Prepare(Library.MaskOf(p));
            AttentionTensor Upload(double[] data, int heads, int length, int dim) => context.Upload<float>(Array.ConvertAll(data, x => (float)x), [p.B, heads, length, dim]);
            (_q, _k, _v) = (Upload(p.Q, p.Hq, p.Sq, p.D), Upload(p.K, p.Hkv, p.Sk, p.D), Upload(p.V, p.Hkv, p.Sk, p.Dv));
            _right = new float[p.B * p.Hq * p.Sq * p.Dv];
            using AttentionTensor output = context.Allocate<float>([p.B, p.Hq, p.Sq, p.Dv]);
            _plan.Run(_q, _k, _v, output, _mask, bias: _bias);
            output.Download<float>(_right);
            Assert.That(new Judge(p).Fault(new(Array.ConvertAll(_right, x => (double)x))), Is.Null, p.ToString());
        }

        /// <summary>Runs once, in one of three ways; the bits are always the same.</summary>
        public bool IsRight(int way)
        {
            float[] met = new float[_right.Length];
            if (way == 0)
            {
                _plan.Run<float>(_q.AsSpan<float>(), _k.AsSpan<float>(), _v.AsSpan<float>(), met, _mask, bias: _bias);
                return met.AsSpan().SequenceEqual(_right);
            }
            using AttentionTensor output = _plan.Context.Allocate<float>([_problem.B, _problem.Hq, _problem.Sq, _problem.Dv]);
            if (way == 1)
            {
                _plan.Run(_q, _k, _v, output, Library.MaskOf(_problem), bias: _bias);
            }
            else
            {
                _plan.RunAsync(_q, _k, _v, output, _mask, bias: _bias).Wait();
            }
            output.Download<float>(met);
            return met.AsSpan().SequenceEqual(_right);
        }

        public void Dispose()
        {
            foreach (IDisposable part in new IDisposable[] { _plan, _mask, _q, _k, _v })
            {
                part.Dispose();
            }
        }

        public override string ToString() => $"{_plan}: {_problem}";

        private static double[] Rounded(double[] data) => Array.ConvertAll(data, x => (double)(float)x);
    }
}
