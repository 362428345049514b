using SkiaSharp;

namespace Attention.Tool.Pictures;

/// <summary>One map of tiles and whose it is.</summary>
/// <param name="Batch">The batch it is of.</param>
/// <param name="Head">The first query head it is of.</param>
/// <param name="Heads">How many query heads share it.</param>
/// <param name="Map">Its tiles.</param>
internal sealed record DrawnMap(long Batch, long Head, long Heads, TileMap Map);

/// <summary>Where a map lies in the picture, in pixels.</summary>
internal sealed record TileMapPanel(long Batch, long Head, long Heads, int X, int Y, int Rows, int Columns);

/// <summary>
/// Draws tile maps: queries downwards, keys to the right, a rectangle of one colour for each tile. Cells are exact: no gap, no smoothing, nothing drawn over
/// them, so that who reads the picture can count them.
/// </summary>
internal sealed class TileMapPicture
{
    public static readonly SKColor Full = new(0x1F, 0x4E, 0x79);
    public static readonly SKColor Partial = new(0xF0, 0x9C, 0x2E);
    public static readonly SKColor Empty = new(0xE6, 0xE9, 0xED);

    private const int SmallestCell = 4, LargestCell = 24;
    private const int Margin = 24, Gap = 16, LabelHeight = 20, HeadHeight = 76;
    private const int Longest = 4096; // pixels a side; cells shrink first, then maps are left out

    private readonly IReadOnlyList<DrawnMap> _maps;
    private readonly long _all;
    private readonly string _title;
    private readonly string _legendCounts;
    private readonly int _across, _shown, _panelWidth, _panelHeight;

    /// <param name="maps">The maps, all of one size.</param>
    /// <param name="all">How many there are, drawn or not.</param>
    /// <param name="tileQueries">Queries of a tile.</param>
    /// <param name="tileKeys">Keys of a tile.</param>
    /// <param name="title">What is drawn, one line.</param>
    /// <param name="counts">Full, partial, empty tiles over all batches and heads.</param>
    public TileMapPicture(IReadOnlyList<DrawnMap> maps, long all, long tileQueries, long tileKeys, string title, (long Full, long Partial, long Empty) counts)
    {
        _maps = maps;
        _all = all;
        _title = title;
        _legendCounts = $"{counts.Full:N0}|{counts.Partial:N0}|{counts.Empty:N0}";
        int rows = Math.Max(maps.Count == 0 ? 1 : maps[0].Map.Rows, 1), columns = Math.Max(maps.Count == 0 ? 1 : maps[0].Map.Columns, 1);

        // A cell has the shape of its tile, as far as a ratio of 1 : 4 goes; the whole is to fit, four pixels are to be left of a cell's shorter side.
        double aspect = Math.Clamp((double)tileKeys / Math.Max(tileQueries, 1), 0.25, 4);
        int unit = Math.Max(1, Math.Min(LargestCell, (int)(480 / Math.Max(columns * Math.Max(aspect, 1), rows * Math.Max(1 / aspect, 1)))));
        unit = Math.Max(unit, SmallestCell);
        while (unit > 1 && Math.Max(columns * Wide(unit), rows * High(unit)) > Longest - (2 * Margin))
        {
            unit--;
        }
        CellWidth = Wide(unit);
        CellHeight = High(unit);
        _panelWidth = Math.Max(columns * CellWidth, 120);
        _panelHeight = (rows * CellHeight) + LabelHeight;
        int most = Math.Max(1, (Longest - (2 * Margin) + Gap) / (_panelWidth + Gap));
        int down = Math.Max(1, (Longest - HeadHeight - Margin + Gap) / (_panelHeight + Gap));
        _shown = (int)Math.Min(maps.Count, (long)most * down);
        _across = (int)Math.Clamp(Math.Ceiling(Math.Sqrt(_shown * (double)_panelHeight / _panelWidth)), 1, most);
        _across = Math.Max(_across, (_shown + down - 1) / down);
        Panels = [.. maps.Take(_shown).Select((map, p) => new TileMapPanel(map.Batch, map.Head, map.Heads,
            Margin + (p % _across * (_panelWidth + Gap)), HeadHeight + LabelHeight + (p / _across * (_panelHeight + Gap)), map.Map.Rows, map.Map.Columns))];

        int Wide(int pixels) => (int)Math.Round(pixels * Math.Max(aspect, 1));
        int High(int pixels) => (int)Math.Round(pixels * Math.Max(1 / aspect, 1));
    }

    /// <summary>A cell's size in pixels.</summary>
    public int CellWidth { get; }

    /// <inheritdoc cref="CellWidth"/>
    public int CellHeight { get; }

    /// <summary>The maps that are drawn, and where.</summary>
    public IReadOnlyList<TileMapPanel> Panels { get; }

    public void WritePng(Stream stream)
    {
        int lines = Math.Max(1, (_shown + _across - 1) / _across);
        int width = Math.Max((2 * Margin) + (_across * (_panelWidth + Gap)) - Gap, 640);
        int height = HeadHeight + (lines * (_panelHeight + Gap)) + Margin;
        using SKBitmap bitmap = new(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque));
        using (SKCanvas canvas = new(bitmap))
        {
            canvas.Clear(SKColors.White);
            DrawHead(canvas);
            for (int p = 0; p < _shown; p++)
            {
                DrawMap(canvas, _maps[p], Panels[p]);
            }
        }
        using SKData png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        png.SaveTo(stream);
    }

    private void DrawHead(SKCanvas canvas)
    {
        using SKFont large = new(Fonts.Plain, 16), small = new(Fonts.Plain, 13);
        using SKPaint ink = new() { Color = new SKColor(0x22, 0x22, 0x22), IsAntialias = true };
        using SKPaint fill = new() { IsAntialias = false };
        using SKPaint frame = new() { Color = new SKColor(0x88, 0x88, 0x88), IsStroke = true };
        canvas.DrawText(_title, Margin, 28, large, ink);
        string[] counts = _legendCounts.Split('|');
        (string Name, SKColor Color, string Note)[] legend =
            [("full", Full, "no test"), ("partial", Partial, "tested"), ("empty", Empty, "never visited")];
        float x = Margin;
        for (int i = 0; i < legend.Length; i++)
        {
            fill.Color = legend[i].Color;
            canvas.DrawRect(x, 44, 14, 14, fill);
            canvas.DrawRect(x - 0.5f, 43.5f, 15, 15, frame);
            string text = $"{counts[i]} {legend[i].Name} ({legend[i].Note})";
            canvas.DrawText(text, x + 20, 56, small, ink);
            x += 44 + Math.Max(small.MeasureText(text), 24);
        }
        if (_shown < _all)
        {
            canvas.DrawText($"{_shown} of {_all} maps", x, 56, small, ink);
        }
    }

    private void DrawMap(SKCanvas canvas, DrawnMap map, TileMapPanel panel)
    {
        using SKFont small = new(Fonts.Plain, 12);
        using SKPaint ink = new() { Color = new SKColor(0x44, 0x44, 0x44), IsAntialias = true };
        using SKPaint fill = new() { IsAntialias = false };
        string heads = map.Heads == 1 ? $"head {map.Head}" : $"heads {map.Head}–{map.Head + map.Heads - 1}";
        canvas.DrawText($"batch {map.Batch}, {heads}", panel.X, panel.Y - 6, small, ink);
        for (int r = 0; r < map.Map.Rows; r++)
        {
            for (int c = 0; c < map.Map.Columns; c++)
            {
                fill.Color = map.Map[r, c] switch { TileClass.Empty => Empty, TileClass.Partial => Partial, _ => Full };
                canvas.DrawRect(panel.X + (c * CellWidth), panel.Y + (r * CellHeight), CellWidth, CellHeight, fill);
            }
        }
    }
}
