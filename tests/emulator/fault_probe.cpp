// fault_probe.cpp — a row of each kernel on a few telling cases, lazy and eager: exit 0 if all is well, 1 with the first fault found. faults.sh compiles it
// against kernels with a fault planted; against the kernels as they are it must find nothing.
#include <cstdio>

#include "launches.hpp"

#define FLASH_SM80 1
#define FLASH_SM90 2
#define PLAIN 4
#ifndef PROBED // which kernels: faults.sh leaves out those that a fault cannot touch
#define PROBED (FLASH_SM80 | FLASH_SM90 | PLAIN)
#endif

namespace {

using S80 = Shape<64, 128, 64, 4, Keep::shared>;
using S90 = Shape90<64, 128, 128, 2>;

bool found(const std::string& name, bool eager, const std::string& wrong) {
    if (!wrong.empty()) std::printf("%s%s: %s\n", name.c_str(), eager ? ", eager" : "", wrong.c_str());
    return !wrong.empty();
}
bool fine(const EmulatedRow& row, const cases::Case& c, int chunk_keys = 0) {
    for (const bool eager : {false, true}) {
        emu::options = {eager, eager ? 7u : 0u};
        cases::Sample sample(c);
        const reference::Judge judge(sample.problem);
        Device device(sample);
        if (found(row.name + (chunk_keys ? ", split, " : ", ") + c.name, eager, run_and_judge(row, device, judge, chunk_keys))) return false;
    }
    return true;
}

// Two attentions of the same queries merged in place give what they give elsewhere.
bool fine_in_place() {
    constexpr int64_t kRows = 9, kDv = 40;
    emu::Buffer<float> O(kRows * kDv), there(kRows * kDv, false), other(kRows * kDv), LSE(kRows), there_LSE(kRows, false), other_LSE(kRows);
    for (size_t i = 0; i < O.size(); ++i) O[i] = float(i % 7), other[i] = float(i % 5);
    for (size_t i = 0; i < kRows; ++i) LSE[i] = float(i), other_LSE[i] = float(kRows - i);
    const auto strided = [](const auto& x) { return Strided<float>{x.data(), kRows * kDv, kRows * kDv, kDv, 1}; };
    const auto parts = [](const auto& x) { return Strided<const float>{x.data(), kRows * kDv, kRows * kDv, kDv, 1}; };
    const auto launch = [&](const emu::Buffer<float>& to, const emu::Buffer<float>& to_LSE) {
        emu::reset();
        emu::launch(merge<float, Pair<float>>, {1}, {kMergeWarps * 32}, 0, Merged<float>{strided(to), to_LSE.data(), kRows, 1, kRows, kDv},
                    Pair<float>{{parts(O), parts(other)}, {LSE.data(), other_LSE.data()}});
        return emu::report.first;
    };
    if (found("merge", false, launch(there, there_LSE)) || found("merge in place", false, launch(O, LSE))) return false;
    const bool same = !std::memcmp(O.data(), there.data(), O.size() * 4) && !std::memcmp(LSE.data(), there_LSE.data(), LSE.size() * 4);
    return !found("merge in place", false, same ? "" : "other bits than elsewhere");
}

} // namespace

int main() {
    cases::Case causal;
    causal.name = "causal with lengths", causal.type = reference::Type::bf16, causal.B = 2, causal.Hq = 2, causal.Hkv = 1, causal.Sq = 200, causal.Sk = 450,
    causal.causal = true;
    causal.offset_kind = reference::Offset::bottom_right, causal.key_lengths = {450, 333}, causal.D = 56, causal.Dv = 40;
    const cases::Case dense = causal.but("dense keep", [](cases::Case& c) { c.causal = false, c.keep = cases::Keep::blocks, c.keep_dims = cases::kFull; });
    const cases::Case half = dense.but("half", [](cases::Case& c) { c.keep = cases::Keep::half, c.D = c.Dv = 64; });
#if PROBED & FLASH_SM80
    const EmulatedRow rule80 = flash_row<S80, bf16, RuleMask, Scaled>("sm80 rule"), packed80 = flash_row<S80, bf16, PackedMask, Scaled>("sm80 packed");
    if (!fine(rule80, causal) || !fine(packed80, causal) || !fine(packed80, dense) || !fine(packed80, half) || !fine(rule80, causal, 128)) return 1;
#endif
#if PROBED & FLASH_SM90
    const EmulatedRow rule90 = hopper_row<S90, bf16, RuleMask>("sm90 rule"), packed90 = hopper_row<S90, bf16, PackedMask>("sm90 packed");
    if (!fine(rule90, causal) || !fine(packed90, causal) || !fine(packed90, dense) || !fine(packed90, half)) return 1;
#endif
#if PROBED & PLAIN
    const cases::Case small = causal.but("small", [](cases::Case& c) {
        c.type = reference::Type::f16, c.Sq = 100, c.Sk = 150, c.D = c.Dv = 40, c.key_lengths = {150, 77};
    });
    const cases::Case small_keep = small.but("small keep", [](cases::Case& c) { c.keep = cases::Keep::blocks, c.keep_dims = cases::kFull; });
    if (!fine(memory_efficient_row<fp16, RuleMask>("memory_efficient rule"), small) ||
        !fine(memory_efficient_row<fp16, PackedMask>("memory_efficient packed"), small_keep) || !fine(naive_row<fp16>("naive"), small_keep) || !fine_in_place())
        return 1;
#endif
    std::puts("nothing found");
    return 0;
}
