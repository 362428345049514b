# Writes OUTPUT: the kernels' sources (KERNELS: native/kernels) as text in C++, without comments and indentation.
#   cmake -DKERNELS=… -DOUTPUT=… -P embed.cmake
file(GLOB sources RELATIVE ${KERNELS} ${KERNELS}/*.cuh)
list(SORT sources)
list(APPEND sources ../model/mask.hpp)
set(names "")
set(texts "")
foreach(source IN LISTS sources)
    file(READ ${KERNELS}/${source} text)
    string(REGEX REPLACE "[ \t]*//[^\n]*" "" text "${text}")
    string(REGEX REPLACE "\n[ \t\n]+" "\n" text "${text}")
    string(APPEND names "    \"${source}\",\n")
    string(APPEND texts "    R\"kernel(${text})kernel\",\n")
endforeach()
list(LENGTH sources count)
file(WRITE ${OUTPUT}.new "#include \"embedded.hpp\"\n\nnamespace attn::cuda {\n\nconst size_t kEmbeddedCount = ${count};\nconst char* const kEmbeddedNames[] = {\n${names}};\n"
    "const char* const kEmbeddedTexts[] = {\n${texts}};\n\n} // namespace attn::cuda\n")
file(COPY_FILE ${OUTPUT}.new ${OUTPUT})
file(REMOVE ${OUTPUT}.new)
