using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace Attention.Peers;

/// <summary>ONNX Runtime at one row: a session whose inputs and output are bound once, over memory that lies where it is. A run copies nothing, and its scratch
/// comes from an arena that the first run filled.</summary>
internal sealed class Peer : IDisposable
{
    private readonly InferenceSession _session;
    private readonly OrtIoBinding _binding;
    private readonly RunOptions _options = new();
    private readonly List<OrtValue> _bound = [];
    private readonly Group _group;

    /// <exception cref="OnnxRuntimeException">It does not take this model.</exception>
    public Peer(PeerWay way, Group group, Operands operands, int threads)
    {
        Way = way;
        _group = group;
        Output = new(group.Count);
        using SessionOptions options = new()
        {
            IntraOpNumThreads = threads,
            InterOpNumThreads = 1,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        options.AddSessionConfigEntry("session.force_spinning_stop", "1"); // its threads may spin within a run, not on into the other's time
        long[] shape = way.Turned ? [group.Batch, group.Length, group.Heads * group.Dim] : group.Shape;
        OnnxValue Value(string name) => new(name, OnnxType.Float32, shape);
        _session = new(way.Model(Value("Q"), Value("K"), Value("V"), Value("O")), options);
        _binding = _session.CreateIoBinding();
        OrtValue Over(HugeMemory memory) =>
            Kept(OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, TensorElementType.Float, shape, memory.Address, memory.Bytes));
        (HugeMemory q, HugeMemory k, HugeMemory v) = way.Turned ? operands.Bshd : operands.Bhsd;
        _binding.BindInput("Q", Over(q));
        _binding.BindInput("K", Over(k));
        _binding.BindInput("V", Over(v));
        if (way.Mask is not null)
        {
            _binding.BindInput(way.Mask.Name, Kept(way.Value!()));
        }
        _binding.BindOutput("O", Over(Output));
    }

    public PeerWay Way { get; }

    public HugeMemory Output { get; }

    /// <summary>Where a row of O begins.</summary>
    public int RowAt(int b, int h, int i) =>
        _group.Dim * (Way.Turned ? (((b * _group.Length) + i) * _group.Heads) + h : (((b * _group.Heads) + h) * _group.Length) + i);

    /// <exception cref="OnnxRuntimeException">It cannot compute this.</exception>
    public void Run() => _session.RunWithBinding(_options, _binding);

    public void Dispose()
    {
        _binding.Dispose();
        _bound.ForEach(value => value.Dispose());
        _options.Dispose();
        _session.Dispose();
        Output.Dispose();
    }

    private OrtValue Kept(OrtValue value)
    {
        _bound.Add(value);
        return value;
    }
}
