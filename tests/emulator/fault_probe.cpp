// fault_probe.cpp — two rows on a few telling cases, lazy and eager: exit 0 if all is well, 1 with the first fault found. faults.sh compiles it against kernels
// with a fault planted; against the kernels as they are it must find nothing.
#include <cstdio>

#include "device.hpp"
#include "flash_sm80.cuh"
#include "flash_sm90.cuh"

namespace {

using S80 = Shape<64, 128, 64, 4, Keep::shared>;
using S90 = Shape90<64, 128, 128, 2>;

template <class Mask, int kBlockM, int kBlockN>
Mask mask_of(Device& d) {
    if constexpr (Mask::kPacked) return d.packed(kBlockM, kBlockN, 1, 1 << 30);
    else return RuleMask{d.mask()};
}
template <class Mask>
void flash80(Device& d) {
    const Mask mask = mask_of<Mask, 128, 64>(d);
    emu::stats = {};
    const Problem<bf16> problem = d.problem<bf16>();
    emu::launch(flash_sm80<S80, bf16, Mask, Scaled>, d.dim(kernels::flash_grid(problem, d.p.B, S80::kBlockM)), {S80::kThreads}, S80::kSmem, problem, mask);
}
template <class Mask>
void flash90(Device& d) {
    const auto map = [&](char which, const cases::Tensor& t) {
        return ptx::TensorMap{d.raw(which), t.shape[3], t.shape[2], t.shape[1], t.shape[0], t.strides[2], t.strides[1], t.strides[0], 128};
    };
    const TensorMaps maps{map('q', d.sample.Q), map('k', d.sample.K), map('v', d.sample.V)};
    const Mask mask = mask_of<Mask, 128, 128>(d);
    emu::stats = {};
    const Problem<bf16> problem = d.problem<bf16>();
    emu::launch(flash_sm90<S90, bf16, Mask>, d.dim(kernels::flash_grid(problem, d.p.B, S90::kBlockM)), {S90::kThreads}, sizeof(Smem90<S90, Mask>), maps,
                problem, mask);
}
bool fine(const char* name, const cases::Case& c, void (*run)(Device&), int block_n) {
    for (const bool eager : {false, true}) {
        emu::options = {eager, eager ? 7u : 0u};
        cases::Sample sample(c);
        const reference::Judge judge(sample.problem);
        Device device(sample);
        emu::reset();
        run(device);
        const reference::Verdict verdict = device.verdict(judge);
        std::string wrong = emu::report.violations ? emu::report.first : verdict.wrong;
        if (wrong.empty() && emu::stats.bank_conflicts) wrong = "bank conflicts";
        if (wrong.empty() && device.visited() != device.blocks_seen(128, block_n)) wrong = "other key blocks visited than seen";
        if (!wrong.empty()) return std::printf("%s, %s%s: %s\n", name, c.name.c_str(), eager ? ", eager" : "", wrong.c_str()), false;
    }
    return true;
}

} // namespace

int main() {
    cases::Case causal;
    causal.name = "causal with lengths", causal.type = reference::Type::bf16, causal.B = 2, causal.Hq = 2, causal.Hkv = 1, causal.Sq = 200, causal.Sk = 450,
    causal.causal = true;
    causal.offset_kind = reference::Offset::bottom_right, causal.key_lengths = {450, 333}, causal.D = 56, causal.Dv = 40;
    const cases::Case dense = causal.but("dense keep", [](cases::Case& c) { c.causal = false, c.keep = cases::Keep::blocks, c.keep_dims = cases::kFull; });
    const cases::Case half = dense.but("half", [](cases::Case& c) { c.keep = cases::Keep::half, c.D = c.Dv = 64; });
    for (const cases::Case* c : std::initializer_list<const cases::Case*>{&causal, &dense, &half}) {
        if (c == &causal && (!fine("sm80 rule", *c, flash80<RuleMask>, 64) || !fine("sm90 rule", *c, flash90<RuleMask>, 128))) return 1;
        if (!fine("sm80 packed", *c, flash80<PackedMask>, 64) || !fine("sm90 packed", *c, flash90<PackedMask>, 128)) return 1;
    }
    std::puts("nothing found");
    return 0;
}
