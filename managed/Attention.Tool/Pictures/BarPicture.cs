using ScottPlot;

namespace Attention.Tool.Pictures;

/// <summary>A bar: what was measured, against what it is measured.</summary>
/// <param name="Group">What the cases of one comparison share, e.g. the shape.</param>
/// <param name="Label">The case.</param>
/// <param name="Series">What gives the bar its colour: the backend.</param>
/// <param name="Ratio">Time / own unmasked time.</param>
/// <param name="Note">Written at the bar's end.</param>
internal sealed record Bar(string Group, string Label, string Series, double Ratio, string Note);

/// <summary>Draws ratios as horizontal bars, group by group, with a line at 1: as slow as without a mask.</summary>
internal static class BarPicture
{
    private const int RowHeight = 26, Width = 1200;

    private static readonly Dictionary<string, Color> s_colors = new()
    {
        ["flash"] = Color.FromHex("#1F4E79"),
        ["memory-efficient"] = Color.FromHex("#3A9188"),
        ["naive"] = Color.FromHex("#9A9A9A"),
    };

    public static void WritePng(Stream stream, IReadOnlyList<Bar> bars, string title)
    {
        ScottPlot.Fonts.Default = Fonts.Plain.FamilyName;
        using Plot plot = new();
        List<ScottPlot.Bar> drawn = [];
        List<Tick> ticks = [];
        double position = 0;
        string? group = null;
        foreach (Bar bar in bars)
        {
            if (bar.Group != group)
            {
                position -= group is null ? 0 : 0.6;
                group = bar.Group;
                ScottPlot.Plottables.Text heading = plot.Add.Text(group, 0, position);
                heading.LabelBold = true;
                heading.LabelFontSize = 14;
                heading.LabelAlignment = Alignment.MiddleLeft;
                heading.OffsetX = 4; // off the frame
                position--;
            }
            drawn.Add(new ScottPlot.Bar
            {
                Position = position,
                Value = bar.Ratio,
                FillColor = s_colors.GetValueOrDefault(bar.Series, Colors.Gray),
                LineWidth = 0,
                Size = 0.75,
                Orientation = Orientation.Horizontal,
                Label = bar.Note,
            });
            ticks.Add(new Tick(position, bar.Label));
            position--;
        }
        ScottPlot.Plottables.BarPlot plotted = plot.Add.Bars(drawn);
        plotted.Horizontal = true;
        plotted.ValueLabelStyle.FontSize = 12;
        ScottPlot.Plottables.VerticalLine one = plot.Add.VerticalLine(1);
        one.Color = Colors.Black.WithAlpha(0.6);
        one.LinePattern = LinePattern.Dashed;
        plot.Axes.Left.TickGenerator = new ScottPlot.TickGenerators.NumericManual([.. ticks]);
        plot.Axes.Left.MajorTickStyle.Length = 0;
        plot.Axes.Left.TickLabelStyle.FontSize = 13;
        plot.Axes.Bottom.Label.Text = "time / own unmasked time";
        plot.Axes.Bottom.TickGenerator = new ScottPlot.TickGenerators.NumericAutomatic { MinimumTickSpacing = 60 };
        plot.Title(title);
        plot.HideGrid();
        double longest = Math.Max(1.05, bars.Count == 0 ? 1 : bars.Max(bar => bar.Ratio));
        plot.Axes.SetLimits(0, longest * 1.25, position + 0.2, 0.8);
        foreach ((string name, Color color) in s_colors.Where(series => bars.Any(bar => bar.Series == series.Key)))
        {
            plot.Legend.ManualItems.Add(new LegendItem { LabelText = name, FillColor = color, LineWidth = 0 });
        }
        plot.ShowLegend(Edge.Bottom);
        stream.Write(plot.GetImage(Width, (int)(-position * RowHeight) + 170).GetImageBytes(ImageFormat.Png));
    }
}
