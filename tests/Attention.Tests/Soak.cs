using System.Diagnostics;
using System.Runtime.InteropServices;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>Eight threads that run random problems on one context, and what their process needs meanwhile: the scenario of <see cref="SoakTests"/>.</summary>
internal sealed class Soak
{
    private const int Threads = 8, Problems = 24, LeastRuns = 1500;
    private const double MostGrowth = 1.02; // from a third of the time on: all code has been compiled, every size has been allocated

    private readonly Stopwatch _clock = new();
    private readonly ReaderWriterLockSlim _working = new(); // held for reading during a run: whoever holds it for writing finds all threads at rest
    private readonly TimeSpan _length;
    private readonly int _leak;
    private long _runs;
    private volatile bool _done;
    private volatile string? _fault;

    /// <summary>A soak of so many seconds, in which each run forgets to free <paramref name="leak"/> bytes: what the check must find.</summary>
    public Soak(double seconds, int leak)
    {
        _length = TimeSpan.FromSeconds(seconds);
        _leak = leak;
    }

    /// <summary>Says what it found; 0 where all is well.</summary>
    public int Run()
    {
        long before = Live.Objects(), early, late, settled;
        using (AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = 2 }))
        {
            Served[] served = [.. Enumerable.Range(5000, Problems).Select(seed => new Served(context, RandomProblems.Draw(seed) with { Type = Element.F32 }))];
            _clock.Start();
            Thread[] threads = [.. Enumerable.Range(0, Threads).Select(number => new Thread(() => Work(served, number)))];
            Array.ForEach(threads, thread => thread.Start());
            Wait(_length / 6, LeastRuns / 2);
            ResidentBytes(); // the first look needs memory itself
            Wait(_length / 3, LeastRuns);
            early = ResidentBytes();
            settled = Interlocked.Read(ref _runs);
            Wait(_length, 3 * settled);
            late = ResidentBytes();
            _done = true;
            Array.ForEach(threads, thread => thread.Join());
            Array.ForEach(served, one => one.Dispose());
        }
        double growth = (double)late / early;
        Console.WriteLine(FormattableString.Invariant($"{_runs} runs in {_clock.Elapsed.TotalSeconds:F0} s on {Threads} threads"));
        Console.WriteLine(FormattableString.Invariant($"{early >> 10} KB resident after {settled} runs, {late >> 10} KB at the end: x {growth:F4}"));
        if (_fault is not null)
        {
            Console.WriteLine($"wrong: {_fault}");
        }
        if (growth > MostGrowth)
        {
            Console.WriteLine(FormattableString.Invariant($"memory grows: x {growth:F4}, at most {MostGrowth} is allowed"));
        }
        if (Live.Objects() != before)
        {
            Console.WriteLine($"left: {Live.Text()}");
        }
        return _fault is null && growth <= MostGrowth && Live.Objects() == before ? 0 : 1;
    }

    private void Work(Served[] served, int number)
    {
        Random random = new(number);
        while (!_done && _fault is null)
        {
            _working.EnterReadLock();
            Served one = served[random.Next(served.Length)];
            try
            {
                if (!one.IsRight(random.Next(3)))
                {
                    _fault = $"thread {number}: {one}";
                }
            }
            catch (Exception error)
            {
                _fault = $"thread {number}: {one}: {error}";
            }
            finally
            {
                _working.ExitReadLock();
            }
            Forget(_leak);
            Interlocked.Increment(ref _runs);
        }
    }

    // Both: on a busy machine a second may hold few runs.
    private void Wait(TimeSpan time, long runs)
    {
        while (_fault is null && (_clock.Elapsed < time || Interlocked.Read(ref _runs) < runs))
        {
            Thread.Sleep(10);
        }
    }

    // What the process holds while every thread is between two runs and the collector has given back what it can.
    private long ResidentBytes()
    {
        _working.EnterWriteLock();
        try
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            GC.WaitForPendingFinalizers();
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            using Process self = Process.GetCurrentProcess();
            return self.WorkingSet64;
        }
        finally
        {
            _working.ExitWriteLock();
        }
    }

    private static unsafe void Forget(int bytes)
    {
        if (bytes > 0)
        {
            NativeMemory.Clear(NativeMemory.Alloc((nuint)bytes), (nuint)bytes);
        }
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
