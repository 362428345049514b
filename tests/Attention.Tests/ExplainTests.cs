using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>The tile map that a plan tells: against the reference's own counting of who sees whom.</summary>
[TestFixtureSource(typeof(BackendFixture), nameof(All))]
internal sealed class ExplainTests(AttentionBackend backend, string device) : BackendFixture(backend, device)
{
    private static TileClass ClassOf(Problem p, int b, int h, int r, int c, int tileQueries, int tileKeys)
    {
        bool any = false, all = true;
        // Queries past the length have no row in any tile: a tile is whole where the others see all of it.
        for (int i = r * tileQueries; i < Math.Min(Math.Min(p.Sq, p.M(b)), (r + 1) * tileQueries); i++)
        {
            for (int j = c * tileKeys; j < Math.Min(p.Sk, (c + 1) * tileKeys); j++)
            {
                bool sees = p.Sees(b, h, i, j);
                any |= sees;
                all &= sees;
            }
        }
        return !any ? TileClass.Empty : all ? TileClass.Full : TileClass.Partial;
    }

    [Test]
    public void Maps_and_counts_are_the_references([Range(0, 59)] int seed)
    {
        Problem p = RandomProblems.Draw(seed) with { Bias = null, Slopes = null };
        p = p with { Type = Usual, D = Row(p.D), Dv = Row(p.Dv) };
        Mask mask = Library.MaskOf(p);
        using PreparedMask prepared = Context.Prepare(mask);
        using AttentionPlan plan = Context.Plan(Library.Describe(p), BackendPolicy.Only(Backend));
        TileCounts counts = plan.Explain(mask);
        Assert.That(plan.Explain(prepared), Is.EqualTo(counts), $"prepared: {p}");
        Assert.That((counts.TileQueries, counts.TileKeys), Is.EqualTo((plan.TileQueries, plan.TileKeys)));
        long full = 0, partial = 0, empty = 0;
        for (int b = 0; b < p.B; b++)
        {
            for (int h = 0; h < p.Hq; h++)
            {
                TileMap map = plan.TileMap(b, h, mask);
                Assert.That((map.Rows, map.Columns), Is.EqualTo(((int)((p.Sq + plan.TileQueries - 1) / plan.TileQueries), (int)((p.Sk + plan.TileKeys - 1) / plan.TileKeys))));
                for (int r = 0; r < map.Rows; r++)
                {
                    for (int c = 0; c < map.Columns; c++)
                    {
                        TileClass right = ClassOf(p, b, h, r, c, (int)plan.TileQueries, (int)plan.TileKeys), said = map[r, c];
                        // A full tile may be tested for nothing, but what is empty is known, and what is full is whole.
                        Assert.That(said == right || (right == TileClass.Full && said == TileClass.Partial), Is.True, $"seed {seed}: tile {r}, {c} of {b}, {h} is {right}, said {said}: {p}");
                        full += said == TileClass.Full ? 1 : 0;
                        partial += said == TileClass.Partial ? 1 : 0;
                        empty += said == TileClass.Empty ? 1 : 0;
                    }
                }
            }
        }
        Assert.That((counts.Full, counts.Partial, counts.Empty), Is.EqualTo((full, partial, empty)), $"seed {seed}: {p}");
        Assert.That(counts.ToString(), Is.EqualTo($"{full} full, {partial} partial, {empty} empty tiles"));
    }

    [Test]
    public void What_structure_makes_whole_is_full_never_tested()
    {
        Problem p = new() { Type = Usual, B = 1, Hq = 1, Hkv = 1, Sq = 512, Sk = 512, D = 16, Dv = 16, Causal = true };
        using AttentionPlan plan = Context.Plan(Library.Describe(p), BackendPolicy.Only(Backend));
        TileMap map = plan.TileMap(0, 0, Mask.Causal);
        for (int r = 0; r < map.Rows; r++)
        {
            for (int c = 0; c < map.Columns; c++)
            {
                Assert.That(map[r, c], Is.EqualTo(ClassOf(p, 0, 0, r, c, (int)plan.TileQueries, (int)plan.TileKeys)), $"tile {r}, {c}");
            }
        }
    }

    [Test]
    public void An_all_true_mask_is_a_map_of_full_tiles()
    {
        Problem p = new() { Type = Usual, B = 2, Hq = 2, Hkv = 1, Sq = 200, Sk = 300, D = 16, Dv = 16 };
        bool[] keep = new bool[200 * 300];
        keep.AsSpan().Fill(true);
        Mask mask = Mask.Keep(keep, [200, 300]);
        using AttentionPlan plan = Context.Plan(Library.Describe(p) with { Mask = mask.Kinds }, BackendPolicy.Only(Backend));
        TileCounts counts = plan.Explain(mask);
        Assert.That((counts.Partial, counts.Empty), Is.EqualTo((0L, 0L)));
        Assert.That(counts.Full, Is.GreaterThan(0));
        using PreparedMask prepared = Context.Prepare(mask);
        Assert.That((prepared.FullCells, prepared.PartialCells, prepared.EmptyCells), Is.EqualTo((20L, 0L, 0L)));
        Assert.That(prepared.Bytes, Is.GreaterThan(0));
    }

    [Test]
    public void There_are_no_other_batches_and_heads()
    {
        using AttentionPlan plan = Context.Plan(Library.Describe(new() { Type = Usual, B = 2, Hq = 4, Hkv = 2, Sq = 10, Sk = 10, D = 8, Dv = 8 }), BackendPolicy.Only(Backend));
        Assert.That(() => plan.TileMap(2, 0), Throws.ArgumentException.With.Message.Contains("batch").And.Message.Contains("2"));
        Assert.That(() => plan.TileMap(0, 4), Throws.ArgumentException.With.Message.Contains("head").And.Message.Contains("4"));
        Assert.That(() => plan.TileMap(-1, 0), Throws.ArgumentException);
        Assert.That(() => plan.Explain(Mask.Causal), Throws.ArgumentException);
        TileMap map = plan.TileMap(0, 0);
        Assert.That(() => map[map.Rows, 0], Throws.InstanceOf<ArgumentOutOfRangeException>());
    }
}
