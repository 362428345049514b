// banks.hpp — what a warp's ordinary accesses of shared memory take: 32 banks of 4 bytes, each one word at a time. Lanes run one after another, so an
// instruction is put together afterwards: a lane's n-th access at one place in the source since its warp last met is of one instruction with the other
// lanes' n-th there. Where lanes take different ways through a loop, that is a guess.
#pragma once
#include <array>

#include "lanes.hpp"

namespace emu {

struct Instruction {
    uint32_t lanes = 0;
    std::array<uint32_t, 32> at; // shared byte of each lane
};
struct Site {
    Where where{};
    size_t bytes = 0, used = 0;
    std::array<size_t, 32> made{}; // by each lane
    std::vector<Instruction> instructions;
};
struct Sites {
    size_t used = 0;
    std::vector<Site> all;
};
inline Sites sites[kMaxWarps];

inline Site& site_of(Sites& warp, Where where, size_t bytes) {
    for (size_t i = 0; i < warp.used; ++i) {
        Site& s = warp.all[i];
        if (s.where.line() == where.line() && s.where.column() == where.column() && s.bytes == bytes && s.where.file_name() == where.file_name()) return s;
    }
    if (warp.used == warp.all.size()) warp.all.emplace_back();
    Site& s = warp.all[warp.used++];
    s.where = where, s.bytes = bytes, s.used = 0, s.made = {};
    return s;
}
inline void bank_access(size_t at, size_t bytes, Where where) {
    Site& s = site_of(sites[self->warp], where, bytes);
    const size_t lane = size_t(self->lane), n = s.made[lane]++;
    if (n == s.used) {
        if (++s.used > s.instructions.size()) s.instructions.emplace_back();
        s.instructions[n].lanes = 0;
    }
    s.instructions[n].lanes |= 1u << lane, s.instructions[n].at[lane] = uint32_t(at);
}

// The turns that lanes [first, first + count) need beyond the first: a bank gives one word a turn, to whoever asks for it.
inline uint64_t further_turns(const Instruction& i, size_t first, size_t count, size_t bytes) {
    uint32_t words[32][32];
    uint8_t of_bank[32] = {}, most = 1;
    for (size_t lane = first; lane < first + count; ++lane) {
        if (!(i.lanes >> lane & 1)) continue;
        for (uint32_t word = i.at[lane] / 4; word <= (i.at[lane] + bytes - 1) / 4; ++word) {
            uint32_t* bank = words[word % 32];
            uint8_t& n = of_bank[word % 32];
            if (std::find(bank, bank + n, word) == bank + n) bank[n++] = word, most = std::max(most, n);
        }
    }
    return most - 1u;
}
inline void count_conflicts(int warp) {
    Sites& w = sites[warp];
    for (size_t s = 0; s < w.used; ++s) {
        const Site& site = w.all[s];
        const size_t together = site.bytes <= 4 ? 32 : site.bytes == 8 ? 16 : 8;
        for (size_t i = 0; i < site.used; ++i)
            for (size_t first = 0; first < 32; first += together) {
                const uint64_t turns = further_turns(site.instructions[i], first, together, site.bytes);
                if (turns && !stats.bank_conflicts) stats.first_conflict = site.where;
                stats.bank_conflicts += turns;
            }
    }
    w.used = 0;
}

} // namespace emu
