namespace Attention;

/// <summary>What a call did: which backend and kernel ran, why no other did, and what the kernel counted.</summary>
/// <param name="Plan">The plan that ran: its backend, kernel and refusals. A plan made for the call alone is disposed already; what it says of itself
/// stays.</param>
/// <param name="TilesVisited">Tiles the kernel visited, counted as it went, over batch x query heads x blocks.</param>
/// <param name="MaskPasses">1 where this call classed and packed a dense mask; 0 where there was none or it was prepared.</param>
public readonly record struct RunReport(AttentionPlan Plan, long TilesVisited, long MaskPasses)
{
    /// <summary>What ran.</summary>
    public AttentionBackend Backend => Plan.Backend;

    /// <summary>What ran, in full, e.g. cpu.flash.avx512.</summary>
    public string Kernel => Plan.Kernel;
}

/// <summary>The class of a tile of scores.</summary>
public enum TileClass : byte
{
    /// <summary>Nothing is seen: never visited.</summary>
    Empty = 0,

    /// <summary>A part is seen: each score is tested.</summary>
    Partial = 1,

    /// <summary>All is seen: nothing is tested.</summary>
    Full = 2,
}

/// <summary>How many tiles of each class a mask makes, over batch x query heads x blocks.</summary>
/// <param name="TileQueries">Queries of one tile.</param>
/// <param name="TileKeys">Keys of one tile.</param>
/// <param name="Full">Tiles that need no test.</param>
/// <param name="Partial">Tiles whose scores are tested.</param>
/// <param name="Empty">Tiles that are never visited.</param>
public readonly record struct TileCounts(long TileQueries, long TileKeys, long Full, long Partial, long Empty)
{
    /// <summary>Tiles that are visited: full and partial.</summary>
    public long Visited => Full + Partial;

    /// <summary>1840 full, 96 partial, 2064 empty tiles</summary>
    public override string ToString() => FormattableString.Invariant($"{Full} full, {Partial} partial, {Empty} empty tiles");
}

/// <summary>The classes of the tiles of one batch and query head: a row per block of queries, a column per block of keys.</summary>
public sealed class TileMap
{
    private readonly TileClass[] _classes;

    internal TileMap(TileClass[] classes, int rows, int columns, long tileQueries, long tileKeys)
    {
        _classes = classes;
        Rows = rows;
        Columns = columns;
        TileQueries = tileQueries;
        TileKeys = tileKeys;
    }

    /// <summary>How many blocks of queries.</summary>
    public int Rows { get; }

    /// <summary>How many blocks of keys.</summary>
    public int Columns { get; }

    /// <summary>Queries of one tile.</summary>
    public long TileQueries { get; }

    /// <summary>Keys of one tile.</summary>
    public long TileKeys { get; }

    /// <summary>Row-major, <see cref="Rows"/> x <see cref="Columns"/>.</summary>
    public ReadOnlySpan<TileClass> Classes => _classes;

    /// <summary>The class of one tile.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such row or column.</exception>
    public TileClass this[int row, int column]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)row, (uint)Rows, nameof(row));
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)column, (uint)Columns, nameof(column));
            return _classes[row * Columns + column];
        }
    }
}
