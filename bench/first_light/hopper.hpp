// hopper.hpp — Hopper one belief at a time, each in a kernel of its own (verbs_sm90.cuh), so that what is wrong says which one it is.
#pragma once
#include "arithmetic.hpp"

// Every element of the tensor is another number, so that a wrong one says whence it came. Heads lie within rows and batches before both, as in [S][B][H][D].
inline void tma_box(Gpu& gpu, const Program& kernel) {
    constexpr int kColumns = 72, kSize = 70, kHeads = 3, kBatches = 2, kRow = kColumns * kHeads * kBatches, kHead = kColumns, kBatch = kColumns * kHeads;
    const auto number = [](int column, int row, int head, int batch) { return uint16_t(1 + row * kRow + head * kHead + batch * kBatch + column); };
    std::vector<uint16_t> all(size_t(kSize * kRow));
    for (size_t i = 0; i < all.size(); ++i) all[i] = uint16_t(1 + i);
    const Gpu::Array<uint16_t> tensor(gpu, all);
    const auto map = gpu.tensor_map(tensor.data(), false, kColumns, kSize, kHeads, kBatches, kRow, kHead, kBatch, 64);
    struct At {
        int column, row, head, batch;
    };
    // Whole; past the last row; past the last column; past both; no element of the tensor in the box.
    for (const At at : {At{0, 0, 0, 0}, {0, 3, 1, 0}, {0, 5, 2, 1}, {0, 64, 0, 1}, {64, 0, 1, 1}, {64, 64, 2, 0}, {128, 0, 0, 0}, {0, 128, 1, 1}}) {
        const Gpu::Array<uint32_t> out(gpu, 64 * 32);
        gpu.launch(kernel, 1, 1, 1, 128, 64 * 128 + 8, map, at.column, at.row, at.head, at.batch, out.data());
        const auto words = out.host();
        const auto* met = reinterpret_cast<const uint16_t*>(words.data());
        for (int r = 0; r < 64; ++r)
            for (int c = 0; c < 64; ++c) {
                const bool inside = at.column + c < kColumns && at.row + r < kSize;
                const int right = inside ? number(at.column + c, at.row + r, at.head, at.batch) : 0, is = met[r * 64 + (c / 8 ^ r % 8) * 8 + c % 8],
                          from = is - 1;
                const auto text = [](int column, int row, int head, int batch) {
                    return "column " + std::to_string(column) + ", row " + std::to_string(row) + ", head " + std::to_string(head) + ", batch " +
                           std::to_string(batch);
                };
                if (is == right) continue;
                throw std::runtime_error(
                    "the box at " + text(at.column, at.row, at.head, at.batch) + " has in its row " + std::to_string(r) + " and column " + std::to_string(c) +
                    " " + (is ? "the element of " + text(from % kColumns, from / kRow, from / kHead % kHeads, from / kBatch % kBatches) : std::string("0")) +
                    ", not " + (right ? "its own" : "0"));
            }
    }
}

struct Offsets { // of a descriptor, in bytes
    int leading, stride;
};
inline std::string text(Offsets o) { return "leading " + std::to_string(o.leading) + " and stride " + std::to_string(o.stride); }
// `products(offsets)` says what is wrong with them, or nothing. The kernel's own come first; the others tell what the fields mean if those are wrong.
inline void described(const std::function<std::string(Offsets)>& products, const std::vector<Offsets>& candidates) {
    const std::string wrong = products(candidates[0]);
    if (wrong.empty()) return;
    std::string tried = "\n       nor is it right with";
    for (size_t i = 1; i < candidates.size(); ++i) {
        tried += (i > 1 ? " or " : " ") + text(candidates[i]);
        bool right;
        try {
            right = products(candidates[i]).empty();
        } catch (const attempts::Lost& e) {
            throw attempts::Lost("with " + text(candidates[0]) + " " + wrong + tried + ", where the search ended: " + e.what());
        }
        if (right) throw std::runtime_error("with " + text(candidates[0]) + " " + wrong + "\n       it is right with " + text(candidates[i]));
    }
    throw std::runtime_error("with " + text(candidates[0]) + " " + wrong + tried);
}
constexpr size_t kMuchSmem = 200 << 10; // so that a descriptor that is not understood does not reach past the end

inline void k_major(Gpu& gpu, const Program& kernel, int rows, int row0, int N) {
    const auto a = random_elements<bf16>(size_t(rows * 64), 6), b = random_elements<bf16>(size_t(N * 64), 7);
    const Gpu::Array<bf16> A(gpu, a), B(gpu, b);
    const auto at = matrix(a, 64), bt = matrix(b, 64);
    described(
        [&](Offsets o) {
            const Gpu::Array<float> C(gpu, size_t(64 * N));
            gpu.launch(kernel, 1, 1, 1, 128, kMuchSmem, A.data(), B.data(), o.leading, o.stride, C.data());
            return against(
                C.host(), N, 64, [&](int i, int k) { return at(row0 + i, k); }, [&](int k, int j) { return bt(j, k); });
        },
        {{16, 1024}, {1024, 16}, {1024, 1024}, {rows * 128, 1024}});
}
inline void mn_major(Gpu& gpu, const Program& kernel, int K, int N) {
    const auto a = random_elements<bf16>(size_t(64 * K), 8), b = random_elements<bf16>(size_t(K * N), 9);
    const Gpu::Array<bf16> A(gpu, a), B(gpu, b);
    described(
        [&](Offsets o) {
            const Gpu::Array<float> C(gpu, size_t(64 * N));
            gpu.launch(kernel, 1, 1, 1, 128, kMuchSmem, A.data(), B.data(), o.leading, o.stride, C.data());
            return against(C.host(), N, K, matrix(a, K), matrix(b, N));
        },
        {{K * 128, 1024}, {1024, K * 128}, {16, 1024}, {1024, 1024}});
}
inline void overlapped(Gpu& gpu, const Program& kernel) {
    const auto a = random_elements<bf16>(64 * 64, 10);
    const Gpu::Array<bf16> A(gpu, a);
    const Gpu::Array<float> C(gpu, 3 * 64 * 64), D(gpu, 3 * 64 * 64);
    gpu.launch(kernel, 1, 1, 1, 128, 64 * 128, A.data(), C.data(), D.data());
    const auto c = C.host(), d = D.host();
    const auto at = matrix(a, 64);
    for (int round = 0; round < 3; ++round) {
        const auto of = [&](const std::vector<float>& all) { return std::vector<float>(all.begin() + round * 4096, all.begin() + (round + 1) * 4096); };
        const std::string when = " of round " + std::to_string(round) + " ";
        const std::string first = against(of(c), 64, 64, at, [&](int k, int j) { return at(j, k); });
        expect(first.empty(), "the first group" + when + first);
        const std::string second = against(of(d), 64, 64, at, [&](int k, int j) { return (round + 1) * at(k, j); });
        expect(second.empty(), "the second group" + when + second);
    }
}
inline void cleared(Gpu& gpu, const Program& kernel) {
    constexpr int kReal = 41; // the rest of V is NaN
    auto v = random_elements<bf16>(64 * 64, 11), p = random_elements<bf16>(64 * 64, 12);
    for (size_t i = kReal * 64; i < v.size(); ++i) v[i].bits = 0x7FC1;
    const Gpu::Array<bf16> V(gpu, v), P(gpu, p);
    const Gpu::Array<float> D(gpu, 64 * 64);
    const Gpu::Array<uint32_t> out(gpu, 64 * 32);
    gpu.launch(kernel, 1, 1, 1, 128, 64 * 128 + 8, gpu.tensor_map(V.data(), false, 64, 64, 1, 1, 64, 4096, 4096, 64), P.data(), kReal, D.data(), out.data());
    const auto vt = matrix(v, 64);
    const std::string wrong = against(D.host(), 64, 64, matrix(p, 64), [&](int k, int j) { return k < kReal ? vt(k, j) : 0.0; });
    expect(wrong.empty(), "P V over cleared rows " + wrong);
    const auto words = out.host();
    const auto* again = reinterpret_cast<const uint16_t*>(words.data());
    for (int r = 0; r < 64; ++r)
        for (int c = 0; c < 64; ++c)
            expect(again[r * 64 + (c / 8 ^ r % 8) * 8 + c % 8] == v[size_t(r * 64 + c)].bits, "TMA's second copy is not there in row " + std::to_string(r));
}
inline void pipeline(Gpu& gpu, const Program& kernel) {
    constexpr int kRounds = 9;
    std::vector<uint32_t> words(kRounds * 256);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(i * 2654435761u);
    const Gpu::Array<uint32_t> W(gpu, words), out(gpu, words.size());
    gpu.launch(kernel, 1, 1, 1, 384, 2 * 1024 + 32, W.data(), kRounds, out.data());
    const auto met = out.host();
    for (size_t i = 0; i < words.size(); ++i)
        expect(met[i] == words[i], "round " + std::to_string(i / 256) + ", thread " + std::to_string(i % 256) + " read another round's word");
}
