using Attention.Tool.Bench;

namespace Attention.Peers;

/// <summary>Q, K and V of a group, [B, H, S, D] or turned, [B, S, H, D].</summary>
internal sealed record Inputs(HugeMemory Q, HugeMemory K, HugeMemory V);

/// <summary>Random Q, K, V of a group in either order of dimensions: each side gets the one it takes as it is.</summary>
internal sealed class Operands : IDisposable
{
    public Operands(Group group, ulong seed)
    {
        RandomData random = new(seed);
        Inputs plain = new(new(random.Normal(group.Count)), new(random.Normal(group.Count)), new(random.Normal(group.Count)));
        HugeMemory Turned(HugeMemory memory) => memory.Turned(group.Batch, group.Heads, group.Length, group.Dim);
        (Bhsd, Bshd) = (plain, new(Turned(plain.Q), Turned(plain.K), Turned(plain.V)));
    }

    public Inputs Bhsd { get; }

    public Inputs Bshd { get; }

    public void Dispose()
    {
        foreach ((HugeMemory q, HugeMemory k, HugeMemory v) in new[] { Bhsd, Bshd })
        {
            q.Dispose();
            k.Dispose();
            v.Dispose();
        }
    }
}
