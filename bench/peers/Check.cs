using Attention.Tests.Reference;

namespace Attention.Peers;

/// <summary>Holds outputs against the definition in double precision, on rows drawn from everywhere in a group.</summary>
internal sealed class Check
{
    private const int Samples = 12, RowsOfEach = 4;

    private readonly (int Batch, int Head, int Begin)[] _places;
    private readonly Problem _problem;
    private readonly Judge _judge;

    /// <summary>The reference of the sampled rows: each place is a batch of its own, whose queries stand where they stood.</summary>
    public Check(Group group, Row row, Operands operands, int seed)
    {
        Random random = new(seed);
        int last = group.Length - RowsOfEach;
        _places = [.. Enumerable.Range(0, Samples).Select(s => (
            random.Next(group.Batch), random.Next(group.Heads), s switch { 0 => 0, 1 => last, _ => random.Next(last + 1) }))];
        double[] Rows(HugeMemory memory, Func<int, int> begin, int count) =>
        [
            .. _places.Select(place => (((place.Batch * group.Heads) + place.Head) * group.Length) + begin(place.Begin))
                .SelectMany(first => memory.Span.Slice(first * group.Dim, count * group.Dim).ToArray()).Select(value => (double)value),
        ];
        _problem = new()
        {
            B = Samples,
            Sq = RowsOfEach,
            Sk = group.Length,
            D = group.Dim,
            Dv = group.Dim,
            Q = Rows(operands.Bhsd.Q, begin => begin, RowsOfEach),
            K = Rows(operands.Bhsd.K, _ => 0, group.Length),
            V = Rows(operands.Bhsd.V, _ => 0, group.Length),
            KeyLengths = row.Lengths is null ? null : [.. _places.Select(place => row.Lengths[place.Batch])],
            Causal = row.Causal,
            OffsetKind = OffsetKind.PerBatch,
            Offsets = [.. _places.Select(place => place.Begin)],
        };
        _judge = new(_problem);
    }

    /// <summary>The first element beyond the error rule, in words, null where there is none; and the largest error.</summary>
    /// <param name="output">All of O.</param>
    /// <param name="rowAt">Where in it the row of a batch, head and query begins.</param>
    public (string? Fault, double Error) Of(HugeMemory output, Func<int, int, int, int> rowAt)
    {
        double[] o = [.. _places.SelectMany(place => Enumerable.Range(place.Begin, RowsOfEach)
            .SelectMany(i => output.Span.Slice(rowAt(place.Batch, place.Head, i), _problem.Dv).ToArray())).Select(value => (double)value)];
        double error = 0;
        for (int s = 0; s < Samples; s++)
        {
            double[] exact = _judge.Exact(s, 0).O;
            for (int at = 0; at < exact.Length; at++)
            {
                double off = Math.Abs(o[(s * exact.Length) + at] - exact[at]);
                error = off <= error ? error : off; // a NaN stays
            }
        }
        return (_judge.Fault(new(o)), error);
    }
}
