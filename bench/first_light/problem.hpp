// problem.hpp — one problem of each kernel family, judged by the double-precision reference.
#pragma once
#include "../../tests/reference/judge.hpp"
#include "arithmetic.hpp"
// The parameters of kernels, as their own sources declare them.
#include "flash_sm80.cuh"
#include "launch.hpp"
#include "mask_tiles.cuh"
#include "memory_efficient.cuh"
#include "naive.cuh"

template <class E>
class Attention {
public:
    Attention(Gpu& gpu, const cases::Case& c)
        : gpu_(gpu),
          sample_(c),
          p_(sample_.problem),
          judge_(p_),
          Q_(gpu, sample_.Q.bytes),
          K_(gpu, sample_.K.bytes),
          V_(gpu, sample_.V.bytes),
          O_(gpu, sample_.O.bytes.size()),
          LSE_(gpu, size_t(p_.B * p_.Hq * p_.Sq)),
          lengths_(gpu, p_.key_lengths),
          keep_(gpu, p_.keep.data),
          visited_(gpu, std::vector<uint64_t>(1)) {}

    void run(const kernels::Row& row, int block_m, int block_n) {
        const bool packed = row.expression.find("PackedMask") != std::string::npos, hopper = row.oldest == 90, plain = row.file == "memory_efficient.cuh";
        const kernels::Grid blocks = kernels::flash_grid(problem(), p_.B, block_m);
        const ColumnStrides columns{1, 1, 1, 1};
        const auto go = [&](const auto& mask) {
            const auto grid = [&](const auto&... args) {
                gpu_.launch(row.file, row.expression, blocks.x, blocks.y, blocks.z, unsigned(row.threads), size_t(row.smem), args...);
            };
            struct {
                cuda::TensorMap Q, K, V;
            } maps;
            if (hopper) maps = {map(Q_.data(), sample_.Q, block_m), map(K_.data(), sample_.K, block_n), map(V_.data(), sample_.V, block_n)};
            if (hopper) grid(maps, problem(), mask);
            else if (plain) grid(problem(), columns, mask);
            else grid(problem(), mask);
        };
        if (packed) go(pack(block_m, block_n));
        else go(RuleMask{mask()});
        judge();
    }
    void run_naive(const kernels::Row& row) {
        const Gpu::Array<float> P(gpu_, size_t(p_.B * p_.Hq * p_.Sq * p_.Sk));
        gpu_.launch(row.file, row.expression, unsigned((p_.Sq + kNaiveWarps - 1) / kNaiveWarps), unsigned(p_.Hq), unsigned(p_.B), unsigned(row.threads), 0,
                    problem(), ColumnStrides{1, 1, 1, 1}, mask(), DenseKeep{p_.keep ? keep_.data() : nullptr, p_.Sq * p_.Sk * p_.Hq, p_.Sq * p_.Sk, p_.Sk, 1},
                    P.data());
        judge();
    }

private:
    template <class T>
    static Matrices<T> matrices(unsigned char* data, const cases::Tensor& t) {
        return {reinterpret_cast<T*>(data), t.strides[0], t.strides[1], t.strides[2]};
    }
    cuda::TensorMap map(const void* base, const cases::Tensor& t, int box) const {
        return gpu_.tensor_map(base, is_half<E>, t.shape[3], t.shape[2], t.shape[1], t.shape[0], t.strides[2], t.strides[1], t.strides[0], box);
    }
    Problem<E> problem() const {
        Problem<E> d{};
        d.Q = matrices<const E>(Q_.data(), sample_.Q), d.K = matrices<const E>(K_.data(), sample_.K), d.V = matrices<const E>(V_.data(), sample_.V);
        d.O = matrices<E>(O_.data(), sample_.O), d.LSE = LSE_.data(), d.visited = visited_.data();
        d.heads = int(p_.Hq), d.group = int(p_.Hq / p_.Hkv), d.q_len = int(p_.Sq), d.k_len = int(p_.Sk), d.D = int(p_.D), d.Dv = int(p_.Dv);
        d.chunks = 1, d.chunk_keys = 1 << 30, d.scale = p_.scale, d.heads_together = d.heads;
        return d;
    }
    attn::Mask mask() const {
        attn::Mask m;
        m.Sq = p_.Sq, m.Sk = p_.Sk, m.key_lengths = lengths_.data(), m.causal = p_.causal;
        return m;
    }
    PackedMask pack(int block_m, int block_n) {
        const auto up = [](int64_t n, int64_t to) { return int((n + to - 1) / to * to); };
        const int rows = up(p_.Sq, block_m) / 64, columns = up(p_.Sk, block_n) / 64, cells = rows * columns, masks = int(p_.B * p_.Hq),
                  query_blocks = rows * 64 / block_m;
        words_ = std::make_unique<Gpu::Array<uint32_t>>(gpu_, size_t(masks * cells) * 128);
        classes_ = std::make_unique<Gpu::Array<uint8_t>>(gpu_, size_t(masks * cells));
        tile_rows_ = std::make_unique<Gpu::Array<TileRow>>(gpu_, size_t(masks * query_blocks));
        blocks_ = std::make_unique<Gpu::Array<int>>(gpu_, size_t(masks * query_blocks * columns));
        PackParams pack{};
        pack.mask = mask(), pack.words = words_->data(), pack.classes = classes_->data(), pack.cell_rows = rows, pack.cell_columns = columns;
        if (p_.keep)
            pack.keep = keep_.data(), pack.keep_batch = p_.Sq * p_.Sk * p_.Hq, pack.keep_head = p_.Sq * p_.Sk, pack.keep_row = p_.Sk, pack.keep_column = 1;
        gpu_.launch("mask_tiles.cuh", "pack_mask", unsigned(cells + kPackWarps - 1) / kPackWarps, unsigned(p_.Hq), unsigned(p_.B), kPackWarps * 32, 0, pack);
        const ListParams list{classes_->data(), tile_rows_->data(), blocks_->data(), rows, columns, block_m / 64, block_n / 64, query_blocks, 1, 1 << 20};
        gpu_.launch("mask_tiles.cuh", "tile_lists", unsigned(query_blocks), unsigned(masks), 1, 32, 0, list);
        return {mask(), tile_rows_->data(), blocks_->data(), words_->data(), int(p_.Hq), 1, query_blocks, rows, columns};
    }
    void judge() {
        const auto O = O_.host();
        const auto lse = LSE_.host();
        const auto& s = sample_.O.strides;
        reference::Output out;
        out.O = [&](int64_t b, int64_t h, int64_t i, int64_t d) {
            return reference::load(O.data() + (b * s[0] + h * s[1] + i * s[2] + d * s[3]) * reference::bytes_of(p_.type), p_.type);
        };
        out.lse = [&](int64_t b, int64_t h, int64_t i) { return double(lse[size_t((b * p_.Hq + h) * p_.Sq + i)]); };
        const reference::Verdict verdict = judge_(out);
        expect(bool(verdict), verdict.wrong);
    }

    Gpu& gpu_;
    cases::Sample sample_;
    const reference::Problem& p_;
    const reference::Judge judge_;
    Gpu::Array<unsigned char> Q_, K_, V_, O_;
    Gpu::Array<float> LSE_;
    Gpu::Array<int32_t> lengths_;
    Gpu::Array<uint8_t> keep_;
    Gpu::Array<uint64_t> visited_;
    std::unique_ptr<Gpu::Array<uint32_t>> words_;
    std::unique_ptr<Gpu::Array<uint8_t>> classes_;
    std::unique_ptr<Gpu::Array<TileRow>> tile_rows_;
    std::unique_ptr<Gpu::Array<int>> blocks_;
};

template <class E>
void problem_of(Gpu& gpu, const kernels::Row& row, Type type) {
    cases::Case c;
    c.name = row.name, c.type = type, c.B = 2, c.Hq = 4, c.Hkv = 2, c.Sq = 300, c.Sk = 450, c.key_lengths = {450, 333},
    c.causal = row.name.find("packed") == std::string::npos;
    if (!c.causal) c.keep = cases::Keep::blocks;
    int M = 64, N = 64;
    if (row.file == "flash_sm80.cuh" || row.file == "flash_sm90.cuh") {
        int D = 64;
        const std::string numbers = row.expression.substr(row.expression.find(row.oldest == 90 ? "Shape90<" : "Shape<") + (row.oldest == 90 ? 8 : 6));
        if (std::sscanf(numbers.c_str(), "%d,%d,%d", &D, &M, &N) != 3) throw std::runtime_error("cannot read the shape of " + row.expression);
        c.D = c.Dv = D;
    }
    Attention<E> attention(gpu, c);
    if (row.file == "naive.cuh") attention.run_naive(row);
    else attention.run(row, M, N);
}
