using System.Diagnostics;
using Attention.Tool.Files;
using Attention.Tool.Options;

namespace Attention.Tool;

/// <summary><c>attn run</c>: reads, computes, writes. The outputs appear together, after everything went well.</summary>
internal static class RunCommand
{
    public static int Execute(RunOptions options, CancellationToken stop)
    {
        int repeat = OptionValues.Count("--repeat", options.Repeat, least: 1, most: 1_000_000, otherwise: 1);
        int warmup = OptionValues.Count("--warmup", options.Warmup, least: 0, most: 1_000_000, otherwise: 0);
        bool probabilities = options.Probabilities is not null;
        BackendPolicy policy = OptionValues.Policy(options.Backend, probabilities);
        Question question = Question.Of(options);
        ProblemSizes s = question.Sizes;
        using Outputs outputs = Outputs.Claim(options);
        using AttentionContext context = OptionValues.Context(options.Device, options.Threads);

        Mask mask = question.Mask(context);
        AttentionBias? bias = question.Bias(context);
        AttentionProblem problem = question.Problem(mask, bias, probabilities);
        using AttentionPlan plan = context.Plan(problem, policy);
        using AttentionTensor q = question.Upload(context, question.Query!);
        using AttentionTensor k = question.Upload(context, question.Key!), v = question.Upload(context, question.Value!);
        using AttentionTensor written = context.Allocate(question.DType, question.InLayout(s.Batch, s.QueryHeads, s.Queries, s.ValueDim));
        using AttentionTensor o = question.Layout == TensorLayout.Bhsd ? written : written.Transpose(1, 2);
        using AttentionTensor? lse = options.Lse is null ? null : context.Allocate<float>([s.Batch, s.QueryHeads, s.Queries]);
        using AttentionTensor? p = probabilities ? context.Allocate<float>([s.Batch, s.QueryHeads, s.Queries, s.Keys]) : null;

        plan.Warmup(); // what is timed compiles nothing
        Milliseconds? prepared = null;
        Report report = Report.Of(context, plan, mask, problem.Offset);
        if (question.HasKeep)
        {
            using PreparedMask ready = context.Prepare(mask);
            (prepared, _) = Time(ready);
        }
        (Milliseconds times, long visited) = Time(mask);
        report = report with { Milliseconds = times, PreparedMilliseconds = prepared, Tiles = report.Tiles with { Visited = visited } };

        outputs.Write(written, lse, p);
        report.Print(s, options.Json);
        return ExitCode.Success;

        (Milliseconds, long) Time(Mask given)
        {
            List<double> times = [];
            long visited = 0;
            for (int i = -warmup; i < repeat; i++)
            {
                stop.ThrowIfCancellationRequested();
                long start = Stopwatch.GetTimestamp();
                visited = plan.Run(q, k, v, o, given, lse, bias, probabilities: p, cancellationToken: stop).TilesVisited;
                if (i >= 0)
                {
                    times.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
                }
            }
            return (Milliseconds.Of(times), visited);
        }
    }

    /// <summary>The files of a run, claimed before anything is computed.</summary>
    private sealed class Outputs : IDisposable
    {
        private readonly OutputFile _o;
        private readonly OutputFile? _lse, _probabilities;

        private Outputs(OutputFile o, OutputFile? lse, OutputFile? probabilities) => (_o, _lse, _probabilities) = (o, lse, probabilities);

        public static Outputs Claim(RunOptions options)
        {
            string o = options.Output ?? throw new InputException("-o is needed: the file that the result is written to");
            HashSet<string> paths = [];
            foreach ((string option, string? path) in new[] { ("-o", o), ("--lse", options.Lse), ("--probabilities", options.Probabilities) })
            {
                if (path is not null && !paths.Add(Path.GetFullPath(path)))
                {
                    throw InputException.Of(option, path, "is the file of another output; each needs its own");
                }
            }
            List<OutputFile> claimed = [];
            try
            {
                claimed.Add(OutputFile.Create("-o", o));
                OutputFile? lse = Claimed("--lse", options.Lse);
                return new Outputs(claimed[0], lse, Claimed("--probabilities", options.Probabilities));
            }
            catch
            {
                claimed.ForEach(file => file.Dispose());
                throw;
            }

            OutputFile? Claimed(string option, string? path)
            {
                if (path is null)
                {
                    return null;
                }
                claimed.Add(OutputFile.Create(option, path));
                return claimed[^1];
            }
        }

        public void Write(AttentionTensor o, AttentionTensor? lse, AttentionTensor? probabilities)
        {
            switch (o.DType)
            {
                case AttentionDType.Float16:
                    Write(_o, ElementType.Float16, o, Elements<Half>(o));
                    break;
                case AttentionDType.BFloat16:
                    Write(_o, ElementType.Float32, o, Array.ConvertAll(Elements<BFloat16>(o), value => (float)value));
                    break;
                default:
                    Write(_o, ElementType.Float32, o, Elements<float>(o));
                    break;
            }
            WriteFloats(_lse, lse);
            WriteFloats(_probabilities, probabilities);
            _o.Commit();
            _lse?.Commit();
            _probabilities?.Commit();
        }

        public void Dispose()
        {
            _o.Dispose();
            _lse?.Dispose();
            _probabilities?.Dispose();
        }

        private static void WriteFloats(OutputFile? file, AttentionTensor? tensor)
        {
            if (file is not null && tensor is not null)
            {
                Write(file, ElementType.Float32, tensor, Elements<float>(tensor));
            }
        }

        private static void Write<T>(OutputFile file, ElementType type, AttentionTensor tensor, T[] elements)
            where T : unmanaged
        {
            long[] shape = tensor.Shape.ToArray();
            file.Write(stream => Npy.Write<T>(stream, type, shape, elements));
        }

        private static T[] Elements<T>(AttentionTensor tensor)
            where T : unmanaged
        {
            T[] elements = new T[tensor.Count];
            tensor.Download<T>(elements);
            return elements;
        }
    }
}
