// rows.hpp — the rows of kernels.def as functions that run on a Device in the emulator, and what each of them may do.
#pragma once
#include <vector>

#include "device.hpp"

struct EmulatedRow {
    std::string name;
    reference::Type type = reference::Type::bf16;
    int D = 0, block_m = 64, block_n = 64; // D 0: any
    bool packed = false, scaled = false, tensor_cores = false;
    uint64_t mma_of_tile = 0; // instructions a visited tile takes; 0: none
    bool counts_tiles = true; // in Problem::visited
    bool whole_boxes = false; // keys are read to the tensor's end, not to the batch's length
    int values_of_pass = 0;   // so many columns of V a pass over the keys; 0: all
    // Runs the row; with chunk_keys > 0 (where `splits`) in chunks of so many keys, and merges them.
    bool splits = false;
    void (*launch)(Device&, int chunk_keys) = nullptr;
};

void add_flash_rows_fp16(std::vector<EmulatedRow>& all);
void add_flash_rows_bf16(std::vector<EmulatedRow>& all);
void add_hopper_rows_fp16(std::vector<EmulatedRow>& all);
void add_hopper_rows_bf16(std::vector<EmulatedRow>& all);
void add_plain_rows(std::vector<EmulatedRow>& all);

inline std::vector<EmulatedRow> emulated_rows() {
    std::vector<EmulatedRow> all;
    add_flash_rows_fp16(all), add_flash_rows_bf16(all), add_hopper_rows_fp16(all), add_hopper_rows_bf16(all), add_plain_rows(all);
    return all;
}

// What the row did beyond what the reference's tiles ask of it: visited, read, multiplied, tested. Empty: nothing.
inline std::string work_amiss(const EmulatedRow& row, const Device& device) {
    const reference::Problem& p = device.p;
    const Device::Tiles tiles = device.tiles(row.block_m, row.block_n);
    const uint64_t passes = row.values_of_pass ? uint64_t(kernels::blocks_of(p.Dv, row.values_of_pass)) : 1;
    const auto amiss = [](const char* what, uint64_t is, uint64_t right) {
        return is == right ? std::string() : std::to_string(is) + " " + what + " instead of " + std::to_string(right);
    };
    const uint64_t keys = passes * (row.whole_boxes ? tiles.box_keys : tiles.keys);
    const uint64_t tested = row.tensor_cores ? tiles.partial * uint64_t(row.block_m * row.block_n) : passes * tiles.scores;
    for (const std::string& wrong : {row.counts_tiles ? amiss("key blocks reported as visited", device.visited(), tiles.seen) : "",
                                     amiss("bytes of K read", device.bytes_of_K_read(), keys * uint64_t(p.D * reference::bytes_of(p.type))),
                                     amiss("products", emu::stats.mma, tiles.seen * row.mma_of_tile), amiss("scores tested", emu::stats.tested, tested)})
        if (!wrong.empty()) return wrong;
    return {};
}
// Runs the row and says what is wrong with it, or nothing.
inline std::string run_and_judge(const EmulatedRow& row, Device& device, const reference::Judge& judge, int chunk_keys) {
    device.clear();
    emu::reset();
    row.launch(device, chunk_keys);
    if (emu::report.violations) return emu::report.first;
    const reference::Verdict verdict = device.verdict(judge);
    if (!verdict) return verdict.wrong;
    if (emu::stats.bank_conflicts) return std::to_string(emu::stats.bank_conflicts) + " bank conflicts, first at " + emu::place(emu::stats.first_conflict);
    return work_amiss(row, device);
}
