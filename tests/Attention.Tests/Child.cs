using System.Diagnostics;
using System.Globalization;
using Attention.Tests.Reference;

namespace Attention.Tests;

/// <summary>What a process of its own does for a test. It prints what it found; exit code 0 where all is well.</summary>
internal static class Child
{
    public static int Run(string scenario, string[] arguments)
    {
        switch (scenario)
        {
            case "describe":
                return Describe();
            case "problems":
                return Problems(int.Parse(arguments[0]));
            case "one-thread":
                return OneThread(arguments[0]);
            case "idle":
                return Idle();
            case "exit":
                return Exit();
            case "soak":
                return new Soak(double.Parse(arguments[0], CultureInfo.InvariantCulture), int.Parse(arguments[1], CultureInfo.InvariantCulture)).Run();
            default:
                Console.Error.WriteLine($"no scenario {scenario}");
                return 1;
        }
    }

    /// <summary>Starts this executable again.</summary>
    public static Outcome Start(string scenario, Dictionary<string, string?>? environment = null, params string[] arguments)
    {
        string self = Path.Combine(AppContext.BaseDirectory, Path.GetFileNameWithoutExtension(typeof(Child).Assembly.Location) + (OperatingSystem.IsWindows() ? ".exe" : ""));
        return Processes.Run(self, ["child", scenario, .. arguments], environment);
    }

    // Twice: a failure to load is not remembered.
    private static int Describe()
    {
        for (int time = 0; time < 2; time++)
        {
            try
            {
                Console.WriteLine(AttentionRuntime.Describe());
            }
            catch (Exception error) when (error is AttentionLibraryException or ArgumentException)
            {
                Console.WriteLine($"{error.GetType().Name}: {error.Message}");
                foreach (string path in (error as AttentionLibraryException)?.Paths ?? [])
                {
                    Console.WriteLine($"tried {path}");
                }
            }
        }
        return 0;
    }

    private static int Problems(int count)
    {
        using AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = 2 });
        Console.WriteLine(context.InstructionSet);
        for (int seed = 1000; seed < 1000 + count; seed++)
        {
            Problem p = RandomProblems.Draw(seed);
            Judge judge = new(p);
            foreach (AttentionBackend backend in Enum.GetValues<AttentionBackend>())
            {
                (Result result, RunReport report) = Library.Run(context, p, backend, new(Prepared: seed % 2 == 0));
                if (judge.Fault(result) is { } fault)
                {
                    Console.WriteLine($"{report.Kernel}, seed {seed}: {fault}: {p}");
                    return 1;
                }
                Console.WriteLine(report.Kernel);
            }
        }
        return 0;
    }

    // With DOTNET_PROCESSOR_COUNT=1 the pool can be told to have one thread.
    private static int OneThread(string device)
    {
        if (!ThreadPool.SetMinThreads(1, 1) || !ThreadPool.SetMaxThreads(1, 1))
        {
            Console.WriteLine("the pool has more than one thread");
            return 1;
        }
        bool gpu = device == "cuda";
        using AttentionContext context = AttentionContext.Create(gpu ? AttentionDevice.Cuda() : AttentionDevice.Cpu, new() { Workers = 2 });
        long length = gpu && Suite.Emulated ? 40 : 200;
        long[] shape = [1, 4, length, 64];
        Half[] data = Array.ConvertAll(RandomProblems.Normal(new Random(1), Element.F16, (int)(4 * length * 64)), x => (Half)x);
        using AttentionTensor q = context.Upload<Half>(data, shape);
        using AttentionPlan plan = context.Plan(AttentionProblem.For(q, q, q));
        plan.Warmup();
        AttentionTensor[] outputs = [.. Enumerable.Range(0, 64).Select(_ => context.Allocate<Half>(shape))];
        AttentionStream[] streams = [.. Enumerable.Range(0, 4).Select(_ => context.CreateStream())];
        bool held = gpu && Others.Hold(true); // until the pool's thread has shown that it is free, no run ends
        Task all = Task.WhenAll(outputs.Select((output, at) => Task.Factory.StartNew(async () =>
        {
            await plan.RunAsync(q, q, q, output, stream: streams[at % 4]);
            await Task.Yield(); // the continuation needs the only thread
        }).Unwrap()));
        bool free = Task.Run(() => { }).Wait(TimeSpan.FromSeconds(30)) && !(held && all.IsCompleted);
        if (held)
        {
            Others.Hold(false);
        }
        if (!free)
        {
            Console.WriteLine("a run that had not begun held the pool's only thread");
            return 1;
        }
        if (!all.Wait(TimeSpan.FromSeconds(60)))
        {
            Console.WriteLine("a run held the pool's only thread");
            return 1;
        }
        Half[] right = new Half[data.Length], met = new Half[data.Length];
        plan.Run<Half>(data, data, data, right);
        foreach (AttentionTensor output in outputs)
        {
            output.Download<Half>(met);
            if (!met.AsSpan().SequenceEqual(right))
            {
                Console.WriteLine("a run is wrong");
                return 1;
            }
        }
        Console.WriteLine($"{outputs.Length} runs of {plan.Kernel}, {ThreadPool.ThreadCount} thread of the pool");
        return ThreadPool.ThreadCount <= 1 ? 0 : 1;
    }

    // Share of a core that a context uses once its work is done.
    private static int Idle()
    {
        const int Milliseconds = 2000;
        using AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = 4 });
        float[] data = new float[4 * 300 * 64], output = new float[data.Length];
        using AttentionPlan plan = context.Plan(AttentionProblem.For(AttentionDType.Float32, [1, 4, 300, 64], [1, 4, 300, 64], [1, 4, 300, 64]));
        for (int run = 0; run < 20; run++)
        {
            plan.Run<float>(data, data, data, output);
        }
        Thread.Sleep(500); // the runtime's own work ends
        TimeSpan before = Process.GetCurrentProcess().TotalProcessorTime;
        Thread.Sleep(Milliseconds);
        double share = (Process.GetCurrentProcess().TotalProcessorTime - before).TotalMilliseconds / Milliseconds;
        Console.WriteLine(FormattableString.Invariant($"{share:P2} of a core"));
        return share < 0.01 ? 0 : 1;
    }

    // Leaves with contexts that live, and runs under way.
    private static int Exit()
    {
        for (int number = 0; number < 4; number++)
        {
            AttentionContext context = AttentionContext.Create(AttentionDevice.Cpu, new() { Workers = 3 });
            AttentionTensor q = context.Upload<float>(new float[8 * 3000 * 64], [1, 8, 3000, 64]), output = context.Allocate<float>([1, 8, 3000, 64]);
            AttentionPlan plan = context.Plan(AttentionProblem.For(q, q, q));
            for (int run = 0; run < 20; run++)
            {
                _ = plan.RunAsync(q, q, q, output);
            }
        }
        Console.WriteLine("leaving");
        return 0;
    }
}
