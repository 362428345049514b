// first_light — the first program to run on a GPU: each PTX verb, swizzle, matrix descriptor, TMA box and fence against plain arithmetic, then one problem of
// each kernel family against the double-precision reference. What the emulator believes is then known to be true, or is to be mended.
//   first_light [KERNELS_FOLDER [VERBS_FOLDER]]
// Exit 0; 1 something is wrong; 3 no CUDA device, no libcuda or no NVRTC.
#include <chrono>
#include <cstdio>
#include <functional>

#include "../../tests/native/sample.hpp"
#include "../../tests/reference/judge.hpp"
#include "gpu.hpp"
// The parameters of kernels, as their own sources declare them; under g++ those bring the emulator, of which nothing runs here.
#include "flash_sm80.cuh"
#include "mask_tiles.cuh"
#include "memory_efficient.cuh"
#include "naive.cuh"

namespace {

using reference::Type;
template <class E>
constexpr bool is_half = std::is_same_v<E, fp16>;
template <class E>
const char* name_of = std::is_same_v<E, fp16>   ? "fp16"
                      : std::is_same_v<E, bf16> ? "bf16"
                                                : "float";

void expect(bool right, const std::string& what) {
    if (!right) throw std::runtime_error(what);
}
template <class E>
std::vector<E> random_elements(size_t n, uint64_t seed) {
    cases::Random r(seed);
    std::vector<E> all;
    for (size_t i = 0; i < n; ++i) all.push_back(ptx::from_float<E>(float(r.normal())));
    return all;
}
// c against A B^T and d against round(c) B, as loops say.
template <class E>
void expect_products(const std::vector<float>& c, const std::vector<float>& d, int rows, int width, const std::function<double(int, int)>& a,
                     const std::function<double(int, int)>& b) {
    for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < 64; ++j) {
            double s = 0;
            for (int k = 0; k < width; ++k) s += a(i, k) * b(j, k);
            const double met = double(c[size_t(i * 64 + j)]);
            expect(std::fabs(met - s) <= 1e-3,
                   "A B^T[" + std::to_string(i) + "][" + std::to_string(j) + "] is " + std::to_string(met) + ", not " + std::to_string(s));
        }
        for (int j = 0; j < width && !d.empty(); ++j) {
            double s = 0;
            for (int k = 0; k < 64; ++k) s += double(ptx::to_float(ptx::from_float<E>(c[size_t(i * 64 + k)]))) * b(k, j);
            const double met = double(d[size_t(i * width + j)]);
            expect(std::fabs(met - s) <= 2e-2,
                   "A B[" + std::to_string(i) + "][" + std::to_string(j) + "] is " + std::to_string(met) + ", not " + std::to_string(s));
        }
    }
}

template <class E>
void mma_sync(Gpu& gpu, int width) {
    const auto a = random_elements<E>(size_t(16 * width), 1), b = random_elements<E>(size_t(64 * width), 2);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 16 * 64), D(gpu, size_t(16 * width));
    gpu.launch("verbs.cuh", "products<" + std::string(name_of<E>) + "," + std::to_string(width) + ">", 1, 1, 1, 32, size_t(80 * width * 2), A.data(), B.data(),
               C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) { return [&m, width](int i, int k) { return double(ptx::to_float(m[size_t(i * width + k)])); }; };
    expect_products<E>(C.host(), D.host(), 16, width, at(a), at(b));
}
template <class E>
void wgmma(Gpu& gpu, int width) {
    const int columns = width - 8, rows = 61; // the box reaches past the matrix: zeros
    const auto a = random_elements<E>(size_t(rows * columns), 3), b = random_elements<E>(size_t(rows * columns), 4);
    const Gpu::Array<E> A(gpu, a), B(gpu, b);
    const Gpu::Array<float> C(gpu, 64 * 64), D(gpu, size_t(64 * width));
    const auto map = [&](const Gpu::Array<E>& m) {
        return gpu.tensor_map(m.data(), is_half<E>, columns, rows, 1, 1, columns, rows * columns, rows * columns, 64);
    };
    gpu.launch("verbs_sm90.cuh", "warpgroup_products<" + std::string(name_of<E>) + "," + std::to_string(width) + ">", 1, 1, 1, 128,
               size_t(2 * 64 * width * 2 + 8), map(A), map(B), C.data(), D.data());
    const auto at = [&](const std::vector<E>& m) {
        return [&m, rows, columns](int i, int k) { return i < rows && k < columns ? double(ptx::to_float(m[size_t(i * columns + k)])) : 0.0; };
    };
    expect_products<E>(C.host(), D.host(), 64, width, at(a), at(b));
}
void fences(Gpu& gpu) {
    const auto a = random_elements<bf16>(64 * 64, 5);
    std::vector<uint32_t> words(256);
    for (size_t i = 0; i < words.size(); ++i) words[i] = uint32_t(i * 2654435761u);
    const Gpu::Array<bf16> A(gpu, a);
    const Gpu::Array<uint32_t> W(gpu, words), out(gpu, 256);
    const Gpu::Array<float> C(gpu, 64 * 64);
    gpu.launch("verbs_sm90.cuh", "fenced_products<bf16>", 1, 1, 1, 128, 64 * 64 * 2 + 1024, A.data(), W.data(), C.data(), out.data());
    const auto at = [&](int i, int k) { return double(ptx::to_float(a[size_t(i * 64 + k)])); };
    expect_products<bf16>(C.host(), {}, 64, 64, at, at);
    expect(out.host() == words, "the bulk copy brought other words");
}
void warp(Gpu& gpu) {
    const Gpu::Array<uint32_t> ballot(gpu, 32), low(gpu, 32);
    const Gpu::Array<int> xored(gpu, 32);
    const Gpu::Array<float> hidden(gpu, 32);
    gpu.launch("verbs.cuh", "collect", 1, 1, 1, 32, 0, ballot.data(), xored.data(), hidden.data(), low.data());
    for (size_t lane = 0; lane < 32; ++lane) {
        expect(ballot.host()[lane] == 0x49249249u, "ballot");
        expect(xored.host()[lane] == int(lane ^ 5) * 10, "shfl.xor");
        expect(hidden.host()[lane] == (lane % 2 == 0 ? 1.f : -INFINITY), "hide_unless");
        expect(low.host()[lane] == (lane >= 16 ? ~0u : uint32_t((uint64_t(1) << lane * 2) - 1)), "low_bits");
    }
}
void zero_fill(Gpu& gpu) {
    const Gpu::Array<uint32_t> in(gpu, std::vector<uint32_t>(128, 0x7E7E7E7E)), out(gpu, 128);
    gpu.launch("verbs.cuh", "copy_some", 1, 1, 1, 32, 512, in.data(), out.data());
    const auto words = out.host();
    const auto* bytes = reinterpret_cast<const unsigned char*>(words.data());
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 16; ++i) expect(bytes[lane * 16 + i] == (i < lane % 17 ? 0x7E : 0), "cp.async of " + std::to_string(lane % 17) + " bytes");
}
void smem_start(Gpu& gpu) {
    const Gpu::Array<uint32_t> at(gpu, 1);
    gpu.launch("verbs.cuh", "smem_start", 1, 1, 1, 1, 1024, at.data());
    expect(at.host()[0] == 0, "dynamic shared memory starts " + std::to_string(at.host()[0]) + " bytes past a multiple of 1024");
}

// ---- one problem of each kernel family -------------------------------------------------
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
        const unsigned blocks = unsigned((p_.Sq + block_m - 1) / block_m), H = unsigned(p_.Hq), B = unsigned(p_.B);
        const ColumnStrides columns{1, 1, 1, 1};
        const auto go = [&](const auto& mask) {
            const auto grid = [&](const auto&... args) {
                gpu_.launch(row.file, row.expression, blocks, H, B, unsigned(row.threads), size_t(row.smem), args...);
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
        d.chunks = 1, d.chunk_keys = 1 << 30, d.scale = p_.scale;
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

} // namespace

int main(int argc, char** argv) {
    const std::string kernels_folder = argc > 1 ? argv[1] : FIRST_LIGHT_KERNELS, verbs_folder = argc > 2 ? argv[2] : FIRST_LIGHT_VERBS;
    cuda::Driver driver;
    cuda::Nvrtc nvrtc;
    int count = 0;
    if (!driver.open() || driver.init(0) || driver.device_count(&count) || !count) return std::puts("first_light: no CUDA device"), 3;
    if (!nvrtc.open()) return std::puts("first_light: no NVRTC; set ATTENTION_NVRTC"), 3;
    const auto start = std::chrono::steady_clock::now();
    try {
        Gpu gpu(driver, nvrtc, kernels_folder, verbs_folder);
        std::printf("first_light: %s, sm_%d\n", gpu.name.c_str(), gpu.architecture);
        int wrong = 0, tried = 0;
        const auto attempt = [&](const std::string& what, const auto& f) {
            ++tried;
            try {
                f();
                std::printf("ok     %s\n", what.c_str());
            } catch (const std::exception& e) {
                ++wrong;
                std::printf("WRONG  %s: %s\n", what.c_str(), e.what());
            }
            std::fflush(stdout);
        };
        attempt("dynamic shared memory starts on 1024 bytes", [&] { smem_start(gpu); });
        attempt("votes, shuffles, hide_unless, low_bits", [&] { warp(gpu); });
        if (gpu.architecture >= 80) {
            attempt("cp.async zero fill", [&] { zero_fill(gpu); });
            for (const int width : {32, 64, 96, 128, 192, 256}) {
                attempt("ldmatrix, swizzle, mma.sync bf16, width " + std::to_string(width), [&] { mma_sync<bf16>(gpu, width); });
                attempt("ldmatrix, swizzle, mma.sync fp16, width " + std::to_string(width), [&] { mma_sync<fp16>(gpu, width); });
            }
        }
        if (gpu.architecture == 90) {
            for (const int width : {64, 128, 192, 256}) {
                attempt("TMA box, descriptors, wgmma bf16, width " + std::to_string(width), [&] { wgmma<bf16>(gpu, width); });
                attempt("TMA box, descriptors, wgmma fp16, width " + std::to_string(width), [&] { wgmma<fp16>(gpu, width); });
            }
            attempt("proxy fence, mbarrier parity, bulk copy", [&] { fences(gpu); });
        }
        for (const kernels::Row& row : kernels::rows()) {
            const bool runs = row.oldest == 90 ? gpu.architecture == 90 : gpu.architecture >= row.oldest;
            const bool chosen = row.file == "naive.cuh" || row.file == "memory_efficient.cuh" || row.name.find("d64.") != std::string::npos ||
                                row.name.find("d128.bf16") != std::string::npos;
            if (!runs || !chosen || row.name.find("termed") != std::string::npos) continue;
            if (row.expression.find("fp16") != std::string::npos) attempt(row.name, [&] { problem_of<fp16>(gpu, row, Type::f16); });
            else if (row.expression.find("bf16") != std::string::npos) attempt(row.name, [&] { problem_of<bf16>(gpu, row, Type::bf16); });
            else if (row.file != "mask_tiles.cuh" && row.file != "merge.cuh") attempt(row.name, [&] { problem_of<float>(gpu, row, Type::f32); });
        }
        std::printf("first_light: %d of %d right, %.1f s\n", tried - wrong, tried,
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        return wrong ? 1 : 0;
    } catch (const std::exception& e) {
        std::printf("first_light: %s\n", e.what());
        return 1;
    }
}
