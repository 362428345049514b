using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Attention.Interop;

namespace Attention.Peers;

/// <summary>What .NET adds to a call.</summary>
/// <param name="Workers">Of the context.</param>
/// <param name="Through">Tensors or spans.</param>
/// <param name="NativeNanoseconds">A call of attn_run through a function pointer, with its arguments made beforehand.</param>
/// <param name="ManagedNanoseconds">A call of <see cref="AttentionPlan"/>'s Run on the same plan.</param>
/// <param name="OverheadNanoseconds">The difference, round by round.</param>
/// <param name="Goal">The largest median that will do.</param>
/// <param name="BytesAllocated">By all timed calls together, on the calling thread.</param>
/// <param name="Calls">Of each kind in a round.</param>
/// <param name="Rounds">Each round's difference in nanoseconds.</param>
/// <param name="Fault">Where a result is beyond the error rule, or the two are not the same bits; null: nowhere.</param>
internal sealed record OverheadResult(
    int Workers, string Through, Spread NativeNanoseconds, Spread ManagedNanoseconds, Spread OverheadNanoseconds, double Goal, long BytesAllocated, int Calls,
    IReadOnlyList<double> Rounds, string? Fault);

/// <summary>A tiny problem, [1, 1, 16, 16, 64], by a plan that is reused: through the library, and straight through the C ABI.</summary>
internal sealed unsafe class CallOverhead : IDisposable
{
    private const double Goal = 3000;

    private static readonly Group s_group = new(1, 1, 16, 64, new Row(Rows.Overhead, "", Goal));

    private readonly AttentionContext _context;
    private readonly AttentionPlan _plan;
    private readonly Operands _operands = new(s_group, seed: 1);
    private readonly HugeMemory _q, _k, _v, _o = new(s_group.Count), _nativeO = new(s_group.Count);
    private readonly AttentionTensor[] _tensors;
    private readonly NativeArray* _arrays;
    private readonly NativeRunArgs* _args;
    private readonly nint _handle;
    private readonly delegate* unmanaged[Cdecl]<nint, NativeRunArgs*, NativeStatus> _run;

    public CallOverhead(int workers)
    {
        _context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = workers });
        long[] shape = s_group.Shape;
        _plan = _context.Plan(AttentionProblem.For(AttentionDType.Float32, shape, shape, shape));
        (_q, _k, _v) = _operands.Bhsd;
        HugeMemory[] managed = [_q, _k, _v, _o], native = [_q, _k, _v, _nativeO];
        _tensors = [.. managed.Select(memory => AttentionTensor.FromDevicePointer(memory.Address, AttentionDType.Float32, shape))];

        _arrays = (NativeArray*)NativeMemory.AllocZeroed(4, (nuint)sizeof(NativeArray));
        for (int at = 0; at < native.Length; at++)
        {
            _arrays[at] = AttentionPlan.Host((void*)native[at].Address, AttentionDType.Float32, shape);
        }
        _args = (NativeRunArgs*)NativeMemory.AllocZeroed(1, (nuint)sizeof(NativeRunArgs));
        *_args = new() { size = (uint)sizeof(NativeRunArgs), q = _arrays, k = _arrays + 1, v = _arrays + 2, o = _arrays + 3 };
        _handle = Handle(_plan).Value;
        _run = (delegate* unmanaged[Cdecl]<nint, NativeRunArgs*, NativeStatus>)NativeLibrary.GetExport(
            NativeLibrary.Load(AttentionRuntime.Describe().LibraryPath), nameof(NativeMethods.attn_run));
    }

    public IEnumerable<OverheadResult> Measure(int rounds, int calls, CancellationToken stop)
    {
        (string Through, Action<int> Run)[] ways = [("spans", Spans), ("tensors", Tensors)];
        Stopwatch warm = Stopwatch.StartNew();
        while (warm.ElapsedMilliseconds < 1500 && !stop.IsCancellationRequested) // until all is compiled for good
        {
            Native(calls / 10);
            Spans(calls / 10);
            Tensors(calls / 10);
        }
        List<double> native = [];
        List<double>[] managed = [[], []];
        long[] bytes = new long[ways.Length];
        for (int round = 0; round < rounds && !stop.IsCancellationRequested; round++)
        {
            bool nativeFirst = round % 2 == 0;
            double first = nativeFirst ? Nanoseconds(Native, calls) : 0;
            for (int way = 0; way < ways.Length; way++)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                double nanoseconds = Nanoseconds(ways[way].Run, calls);
                bytes[way] += GC.GetAllocatedBytesForCurrentThread() - before;
                managed[way].Add(nanoseconds);
            }
            native.Add(nativeFirst ? first : Nanoseconds(Native, calls));
        }
        bool same = MemoryMarshal.AsBytes(_o.Span).SequenceEqual(MemoryMarshal.AsBytes(_nativeO.Span));
        string? fault = new Check(s_group, s_group.Rows[0], _operands, seed: 7).Of(_o, (_, _, i) => i * s_group.Dim).Fault
            ?? (same ? null : "the two results are not the same bits");
        return native.Count == 0 ? [] : ways.Select((way, at) =>
        {
            double[] differences = [.. managed[at].Zip(native, (one, other) => one - other)];
            return new OverheadResult(
                _context.Workers, way.Through, Spread.Of(native), Spread.Of(managed[at]), Spread.Of(differences), Goal, bytes[at], calls, differences, fault);
        });
    }

    public void Dispose()
    {
        foreach (AttentionTensor tensor in _tensors)
        {
            tensor.Dispose();
        }
        _plan.Dispose();
        _context.Dispose();
        _operands.Dispose();
        _o.Dispose();
        _nativeO.Dispose();
        NativeMemory.Free(_args);
        NativeMemory.Free(_arrays);
    }

    private void Native(int calls)
    {
        for (int call = 0; call < calls; call++)
        {
            NativeStatus status = _run(_handle, _args);
            if (status != NativeStatus.Ok)
            {
                throw new InvalidOperationException($"attn_run: {status}");
            }
        }
    }

    private void Spans(int calls)
    {
        for (int call = 0; call < calls; call++)
        {
            _plan.Run<float>(_q.Span, _k.Span, _v.Span, _o.Span);
        }
    }

    private void Tensors(int calls)
    {
        for (int call = 0; call < calls; call++)
        {
            _plan.Run(_tensors[0], _tensors[1], _tensors[2], _tensors[3]);
        }
    }

    private static double Nanoseconds(Action<int> run, int calls)
    {
        long began = Stopwatch.GetTimestamp();
        run(calls);
        return Stopwatch.GetElapsedTime(began).TotalNanoseconds / calls;
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_handle")]
    private static extern ref PlanHandle Handle(AttentionPlan plan);
}
