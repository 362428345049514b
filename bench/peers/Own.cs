namespace Attention.Peers;

/// <summary>This library at one row: a plan, a mask, and spans of host memory.</summary>
internal sealed class Own : IDisposable
{
    private readonly Group _group;
    private readonly Inputs _inputs;
    private readonly Mask _mask;
    private readonly AttentionPlan _plan;

    public Own(AttentionContext context, Group group, Row row, Operands operands)
    {
        _group = group;
        _inputs = operands.Bhsd;
        _mask = (row.Lengths is null ? Mask.None : Mask.KeyLengths(row.Lengths.AsSpan())) & (row.Causal ? Mask.Causal : Mask.None);
        _plan = context.Plan(AttentionProblem.For(AttentionDType.Float32, group.Shape, group.Shape, group.Shape) with { Mask = _mask.Kinds });
        Output = new(group.Count);
    }

    public string Kernel => _plan.Kernel;

    public HugeMemory Output { get; }

    /// <summary>Where a row of O begins.</summary>
    public int RowAt(int b, int h, int i) => _group.Dim * ((((b * _group.Heads) + h) * _group.Length) + i);

    public void Run() => _plan.Run<float>(_inputs.Q.Span, _inputs.K.Span, _inputs.V.Span, Output.Span, _mask);

    public void Dispose()
    {
        _plan.Dispose();
        Output.Dispose();
    }
}
