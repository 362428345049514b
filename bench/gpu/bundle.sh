# What a machine with a GPU needs and a copy of the tracked files does not bring, in build/gpu-bundle: the .NET suite and the command attn with the runtime they
# run on, GoogleTest, and what the Whisper experiment reads. Sourced by build.sh.
readonly bundle=build/gpu-bundle parts=build/gpu-bundle.parts
readonly limit_bytes=$((60 << 20)) # of all that travels beside the tracked files

# packed NAME FOLDER: build/gpu-bundle/NAME.tar.xz; xz, because Python reads it where tar cannot.
packed() {
    build "$bundle/$1.tar.xz" bash -o pipefail -c '
        tar -C "$2" --sort=name --owner=0 --group=0 --mtime=@0 -cf - . | xz -T"$3" -6 >"$1.unfinished" &&
            mv "$1.unfinished" "$1"' - "$bundle/$1.tar.xz" "$2" "$jobs"
}

bundle_net() {
    local project
    rm -rf "$parts/net"
    for project in tests/Attention.Tests managed/Attention.Tool; do # into one folder: they share the runtime
        build "${project##*/} with its runtime" dotnet publish "$project" -c Release -r linux-x64 --self-contained \
            --artifacts-path "$parts/work" -o "$parts/net" || return 1
    done
    # What nothing there needs: debugging, other systems, and ONNX Runtime, whose verdict needs no GPU.
    (cd "$parts/net" && rm -rf ./*.pdb createdump libmscordaccore.so libmscordbi.so libclrgc*.so libcoreclrtraceptprovider.so \
        onnxruntime.dll libonnxruntime*.so)
    packed net "$parts/net"
}

bundle_gtest() {
    rm -rf "$parts/gtest" && mkdir -p "$parts/gtest/include" "$parts/gtest/lib/x86_64-linux-gnu/cmake"
    cp -r /usr/include/gtest /usr/include/gmock "$parts/gtest/include/" &&
        cp /usr/lib/x86_64-linux-gnu/lib{gtest,gtest_main,gmock,gmock_main}.a "$parts/gtest/lib/x86_64-linux-gnu/" &&
        cp -r /usr/lib/x86_64-linux-gnu/cmake/GTest "$parts/gtest/lib/x86_64-linux-gnu/cmake/" && packed gtest "$parts/gtest"
}

bundle_whisper() {
    local from=../shared/whisper file bytes
    if [[ ! -d $from ]]; then
        printf '  skip whisper: there is no %s\n' "$from"
        rm -f "$bundle/whisper.tar.xz"
        return
    fi
    rm -rf "$parts/whisper" && mkdir -p "$parts/whisper"
    for file in encoder.safetensors:41191952 reference-encoder.safetensors:8696452; do
        bytes=${file#*:} file=${file%:*}
        [[ $(stat -c %s "$from/$file") == "$bytes" ]] || die "$from/$file has $(stat -c %s "$from/$file") bytes; $bytes are right"
        cp "$from/$file" "$parts/whisper/" && chmod u+w "$parts/whisper/$file" || return 1
    done
    packed whisper "$parts/whisper"
}

make_bundle() {
    local bytes tree
    require xz-utils=xz
    mkdir -p "$bundle"
    bundle_net && bundle_gtest && bundle_whisper || exit 1
    git rev-parse --short=10 HEAD >"$bundle/commit"
    bytes=$(du -bc "$bundle"/* | tail -n 1 | cut -f1)
    tree=$(git ls-files -z --cached --others --exclude-standard | xargs -0 du -bc 2>/dev/null | awk '$2 == "total" { sum += $1 } END { print sum + 0 }')
    ls -l "$bundle" | awk 'NR > 1 { printf "  %10d  %s\n", $5, $9 }'
    printf '%d bytes; the tree beside it has %d\n' "$bytes" "$tree"
    if ((bytes <= limit_bytes)); then
        printf 'carry %s beside the tree and run:  bench/gpu/run.sh --budget 580\n' "$bundle"
        return
    fi
    printf 'More than %d bytes travel badly at once. In two calls, the second while the machine still has what the first built:\n' "$limit_bytes"
    printf '  carry %s:  bench/gpu/run.sh --budget 450 --stage build --stage first-light --stage cases --stage whisper --stage timing\n' \
        "$bundle/commit $bundle/gtest.tar.xz $bundle/whisper.tar.xz"
    printf '  carry %s:  bench/gpu/run.sh --budget 230 --stage nunit --stage sanitizer --stage ncu\n' "$bundle/commit $bundle/net.tar.xz"
}
