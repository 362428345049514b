// verb_launchers.cpp — first_light's verbs behind the fake driver, by their name expressions: so that what it hands to a GPU is tried without one.
#include "verbs_sm90.cuh"

#include "launchers.hpp"

namespace {
template <class E, int... kWidths>
void add_products(Launchers& all, const std::string& e) {
    ((all["products<" + e + "," + std::to_string(kWidths) + ">"] = launcher(products<E, kWidths>)), ...);
}
template <class E, int... kWidths>
void add_warpgroup_products(Launchers& all, const std::string& e) {
    ((all["warpgroup_products<" + e + "," + std::to_string(kWidths) + ">"] = launcher(warpgroup_products<E, kWidths>)), ...);
}
template <int kM, int kRow0, int kN>
void add_k_major(Launchers& all) {
    all["k_major_products<bf16," + std::to_string(kM) + "," + std::to_string(kRow0) + "," + std::to_string(kN) + ">"] =
        launcher(k_major_products<bf16, kM, kRow0, kN>);
}
template <int kK, int kN>
void add_mn_major(Launchers& all) {
    all["mn_major_products<bf16," + std::to_string(kK) + "," + std::to_string(kN) + ">"] = launcher(mn_major_products<bf16, kK, kN>);
}
} // namespace

void add_verbs(Launchers& all) {
    add_products<fp16, 32, 64, 96, 128, 192, 256>(all, "fp16"), add_products<bf16, 32, 64, 96, 128, 192, 256>(all, "bf16");
    add_warpgroup_products<fp16, 64, 128, 192, 256>(all, "fp16"), add_warpgroup_products<bf16, 64, 128, 192, 256>(all, "bf16");
    add_k_major<64, 0, 64>(all), add_k_major<128, 64, 64>(all), add_k_major<192, 128, 128>(all);
    add_mn_major<64, 64>(all), add_mn_major<128, 64>(all), add_mn_major<128, 128>(all), add_mn_major<64, 192>(all), add_mn_major<64, 256>(all);
    all["box<64>"] = launcher(box<64>), all["ring"] = launcher(ring);
    all["overlapped_products<bf16>"] = launcher(overlapped_products<bf16>), all["cleared_products<bf16>"] = launcher(cleared_products<bf16>);
    all["numbers"] = launcher(numbers), all["count"] = launcher(count), all["begin_unless"] = launcher(begin_unless);
    all["fenced_products<bf16>"] = launcher(fenced_products<bf16>);
    all["collect"] = launcher(collect), all["copy_some"] = launcher(copy_some), all["smem_start"] = launcher(smem_start);
}
