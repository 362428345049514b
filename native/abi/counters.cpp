#include "../cuda/compile.hpp"
#include "handles.hpp"

using namespace attn::abi;

attn_status attn_counters_read(attn_counters* out) {
    return guarded([&] {
        check_reserved(checked(out, "counters").reserved, "counters");
        const Counters& c = counters();
        const auto live = [&](Kind kind) { return c.live[int(kind)].load(); };
        *out = {sizeof *out,
                0,
                live(Kind::context),
                live(Kind::stream),
                live(Kind::tensor),
                live(Kind::mask),
                live(Kind::plan),
                c.bytes.load(),
                c.runs.load(),
                c.mask_passes.load(),
                attn::cuda::compile_counts().compiled.load(),
                attn::cuda::compile_counts().from_disk.load(),
                attn::cuda::compile_counts().embedded.load()};
    });
}
